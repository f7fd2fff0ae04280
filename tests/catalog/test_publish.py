"""A snapshot described in its lake: made once, from the snapshot alone, and readable by others."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lakehouse.campaign import CkanTarget
from lakehouse.catalog import publish
from lakehouse.catalog.files import DatasetFile
from lakehouse.catalog.sheet import shown
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.identity import canonical_json, sha256_hex
from lakehouse.snapshots.model import Version
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


# --- after a removal


def taken_out(lake: Lake, version: Version, photo_id: int) -> Version:
    """A version as a removal leaves it: the same number names another snapshot, without the photograph."""
    root = refs.read_root(lake, version.snapshot_id)
    part = next(
        part
        for part in root.partitions
        if photo_id in lake.read_table(part.labels.key, ["photo_id"])["photo_id"].to_pylist()
    )
    table = lake.read_table(part.labels.key)
    left = table.filter(pc.not_equal(table["photo_id"], photo_id))
    with lake.staging("snapshots/parts/left.parquet") as path:
        pq.write_table(left, path)
    (row,) = (
        row for row in Snapshot(lake, version).manifest.collect().to_dicts() if row["photo_id"] == photo_id
    )
    counts = root.counts
    fewer = counts.model_copy(
        update={
            "photos": counts.photos - 1,
            "licenses": counts.licenses | {row["license"]: counts.licenses[row["license"]] - 1},
        }
    )
    labels = part.labels.model_copy(update={"key": "snapshots/parts/left.parquet", "rows": len(left)})
    parts = tuple(
        one.model_copy(update={"labels": labels}) if one is part else one for one in root.partitions
    )
    data = canonical_json(root.model_copy(update={"counts": fewer, "partitions": parts}))
    lake.put(refs.root_key(sha256_hex(data)), data)
    successor = version.model_copy(update={"snapshot_id": sha256_hex(data)})
    refs.replace_version(lake, successor)
    return successor


def test_nothing_that_describes_a_removed_photograph_stays(harmed: Snapshot) -> None:
    lake = harmed.lake
    gone = shown(harmed.manifest, publish.tables(harmed).statistics)[0]
    before = described(lake)
    assert str(gone.photo_id).encode() in before[f"{FOLDER}/README.md"]
    successor = taken_out(lake, harmed.version, gone.photo_id)
    assert publish.renew(lake, "demo", None, Settings()) is None
    after = described(lake)
    assert set(after) == set(before)
    photos = pl.read_parquet(lake.uri(f"{FOLDER}/manifest.parquet"))["photo_id"].to_list()
    assert gone.photo_id not in photos
    assert len(photos) == harmed.root.counts.photos - 1
    credits = gzip.decompress(after[f"{FOLDER}/ATTRIBUTION.txt.gz"])
    for text in (credits, after[f"{FOLDER}/README.md"], after[f"{FOLDER}/croissant.json"]):
        assert str(gone.photo_id).encode() not in text
    for name in ("figures/strip.jpg", "figures/contact_sheet.jpg", "attribution.parquet"):
        assert after[f"{FOLDER}/{name}"] != before[f"{FOLDER}/{name}"]
    assert publish.croissant_problems(Snapshot(lake, successor)) == []


def test_a_version_that_nothing_happened_to_keeps_its_description(harmed: Snapshot) -> None:
    first = {key: harmed.lake.get(key) for key in harmed.lake.list("catalog/demo/v1")}
    before = described(harmed.lake)
    publish.renew(harmed.lake, "demo", None, Settings())
    assert described(harmed.lake) == before
    assert {key: harmed.lake.get(key) for key in harmed.lake.list("catalog/demo/v1")} == first


def test_the_description_of_a_version_that_is_gone_is_erased(harmed: Snapshot) -> None:
    harmed.lake.delete("refs/demo/v1")
    publish.renew(harmed.lake, "demo", None, Settings())
    assert list(harmed.lake.list("catalog/demo/v1")) == []
    assert described(harmed.lake)


def test_an_entry_of_which_no_version_is_left_is_withdrawn(
    harmed: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        harmed.lake.delete(f"refs/demo/v{number}")
    withdrawn: list[str] = []
    monkeypatch.setattr(publish.ckan, "withdraw", lambda name, settings: withdrawn.append(name))
    assert publish.renew(harmed.lake, "demo", CkanTarget(organization="demo"), Settings()) is None
    assert withdrawn == ["demo"]
    assert list(harmed.lake.list("catalog/demo")) == []


def test_a_damaged_snapshot_is_not_announced(harmed: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    def verified(*arguments: Any) -> None:
        problems.extend(arguments[-1]())

    problems: list[str] = []
    monkeypatch.setattr(publish.ckan, "publish", verified)
    tar = harmed.root.shards[0].tar
    with harmed.lake.staging(tar.key) as path:
        path.write_bytes(bytes(tar.size))
    publish.publish_to_ckan(harmed, CkanTarget(organization="demo"), Settings())
    assert [problem.rpartition(" is damaged")[0] for problem in problems] == [harmed.lake.uri(tar.key)]


def test_earlier_versions_are_linked(snapshot: Snapshot, announced: list[Any]) -> None:
    publish.publish_to_ckan(snapshot, CkanTarget(organization="demo"), Settings())
    earlier = [file for file in announced[3] if file.role == "earlier"]
    data = snapshot.lake.get("catalog/demo/v1/croissant.json")
    assert [(file.name, file.sha256) for file in earlier] == [
        ("v1/croissant.json", hashlib.sha256(data).hexdigest())
    ]


def test_an_earlier_version_is_found_where_the_lake_is_served(demo: Any, announced: list[Any]) -> None:
    lake = Lake(str(demo.path), Settings(public_url="https://data.example.org/lake"))
    publish.publish_to_ckan(Snapshot(lake, demo.second.version), CkanTarget(organization="demo"), Settings())
    urls = {file.name: file.url for file in announced[3]}
    assert urls["v1/croissant.json"] == "https://data.example.org/lake/catalog/demo/v1/croissant.json"
    taxa = publish.refs.read_root(lake, demo.second.version.snapshot_id).taxa
    assert urls["taxa.parquet"] == f"https://data.example.org/lake/{taxa.key}"
