"""The rules of a snapshot: each holds for the demo's, and is told when it is broken."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lakehouse.lake import Lake
from lakehouse.snapshots import choice
from lakehouse.snapshots.build import SnapshotBuild
from lakehouse.snapshots.checks import copied, leaks, miscounted, shared_bytes, unlicensed
from lakehouse.snapshots.duplicates import duplicates
from lakehouse.snapshots.read import Snapshot
from tests.snapshots.mini import COPY, Pond, build, frogs


@pytest.mark.parametrize("check", [unlicensed, leaks])
def test_the_demo_keeps_the_rules(
    second: Snapshot, connection: duckdb.DuckDBPyConnection, check: Callable[..., object]
) -> None:
    assert list(check(connection, second.lake, second.root)) == []  # type: ignore[call-overload]


def test_the_counts_of_every_version_add_up(first: Snapshot, second: Snapshot) -> None:
    assert list(miscounted(first.version, first.root)) == []
    assert list(miscounted(second.version, second.root)) == []


# --- licences


def test_a_licence_that_is_not_accepted_is_told_with_its_number_of_photos(
    second: Snapshot, connection: duckdb.DuckDBPyConnection
) -> None:
    where = {**second.root.parameters["where"], "licenses": ["CC0", "CC-BY"]}
    narrowed = second.root.model_copy(update={"parameters": {**second.root.parameters, "where": where}})
    count = second.root.counts.licenses["CC-BY-SA"]
    (problem,) = unlicensed(connection, second.lake, narrowed)
    assert problem.startswith(f"{count} photos are under 'CC-BY-SA', which is not accepted (for example ")


def test_a_licence_that_nobody_knows_is_told(
    harmed: Snapshot, rewrite: Callable[..., None], connection: duckdb.DuckDBPyConnection
) -> None:
    rewrite(harmed.samples()[0].photo_id, license="CC-BY-XX")
    (problem,) = unlicensed(connection, harmed.lake, harmed.root)
    assert problem == "1 of 136 photos have no known licence, image or label taxon"


def test_a_label_that_is_not_among_the_taxa_is_told(
    harmed: Snapshot, manifest: pl.DataFrame, connection: duckdb.DuckDBPyConnection
) -> None:
    taxa = harmed.lake.read_table(harmed.root.taxa.key)
    label = manifest["label_id"][0]
    pq.write_table(taxa.filter(pc.not_equal(taxa["label_id"], label)), harmed.lake.uri(harmed.root.taxa.key))
    lost = manifest.filter(pl.col("label_id") == label).height
    (problem,) = unlicensed(connection, harmed.lake, harmed.root)
    assert problem.startswith(f"{lost} of 136 photos have no known licence")


# --- counts


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("considered", "considered = selected + excluded"),
        ("excluded.licence", "considered = selected + excluded"),
        ("selected", "selected = stored + gone + failed + refused + rejected"),
        ("gone", "selected = stored + gone + failed + refused + rejected"),
        ("stored", "photos = stored - dropped"),
        ("dropped.per_label_min", "photos = stored - dropped"),
    ],
)
def test_a_photo_that_is_not_accounted_for_is_told(second: Snapshot, name: str, rule: str) -> None:
    accounting = second.version.accounting
    wrong = second.version.model_copy(
        update={"accounting": {**accounting, name: accounting.get(name, 0) + 1}}
    )
    assert any(problem.startswith(f"{rule} does not hold: ") for problem in miscounted(wrong, second.root))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"splits": {"train": 1}}, "photos = sum of the splits"),
        ({"licenses": {"CC0": 1}}, "photos = sum of the licences"),
    ],
)
def test_counts_by_kind_that_do_not_add_up_are_told(
    second: Snapshot, changes: dict[str, object], rule: str
) -> None:
    root = second.root.model_copy(update={"counts": second.root.counts.model_copy(update=changes)})
    assert list(miscounted(second.version, root)) == [f"{rule} does not hold: 136 against 1"]


def test_a_partition_that_is_missing_is_told(second: Snapshot) -> None:
    root = second.root.model_copy(update={"partitions": second.root.partitions[1:]})
    (problem,) = miscounted(second.version, root)
    assert problem.startswith("photos = rows of the parts does not hold: 136 against ")


# --- splits


def test_an_observation_in_two_splits_is_told(
    harmed: Snapshot,
    rewrite: Callable[..., None],
    manifest: pl.DataFrame,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    shared = manifest.filter((pl.len().over("observation_uuid") > 1) & (pl.col("split") == "train")).row(
        0, named=True
    )
    rewrite(shared["photo_id"], split="test")
    (problem,) = leaks(connection, harmed.lake, harmed.root)
    assert problem.startswith("1 observations are in more than one split")
    assert shared["observation_uuid"] in problem


def test_a_photo_that_is_there_twice_is_told(second: Snapshot, connection: duckdb.DuckDBPyConnection) -> None:
    parts = second.root.partitions[0]
    twice = second.root.model_copy(update={"partitions": (*second.root.partitions, parts)})
    (problem,) = leaks(connection, second.lake, twice)
    assert problem.startswith(f"{parts.labels.rows} photos are in the snapshot twice")


def test_the_same_bytes_in_two_splits_are_told(
    lake: Lake, two: SnapshotBuild, monkeypatch: pytest.MonkeyPatch, pond: Pond
) -> None:
    """A build that forgot its rule is caught by the check."""
    monkeypatch.setattr(choice, "_drop_copies", lambda campaign, cursor: None)
    built = build(lake, pond, frogs())
    with lake.connect() as connection:
        (told,) = shared_bytes(connection, lake, built.root)
        (copies,) = copied(duplicates(connection, lake, built.root), "cross_split")
    assert f"{COPY} are the same bytes" in told
    assert f"{COPY} are the same bytes in 2 splits" in copies


def test_the_demo_has_no_bytes_in_two_splits(second: Snapshot, connection: duckdb.DuckDBPyConnection) -> None:
    """Although the embedded source has one picture under two photo ids."""
    assert second.version.accounting["dropped.copy_in_other_split"] == 1
    assert list(shared_bytes(connection, second.lake, second.root)) == []
