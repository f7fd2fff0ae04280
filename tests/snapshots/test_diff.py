"""The difference of two snapshots, against the changes that the embedded source is known to make."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import polars as pl
import pytest

from lakehouse.demo import MonthTwoChanges, month_two_changes
from lakehouse.demo.tables import release
from lakehouse.snapshots.diff import KINDS, Diff, changed_rows, count_changes, diff
from lakehouse.snapshots.read import Snapshot

PHOTOS = 300
DUCKS = 6930  # below Anseriformes, which the campaign excepts


@pytest.fixture(scope="session")
def known() -> MonthTwoChanges:
    return month_two_changes(photos=PHOTOS)


@pytest.fixture(scope="session")
def found(first: Snapshot, second: Snapshot) -> Diff:
    with first.lake.connect() as connection:
        return diff(connection, first.lake, first.root, second.root)


@pytest.fixture(scope="session")
def rows(first: Snapshot, second: Snapshot) -> pl.DataFrame:
    """Every changed row from the first to the second."""
    with first.lake.connect() as connection:
        batches = list(changed_rows(connection, first.lake, first.root, second.root))
    return pl.concat([pl.DataFrame(batch) for batch in batches])


@pytest.fixture(scope="session")
def changed(rows: pl.DataFrame) -> Callable[[str], set[int]]:
    """The photos that changed in one way."""
    return lambda kind: set(rows.filter(pl.col("change") == kind)["photo_id"])


@pytest.fixture(scope="session")
def before(first: Snapshot) -> pl.DataFrame:
    return first.manifest.collect()


@pytest.fixture(scope="session")
def both(before: pl.DataFrame, manifest: pl.DataFrame) -> set[int]:
    """The photos in both versions."""
    return set(before["photo_id"]) & set(manifest["photo_id"])


def test_what_was_identified_anew_or_renamed_is_relabelled(
    changed: Callable[[str], set[int]], known: MonthTwoChanges, before: pl.DataFrame, both: set[int]
) -> None:
    renamed = set(before.filter(pl.col("label_id") == known.renamed_taxon)["photo_id"])
    assert renamed & both
    assert changed("relabelled") == (set(known.relabelled) | renamed) & both


def test_what_has_another_licence_is_relicensed(
    changed: Callable[[str], set[int]], known: MonthTwoChanges, both: set[int]
) -> None:
    assert changed("relicensed") == set(known.relicensed) & both
    assert changed("relicensed")


def test_new_photos_that_the_campaign_takes_are_added(
    changed: Callable[[str], set[int]], known: MonthTwoChanges
) -> None:
    month = release(2, PHOTOS)
    research = {row.observation_uuid for row in month.observations if row.quality_grade == "research"}
    wanted = {
        photo.photo_id
        for photo in month.photos
        if photo.license in ("CC0", "CC-BY", "CC-BY-SA")
        and photo.observation_uuid in research
        and photo.drawn != DUCKS
    }
    assert changed("added") & set(known.added) == wanted & set(known.added)


def test_photos_that_the_source_withdrew_are_removed(
    changed: Callable[[str], set[int]],
    known: MonthTwoChanges,
    before: pl.DataFrame,
    manifest: pl.DataFrame,
) -> None:
    assert changed("removed") & set(known.removed) == set(before["photo_id"]) & set(known.removed)
    assert not set(manifest["photo_id"]) & set(known.removed)


def test_whatever_else_came_or_went_is_explained(
    changed: Callable[[str], set[int]],
    known: MonthTwoChanges,
    before: pl.DataFrame,
    manifest: pl.DataFrame,
) -> None:
    """By a licence that is accepted now or no longer, or by a label that crossed `per_label.min`."""
    touched = {*known.added, *known.removed, *known.relabelled, *known.relicensed}
    came, went = changed("added") - touched, changed("removed") - touched
    labels_of_came = set(manifest.filter(pl.col("photo_id").is_in(came))["label"])
    labels_of_went = set(before.filter(pl.col("photo_id").is_in(went))["label"])
    assert labels_of_came.isdisjoint(before["label"])
    assert labels_of_went.isdisjoint(manifest["label"])


def test_a_licence_that_is_no_longer_accepted_takes_the_photo_out(
    changed: Callable[[str], set[int]], known: MonthTwoChanges
) -> None:
    closed = {
        photo.photo_id
        for photo in release(2, PHOTOS).photos
        if photo.photo_id in known.relicensed and photo.license == "CC-BY-NC"
    }
    assert changed("removed") & set(known.relicensed) == closed
    assert closed


def test_pixels_and_splits_did_not_change(found: Diff) -> None:
    assert (found.totals["replaced"], found.totals["resplit"]) == (0, 0)


def test_changes_and_what_is_unchanged_add_up(found: Diff, rows: pl.DataFrame, before: pl.DataFrame) -> None:
    touched = rows.filter(pl.col("change") != "added")["photo_id"].n_unique()
    assert found.unchanged + touched == before.height
    assert found.totals == {kind: rows.filter(pl.col("change") == kind).height for kind in KINDS}


def test_the_version_record_has_the_totals(second: Snapshot, found: Diff) -> None:
    assert second.version.changes == found.totals


def test_changes_by_label_add_up_to_the_totals(found: Diff) -> None:
    assert sum(label.added for label in found.labels) == found.totals["added"]
    assert sum(label.removed for label in found.labels) == found.totals["removed"]
    assert sum(label.relicensed for label in found.labels) == found.totals["relicensed"]
    assert sum(label.relabelled for label in found.labels) == 2 * found.totals["relabelled"]


def test_rows_are_in_photo_order_with_before_and_after(rows: pl.DataFrame) -> None:
    assert rows.columns == [
        "photo_id",
        "change",
        "reason",
        "old_label",
        "new_label",
        "old_license",
        "new_license",
    ]
    assert rows["photo_id"].is_sorted()
    assert (
        rows.filter(pl.col("change") == "added")["old_label"].null_count()
        == rows.filter(pl.col("change") == "added").height
    )
    relicensed = rows.filter(pl.col("change") == "relicensed")
    assert (relicensed["old_license"] != relicensed["new_license"]).all()


def test_a_snapshot_does_not_differ_from_itself(
    second: Snapshot, connection: duckdb.DuckDBPyConnection
) -> None:
    same = diff(connection, second.lake, second.root, second.root)
    assert (sum(same.totals.values()), same.labels) == (0, ())
    assert same.unchanged == second.root.counts.photos
    assert list(changed_rows(connection, second.lake, second.root, second.root)) == []


def test_backwards_what_was_added_is_removed(
    first: Snapshot, second: Snapshot, found: Diff, connection: duckdb.DuckDBPyConnection
) -> None:
    back = diff(connection, first.lake, second.root, first.root)
    assert back.totals == {
        **found.totals,
        "added": found.totals["removed"],
        "removed": found.totals["added"],
    }


def test_against_nothing_everything_is_added(first: Snapshot, connection: duckdb.DuckDBPyConnection) -> None:
    whole = diff(connection, first.lake, None, first.root)
    assert whole.totals == {**dict.fromkeys(KINDS, 0), "added": first.root.counts.photos}
    assert count_changes(connection, first.lake, None, first.root) == whole.totals
    assert whole.unchanged == 0


def test_a_photo_that_moved_to_another_split_is_told(
    first: Snapshot,
    harmed: Snapshot,
    rewrite: Callable[..., None],
    connection: duckdb.DuckDBPyConnection,
    both: set[int],
) -> None:
    of_first = {parts.labels.key for parts in first.root.partitions}
    own = [parts.labels.key for parts in harmed.root.partitions if parts.labels.key not in of_first]
    rows = [row for key in own for row in harmed.lake.read_table(key).to_pylist()]
    photo = next(row["photo_id"] for row in rows if row["photo_id"] in both and row["split"] == "test")
    rewrite(photo, split="train")
    assert diff(connection, harmed.lake, first.root, harmed.root).totals["resplit"] == 1
