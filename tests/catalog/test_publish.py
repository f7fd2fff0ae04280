"""A snapshot described in its lake: made once, from the snapshot alone, and readable by others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.campaign import CkanTarget
from lakehouse.catalog import publish
from lakehouse.catalog.files import DatasetFile
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.schema import MANIFEST

FOLDER = "catalog/demo/v2"


@pytest.fixture
def snapshot(demo: Any) -> Snapshot:
    """demo@v2, described when it was built."""
    return Snapshot(demo.lake, demo.second.version)


@pytest.fixture
def harmed(harmed_demo: Any) -> Snapshot:
    return Snapshot(harmed_demo.lake, harmed_demo.second.version)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What CKAN would be told."""
    told: list[Any] = []
    monkeypatch.setattr(publish.ckan, "publish", lambda *arguments: told.extend(arguments))
    return told


def described(lake: Lake) -> dict[str, bytes]:
    return {key: lake.get(key) for key in lake.list(FOLDER)}


def test_a_description_has_tables_figures_card_and_croissant(snapshot: Snapshot) -> None:
    names = {key.removeprefix(f"{FOLDER}/") for key in snapshot.lake.list(FOLDER)}
    assert names >= {
        "ATTRIBUTION.txt.gz",
        "README.md",
        "attribution.parquet",
        "croissant.json",
        "figures/contact_sheet.jpg",
        "figures/photographers.png",
        "figures/strip.jpg",
        "files.json",
        "manifest.parquet",
        "statistics.json",
    }


def test_the_croissant_in_the_lake_has_no_problem(snapshot: Snapshot) -> None:
    assert publish.croissant_problems(snapshot) == []


def test_a_shard_that_is_gone_is_a_problem_of_the_croissant(harmed: Snapshot) -> None:
    tar = harmed.root.shards[0].tar
    harmed.lake.delete(tar.key)
    assert any(f"{tar.sha256}.tar: there is no file" in one for one in publish.croissant_problems(harmed))


def test_what_is_described_is_not_described_again(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*arguments: object) -> None:
        raise AssertionError("it is there already")

    for name in ("write_manifest", "describe", "render_card", "pictures"):
        monkeypatch.setattr(publish, name, again)
    assert publish.describe_snapshot(snapshot) == f"{FOLDER}/croissant.json"
    assert publish.write_card(snapshot) == f"{FOLDER}/README.md"


def test_a_description_made_again_is_the_same(harmed: Snapshot) -> None:
    before = described(harmed.lake)
    for key in before:
        harmed.lake.delete(key)
    publish.describe_snapshot(harmed)
    publish.write_card(harmed)
    assert described(harmed.lake) == before


def test_a_description_that_was_interrupted_is_completed(harmed: Snapshot) -> None:
    before = described(harmed.lake)
    for name in ("files.json", "croissant.json", "README.md"):
        harmed.lake.delete(f"{FOLDER}/{name}")
    publish.describe_snapshot(harmed)
    publish.write_card(harmed)
    assert described(harmed.lake) == before


def test_the_manifest_in_the_catalogue_is_that_of_the_snapshot(snapshot: Snapshot) -> None:
    table = pl.read_parquet(snapshot.lake.uri(f"{FOLDER}/manifest.parquet"))
    assert table.schema == MANIFEST
    assert table.equals(snapshot.manifest.collect())


def test_the_listed_files_are_in_the_lake_with_their_digests(snapshot: Snapshot) -> None:
    folder = Path(snapshot.lake.uri(FOLDER))
    files = publish.tables(snapshot).files
    assert len(files) == len(snapshot.root.shards) + 4
    for file in files:
        assert hashlib.sha256((folder / file.url).read_bytes()).hexdigest() == file.sha256


def test_the_card_shows_its_figures(snapshot: Snapshot) -> None:
    card = snapshot.lake.get(f"{FOLDER}/README.md").decode()
    figures = [key.removeprefix(f"{FOLDER}/") for key in snapshot.lake.list(f"{FOLDER}/figures")]
    assert figures
    assert [figure for figure in figures if f"({figure})" not in card] == []


def test_paths_of_this_disk_are_announced_to_nobody(snapshot: Snapshot, announced: list[Any]) -> None:
    publish.publish_to_ckan(snapshot, CkanTarget(organization="demo"), Settings())
    files: tuple[DatasetFile, ...] = announced[3]
    assert {file.name for file in files} >= {"croissant.json", "README.md", "manifest.parquet"}
    assert all(file.url == f"urn:sha256:{file.sha256}" for file in files)


def test_a_lake_that_is_served_is_announced_by_its_public_address(demo: Any, announced: list[Any]) -> None:
    lake = Lake(str(demo.path), Settings(public_url="https://data.example.org/lake"))
    snapshot = Snapshot(lake, demo.second.version)
    publish.publish_to_ckan(snapshot, CkanTarget(organization="demo"), Settings())
    urls = {file.name: file.url for file in announced[3]}
    tar = snapshot.root.shards[0].tar
    assert urls["croissant.json"] == f"https://data.example.org/lake/{FOLDER}/croissant.json"
    assert urls[f"{tar.sha256}.tar"] == f"https://data.example.org/lake/{tar.key}"


def test_an_entry_that_is_not_there_is_a_difference(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish.ckan, "fetch_entry", lambda *arguments: None)
    (problem,) = publish.ckan_differences(snapshot, CkanTarget(organization="demo"), Settings())
    assert problem == "CKAN has no entry 'demo'; materialize ckan_entry"
