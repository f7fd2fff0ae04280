"""The demo's newest version in a real CKAN: the entry shows, twice published is once written, and CKAN's own
Croissant export of it is valid."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import ckanapi
import httpx
import mlcroissant
import pytest

from lakehouse.cli import main
from tests.conftest import DemoLake

pytestmark = [
    pytest.mark.ckan,
    pytest.mark.skipif(
        "LAKEHOUSE_CKAN_URL" not in os.environ, reason="needs a real CKAN: set LAKEHOUSE_CKAN_URL and _TOKEN"
    ),
]


@pytest.fixture(scope="module")
def entry(demo: DemoLake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the demo's entry, published by the command line; purged afterwards."""
    ckan = ckanapi.RemoteCKAN(os.environ["LAKEHOUSE_CKAN_URL"], apikey=os.environ["LAKEHOUSE_CKAN_TOKEN"])
    with contextlib.suppress(ckanapi.NotFound):  # of an earlier trial by hand
        ckan.action.dataset_purge(id="demo")
    path = tmp_path_factory.mktemp("published") / "lake"
    shutil.copytree(demo.path, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_ROOT", str(path))
        patch.delenv("DAGSTER_HOME", raising=False)
        for _ in range(2):
            with pytest.raises(SystemExit) as ended:
                main(["publish", "demo@latest", "--json"])
            assert ended.value.code == 0
    yield f"{os.environ['LAKEHOUSE_CKAN_URL']}/dataset/demo"
    ckan.action.dataset_purge(id="demo")


def test_ckan_shows_the_entry(entry: str, demo: DemoLake) -> None:
    page = httpx.get(entry).raise_for_status().text
    assert demo.campaign.title in page
    assert demo.second.version.snapshot_id in page


def test_publishing_twice_writes_once(entry: str) -> None:
    base = entry.rpartition("/dataset/")[0]
    package = httpx.get(f"{base}/api/3/action/package_show", params={"id": "demo"}).json()["result"]
    activity = httpx.get(
        f"{base}/api/3/action/package_activity_list",
        params={"id": "demo"},
        headers={"Authorization": os.environ["LAKEHOUSE_CKAN_TOKEN"]},
    ).json()["result"]
    # Newest first: it was made private, and shown when the snapshot was found whole.
    assert [event["activity_type"] for event in activity] == ["changed package", "new package"]
    assert package["version"] == "2.0.0"


def test_ckans_own_croissant_export_is_valid(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "croissant.json"
    path.write_bytes(httpx.get(f"{entry}/croissant.jsonld").raise_for_status().content)
    dataset = mlcroissant.Dataset(str(path))
    assert dataset.metadata.issues.errors == set()
