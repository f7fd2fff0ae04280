"""What is told of the installation: sql, settings, doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lakehouse as library
from lakehouse.cli.system import _variable
from lakehouse.settings import Settings
from tests.cli.conftest import Lakehouse
from tests.conftest import DemoLake

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "aws-secret-of-the-test",
    "AWS_SESSION_TOKEN": "aws-token-of-the-test",
    "LAKEHOUSE_CKAN_TOKEN": "ckan-token-of-the-test",
    "HF_TOKEN": "hub-token-of-the-test",
}


def test_sql_answers_from_the_newest_manifest(on_demo: Lakehouse, demo: DemoLake) -> None:
    said = on_demo("sql", "SELECT license, count(*) AS photos FROM demo_manifest GROUP BY 1", "--json")
    counts = library.open(str(demo.path)).snapshot("demo@latest").root.counts
    assert {row["license"]: row["photos"] for row in said.json} == counts.licenses


def test_sql_in_text_is_a_table(on_demo: Lakehouse, demo: DemoLake) -> None:
    said = on_demo("sql", "SELECT count(*) AS photos FROM demo_manifest")
    photos = library.open(str(demo.path)).snapshot("demo@latest").root.counts.photos
    assert said.code == 0
    assert "photos" in said.out and f" {photos} " in said.out


def test_sql_without_a_query_lists_views_that_can_be_queried(on_demo: Lakehouse) -> None:
    views = on_demo("sql", "--json").json
    assert set(views) == {"demo_manifest", "embedded_photos", "embedded_taxa"}
    for view in views:
        assert on_demo("sql", f"SELECT count(*) > 0 AS full FROM {view}", "--json").json == [{"full": True}]
    assert "every photo of demo@v2" in on_demo("sql").out


@pytest.mark.parametrize(
    ("query", "sentence"),
    [("SELEC 1", "syntax error"), ("SELECT * FROM nowhere", "nowhere"), ("SELECT 1/'a'", "query failed")],
)
def test_a_query_that_is_wrong_is_told_why(on_demo: Lakehouse, query: str, sentence: str) -> None:
    said = on_demo("sql", query)
    assert said.code == 2
    assert sentence in said.error


def test_settings_shows_every_variable_that_is_read(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAKEHOUSE_CONNECTIONS", "7")
    shown = lakehouse("settings", "--json").json
    assert set(shown) == {_variable(name) for name in Settings.model_fields} | {"DAGSTER_HOME"}
    assert shown["LAKEHOUSE_CONNECTIONS"] == "7"
    assert shown["LAKEHOUSE_ROOT"] == str(tmp_path / "lake")
    assert shown["DAGSTER_HOME"] == str(tmp_path / "lake" / "dagster")
    assert shown["LAKEHOUSE_CKAN_TOKEN"] is None


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_secrets_are_masked_wherever_settings_are_shown(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    said = lakehouse("settings", *form)
    assert said.code == 0
    assert not any(value in said.out + said.err for value in SECRETS.values())
    assert said.out.count("********") == len(SECRETS)


def test_secrets_are_in_no_file_that_a_build_writes(
    on_copy: Lakehouse, harmed_demo: DemoLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (harmed_demo.path / "refs" / "demo" / "v2").unlink()
    said = on_copy("build", "demo", "--json")
    assert said.code == 0
    assert not any(value in said.out + said.err for value in SECRETS.values())
    files = [path for path in harmed_demo.path.rglob("*") if path.is_file()]
    held = [path for path in files if any(value.encode() in path.read_bytes() for value in SECRETS.values())]
    assert held == []


@pytest.fixture
def only_demo(tmp_path: Path, demo: DemoLake, monkeypatch: pytest.MonkeyPatch, lakehouse: Lakehouse) -> Path:
    """LAKEHOUSE_CAMPAIGNS is a folder with the demo alone: the other example needs the network."""
    folder = tmp_path / "campaigns"
    folder.mkdir()
    assert demo.campaign.path is not None
    (folder / "demo.yaml").write_text(demo.campaign.path.read_text())
    monkeypatch.setenv("LAKEHOUSE_CAMPAIGNS", str(folder))
    return folder


def test_doctor_finds_the_demo_sound(on_copy: Lakehouse, only_demo: Path, demo: DemoLake) -> None:
    said = on_copy("doctor", "--json")
    assert said.code == 0
    assert said.json["sound"] is True
    checks = {check["check"]: check["says"] for check in said.json["checks"]}
    assert set(checks) == {"lake", "campaigns", "source embedded", "snapshot demo"}
    photos = library.open(str(demo.path)).snapshot("demo@latest").root.counts.photos
    assert f"demo@v2: {photos} photos" in checks["snapshot demo"]


def test_doctor_leaves_nothing_behind(on_copy: Lakehouse, only_demo: Path, harmed_demo: DemoLake) -> None:
    before = sorted(path.name for path in harmed_demo.path.iterdir())
    assert on_copy("doctor").code == 0
    assert sorted(path.name for path in harmed_demo.path.iterdir()) == before


def test_doctor_says_what_failed_and_goes_on(
    on_copy: Lakehouse, only_demo: Path, harmed_demo: DemoLake
) -> None:
    (harmed_demo.path / "embedded-source" / "photos.csv.gz").unlink()
    (harmed_demo.path / "snapshots" / f"{harmed_demo.second.version.snapshot_id}.json").unlink()
    said = on_copy("doctor", "--json")
    assert said.code == 1
    assert said.json["sound"] is False
    failed = {check["check"]: check["says"] for check in said.json["checks"] if not check["ok"]}
    assert set(failed) == {"source embedded", "snapshot demo"}
    assert "photos.csv.gz is not there" in failed["source embedded"]
    assert "FAILED" in on_copy("doctor").out


def test_doctor_names_a_campaign_file_that_is_wrong(on_copy: Lakehouse, only_demo: Path) -> None:
    (only_demo / "half.yaml").write_text("name: half\n")
    said = on_copy("doctor", "--json")
    assert said.code == 1
    (campaigns,) = [check for check in said.json["checks"] if check["check"] == "campaigns"]
    assert campaigns["ok"] is False and "half.yaml" in campaigns["says"]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("LAKEHOUSE_CONNECTIONS", "0", "LAKEHOUSE_CONNECTIONS: "),
        ("LAKEHOUSE_CONNECTIONS", "many", "LAKEHOUSE_CONNECTIONS: "),
        ("LAKEHOUSE_RATE", "-1", "LAKEHOUSE_RATE: "),
        ("LAKEHOUSE_ROOT", "ftp://x", "LAKEHOUSE_ROOT is 'ftp://x': give a local path or s3://"),
    ],
)
@pytest.mark.parametrize(
    "command", [["plan", "demo"], ["show", "demo@v1"], ["sql"], ["settings"]], ids=lambda command: command[0]
)
def test_a_setting_that_is_wrong_is_named_by_its_variable(
    lakehouse: Lakehouse,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    variable: str,
    value: str,
    sentence: str,
) -> None:
    monkeypatch.setenv(variable, value)
    said = lakehouse(*command)
    assert said.code == 2
    assert said.error.startswith(sentence)


def test_an_error_is_one_json_document_where_a_script_listens(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_CONNECTIONS", "0")
    said = lakehouse("plan", "demo", "--json")
    assert said.code == 2 and said.err == ""
    assert set(said.json) == {"error", "exit_code"}
    assert said.json["exit_code"] == 2
    assert said.json["error"].startswith("LAKEHOUSE_CONNECTIONS: ")
    assert json.dumps(said.json, ensure_ascii=False) in said.out
