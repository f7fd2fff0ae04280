"""What a version records of the one before it: kinds of change, why photos went, who made it."""

from __future__ import annotations

import threading
from typing import Any

import polars as pl
import pytest

from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import SnapshotBuild
from lakehouse.snapshots.diff import CLASSES, changed_rows, class_of, diff, removal_lists
from lakehouse.snapshots.read import Snapshot
from tests.snapshots.faults import Killed, fused
from tests.snapshots.mini import CLOSED, FIRST, GONE, NEW, OPENED, RENAMED, Pond, build, frogs


def removed(lake: Lake, built: SnapshotBuild) -> dict[int, str]:
    assert built.version.removed is not None
    return {row["photo_id"]: row["reason"] for row in lake.read_table(built.version.removed.key).to_pylist()}


def test_a_version_says_what_kind_of_change_made_it(one: SnapshotBuild, ponds: Any) -> None:
    assert ponds.one.version.kinds == ("first",)
    assert ponds.two.version.kinds == ("added", "removed", "relabelled", "relicensed")


def test_a_version_says_what_made_it(one: SnapshotBuild) -> None:
    assert {"lakehouse", "pyarrow", "python", "campaign"} <= one.version.provenance.keys()


def test_a_photo_that_went_has_a_reason(lake: Lake, two: SnapshotBuild) -> None:
    assert removed(lake, two) == {GONE: "gone", CLOSED: "licence"}


def test_reasons_are_told_by_class_and_row(lake: Lake, two: SnapshotBuild) -> None:
    versions = refs.versions(lake, "frogs")
    roots = [refs.read_root(lake, version.snapshot_id) for version in versions]
    lists = removal_lists(lake, versions[0], versions[1])
    with lake.connect() as connection:
        found = diff(connection, lake, roots[0], roots[1], lists)
        rows = pl.concat(
            [pl.DataFrame(batch) for batch in changed_rows(connection, lake, roots[0], roots[1], lists)]
        )
        back = diff(connection, lake, roots[1], roots[0], removal_lists(lake, versions[1], versions[0]))
    assert found.removed == {"gone": 1, "licence": 1, "filter": 0, "legal": 0, "unknown": 0}
    assert sum(found.removed.values()) == found.totals["removed"]
    assert {row["photo_id"]: row["reason"] for row in rows.to_dicts() if row["change"] == "removed"} == {
        GONE: "gone",
        CLOSED: "licence",
    }
    assert set(rows.filter(pl.col("change") == "relabelled")["photo_id"]) == {RENAMED}
    assert set(rows.filter(pl.col("change") == "relicensed")["photo_id"]) == {OPENED}
    assert set(rows.filter(pl.col("change") == "added")["photo_id"]) == {NEW}
    assert back.removed["unknown"] == back.totals["removed"] == 1


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("gone", "gone"), ("licence", "licence"), ("quality", "filter"), ("per_label_max", "filter"),
     ("elsewhere", "filter"), ("copy", "filter"), ("taken_back", "legal")],
)  # fmt: skip
def test_a_reason_has_a_class(reason: str, kind: str) -> None:
    assert class_of(reason) == kind
    assert kind in CLASSES


def test_other_reasons_are_found_too(lake: Lake, pond: Pond, two: SnapshotBuild) -> None:
    """A photo whose observation lost its grade, one that left the campaign's taxa, one that gives way."""
    from tests.metadata.conftest import uuid_of

    grade, away, small = FIRST, FIRST + 1, FIRST + 2
    changes = {uuid_of(grade): (5, 102, "casual"), uuid_of(away): (5, 201, "research")}
    pond.observations = [
        (*row[:5], *changes[row[0]][1:], *row[7:]) if row[0] in changes else row for row in pond.observations
    ]
    pond.taxa = [
        (row[0], row[1], row[2], row[3], "Hyla minor" if row[4] == "Hyla una" else row[4], row[5])
        for row in pond.taxa
    ]
    built = build(lake, pond, frogs(where={"licenses": ["CC0", "CC-BY"], "observed": {"from": "2000-01-01"}}))
    why = removed(lake, built)
    assert why[grade] == "quality"
    assert why[away] == "elsewhere"
    assert small not in why
    assert built.version.changes["relabelled"] > 3  # a species was renamed


