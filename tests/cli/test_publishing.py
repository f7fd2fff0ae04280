"""What leaves the lake by command: the Hub, Darwin Core archives, landing pages."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lakehouse.catalog import hub_client
from lakehouse.cli import campaigns
from tests.catalog.hub import TOKEN, FakeHub, serve
from tests.cli.conftest import Lakehouse
from tests.conftest import ROOT, DemoLake


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A stand-in for the Hub that the settings lead to."""
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    monkeypatch.setattr(hub_client, "PAUSES", ())
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """The demo's campaign, published on the Hub alone."""
    values = yaml.safe_load((ROOT / "campaigns" / "demo.yaml").read_text(encoding="utf-8"))
    values["publish"] = {"huggingface": {"repo": "bees/demo"}}
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_publish_goes_to_the_hub_as_an_asset_and_forgets_if_asked(
    on_copy: Lakehouse, hub: FakeHub, campaign: Path, harmed_demo: DemoLake
) -> None:
    said = on_copy("publish", "demo@latest", "--campaign", campaign, "--json")
    assert said.code == 0
    assert said.json == {"version": "demo@v2", "huggingface": f"{hub.url}/datasets/bees/demo"}
    record = json.loads(hub.repos["bees/demo"].read("lakehouse.json"))
    assert record["snapshot_id"] == harmed_demo.second.version.snapshot_id
    hub.repos["bees/demo"].tags["v1"] = next(iter(hub.repos["bees/demo"].commits))
    said = on_copy("publish", "demo@latest", "--campaign", campaign, "--forget-earlier")
    assert said.code == 0
    assert f"published demo@v2 at {hub.url}/datasets/bees/demo" in said.out
    assert "deleted from bees/demo for good: 1 tags, 0 files" in said.out
    assert "Ask the Hub's support" in said.out
    assert hub.repos["bees/demo"].tags == {"v2": hub.repos["bees/demo"].head}
    assert TOKEN not in said.out + said.err


def test_a_hub_that_refuses_is_one_sentence(on_copy: Lakehouse, hub: FakeHub, campaign: Path) -> None:
    hub.fail = lambda method, path: (403, "You have read access only") if "/preupload/" in path else None
    said = on_copy("publish", "demo@latest", "--campaign", campaign)
    assert said.code == 1
    assert "answered 403 (You have read access only): HF_TOKEN may not write to 'bees/demo'" in said.error
    assert TOKEN not in said.err


def test_publishing_there_needs_a_token(on_demo: Lakehouse, campaign: Path) -> None:
    said = on_demo("publish", "demo@latest", "--campaign", campaign)
    assert (said.code, said.error) == (2, "set HF_TOKEN to publish to Hugging Face")


def test_forgetting_needs_something_that_can_forget(
    on_demo: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_CKAN_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LAKEHOUSE_CKAN_TOKEN", "token")
    monkeypatch.setattr(campaigns.runs, "publish", lambda *arguments: pytest.fail("nothing may be published"))
    said = on_demo("publish", "demo@latest", "--forget-earlier")
    assert said.code == 2
    assert "--forget-earlier needs publish: {huggingface: {repo: ...}}" in said.error


def test_export_writes_a_darwin_core_archive(on_demo: Lakehouse, tmp_path: Path) -> None:
    said = on_demo("export", "demo@v2", tmp_path / "out.zip", "--format", "dwca", "--json")
    assert [file["name"] for file in said.json["files"]] == ["out.zip"]
    names = ["eml.xml", "meta.xml", "multimedia.txt", "occurrence.txt"]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sorted(archive.namelist()) == names
    said = on_demo("export", "demo@v2", tmp_path / "out", "--format", "dwca")
    assert said.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    again = on_demo("export", "demo@v2", tmp_path / "out.zip", "--format", "dwca")
    assert again.code == 2
    assert "out.zip is there already; give a new file or folder" in again.error


def test_site_writes_pages_and_then_nothing(on_demo: Lakehouse, tmp_path: Path) -> None:
    said = on_demo("site", tmp_path / "pages", "--campaign", "demo")
    assert said.code == 0
    assert f"4 pages in {tmp_path / 'pages'}: " in said.out
    assert (tmp_path / "pages" / "demo" / "v2" / "index.html").is_file()
    again = on_demo("site", tmp_path / "pages", "--campaign", "demo", "--json").json
    assert (again["pages"], again["written"], again["deleted"]) == (4, 0, 0)
    refused = on_demo("site", tmp_path / "pages", "--url", "javascript:alert(1)")
    assert refused.code == 2
    assert "is not a web address" in refused.error