def test_a_move_in_the_taxonomy_is_told_apart_from_another_identification(
    lake: Lake, pond: Pond, two: SnapshotBuild
) -> None:
    """Hyla una is put in the genus Rana: not a photo was identified anew."""
    pond.taxa = [(row[0], "48460/1/2/100/101", *row[2:]) if int(row[0]) == 111 else row for row in pond.taxa]
    built = build(lake, pond, frogs())
    frogs_of = Snapshot(lake, built.version).manifest.filter(pl.col("label_id") == 111).collect()
    assert set(frogs_of["genus"]) == {"Rana"}
    assert built.version.changes["moved"] == frogs_of.height > 3
    assert built.version.changes["relabelled"] == 0
    before = refs.read_root(lake, two.version.snapshot_id)
    with lake.connect() as connection:
        (label,) = diff(connection, lake, before, built.root).labels
    assert (label.label, label.moved, label.before, label.after) == ("Hyla una", 6, 6, 6)


def test_relabelling_rewrites_no_records(lake: Lake, pond: Pond, one: SnapshotBuild) -> None:
    from tests.metadata.conftest import uuid_of

    pond.observations = [
        (*row[:5], 103 if row[0] == uuid_of(FIRST) else row[5], *row[6:]) for row in pond.observations
    ]
    built = build(lake, pond, frogs())
    assert built.version.kinds == ("relabelled",)
    old = {parts.partition: parts for parts in one.root.partitions}
    for parts in built.root.partitions:
        assert parts.records == old[parts.partition].records


def test_nothing_new_adds_nothing(lake: Lake, pond: Pond, two: SnapshotBuild) -> None:
    from tests.snapshots.scan import everything

    keys = {key for key in everything(lake) if key.startswith(("snapshots/", "shards/", "refs/"))}
    assert not build(lake, pond, frogs()).created
    assert {key for key in everything(lake) if key.startswith(("snapshots/", "shards/", "refs/"))} == keys


# --- publishers


def race(lake: Lake, version: Any, publishers: int) -> tuple[int, list[str]]:
    """Let several publishers create one version at once: how many won, and what the others were told."""
    gate, told, won = threading.Barrier(publishers), [], []

    def publish(number: int) -> None:
        mine = version.model_copy(update={"created_at": str(number)})
        gate.wait()
        try:
            refs.create_version(lake, mine)
            won.append(number)
        except LakeError as error:
            told.append(str(error))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.created_at for one in refs.versions(lake, version.campaign)] == [
        str(number) for number in won
    ]
    return len(won), told


def test_of_many_publishers_exactly_one_wins_and_the_others_are_told(lake: Lake, ponds: Any) -> None:
    for number in range(1, 11):
        version = ponds.one.version.model_copy(update={"campaign": f"race-{number}"})
        won, told = race(lake, version, 8)
        assert won == 1
        assert len(told) == 7
        assert all(f"another run published race-{number}@v1" in text for text in told)


def test_a_build_cut_at_any_operation_of_its_end_is_completed_by_the_next(
    lake: Lake, pond: Pond, one: SnapshotBuild
) -> None:
    pond.frog(FIRST + 80, 103)
    content = build(lake, pond, frogs()).root.content_id

    def forget() -> None:
        lake.delete("refs/frogs/v2")
        lake.delete("campaigns/frogs/snapshot")

    forget()
    with fused() as fuse:
        build(lake, pond, frogs())
    for number in range(len(fuse.seen)):
        forget()
        with fused(at=number + 0.5 * (number % 2)), pytest.raises(Killed):
            build(lake, pond, frogs())
        assert len(refs.versions(lake, "frogs")) in (1, 2)
        build(lake, pond, frogs())
        assert refs.read_root(lake, refs.resolve(lake, "frogs@v2").snapshot_id).content_id == content
        assert len(refs.versions(lake, "frogs")) == 2
