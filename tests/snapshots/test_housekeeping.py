"""Housekeeping: what no version reaches goes, and nothing else; small shards become one."""

from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import SnapshotBuild
from lakehouse.snapshots.housekeeping import compact, gc
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.verify import verify
from tests.snapshots.faults import Killed, bury_holder, fused
from tests.snapshots.mini import FIRST, Pond, build, frogs
from tests.snapshots.scan import everything

NOW = timedelta(0)
ORPHANS = (
    f"shards/medium/ab/{'ab' * 32}.tar",
    f"shards/medium/cd/{'cd' * 32}.index.parquet",
    f"snapshots/{'e' * 64}.json",
    f"snapshots/parts/{'f' * 64}.parquet",
    "catalog/frogs/v9/README.md",
    "catalog/toads/v1/README.md",
)


@pytest.fixture
def littered(lake: Lake, two: SnapshotBuild) -> Lake:
    """A lake of two versions with what killed runs leave."""
    for key in ORPHANS:
        lake.put(key, b"orphan")
    lake.put("catalog/frogs/v1/README.md", b"described")
    return lake


def copy_of(source: Lake, folder: Path) -> Lake:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source.path, folder)
    return Lake(str(folder), Settings(_env_file=None))


def contents(lake: Lake) -> dict[str, bytes]:
    return {key: lake.get(key) for key in everything(lake) if not key.startswith("ledger/")}


def images(lake: Lake, ref: str) -> dict[int, bytes]:
    return {sample.photo_id: sample.image for sample in Snapshot(lake, refs.resolve(lake, ref)).samples()}


def test_a_dry_run_tells_and_leaves_everything(littered: Lake) -> None:
    before = contents(littered)
    found = gc(littered, grace=NOW)
    assert sorted(found.deleted) == sorted(ORPHANS)
    assert found.bytes == len(b"orphan") * len(ORPHANS)
    assert found.dry_run
    assert contents(littered) == before


def test_what_no_version_reaches_goes_and_nothing_else(littered: Lake) -> None:
    before = contents(littered)
    found = gc(littered, dry_run=False, grace=NOW)
    assert contents(littered) == {key: data for key, data in before.items() if key not in ORPHANS}
    assert sorted(found.deleted) == sorted(ORPHANS)
    for ref in ("frogs@v1", "frogs@v2"):
        assert verify(littered, ref).problems == ()
    assert gc(littered, grace=NOW).deleted == ()


def test_what_is_young_stays(littered: Lake) -> None:
    aged = littered.path / ORPHANS[3]
    os.utime(aged, (time.time() - 3 * 86400,) * 2)
    found = gc(littered, dry_run=False, grace=timedelta(days=2))
    assert found.deleted == (ORPHANS[3],)
    assert found.young == len(ORPHANS) - 1
    assert littered.exists(ORPHANS[0])


def test_a_shard_that_only_the_ledger_names_stays(lake: Lake, pond: Pond, one: SnapshotBuild) -> None:
    """Its photos are fetched, and a build may take them any time."""
    pond.frog(FIRST + 60, 102)
    build(lake, pond, frogs(name="toads"))
    lake.delete("refs/toads/v1")
    shards = list(lake.list("shards"))
    gc(lake, dry_run=False, grace=NOW)
    assert list(lake.list("shards")) == shards
    again = build(lake, pond, frogs(name="toads"))
    assert verify(lake, again.version.ref).problems == ()


def test_cut_at_any_deletion_the_next_call_completes_it(littered: Lake, tmp_path: Path) -> None:
    whole = copy_of(littered, tmp_path / "whole")
    with fused() as fuse:
        gc(whole, dry_run=False, grace=NOW)
    for number in range(len(fuse.seen)):
        lake = copy_of(littered, tmp_path / "cut")
        with fused(at=number), pytest.raises(Killed):
            gc(lake, dry_run=False, grace=NOW)
        bury_holder(lake)
        assert verify(lake, "frogs@v2").problems == ()
        gc(lake, dry_run=False, grace=NOW)
        assert contents(lake) == contents(whole)


# --- compaction


def test_small_shards_become_one_and_older_versions_stay_as_they_are(
    lake: Lake, pond: Pond, two: SnapshotBuild
) -> None:
    before = {ref: images(lake, ref) for ref in ("frogs@v1", "frogs@v2")}
    files = contents(lake)
    small = len({shard.tar.key for shard in two.root.shards})
    assert small > 1
    done = compact(lake)
    assert (done.merged, done.made) == (small, 1)
    assert {key: contents(lake)[key] for key in files} == files
    later = build(lake, pond, frogs())
    assert later.created
    assert later.version.kinds == ("repacked",)
    assert len(later.root.shards) == 1
    assert later.root.content_id == two.root.content_id
    for ref in ("frogs@v1", "frogs@v2", "frogs@v3"):
        assert verify(lake, ref).problems == ()
        assert images(lake, ref) == before.get(ref, before["frogs@v2"])
    assert not build(lake, pond, frogs()).created


def test_what_is_compact_stays(lake: Lake, two: SnapshotBuild) -> None:
    compact(lake)
    again = compact(lake)
    assert (again.merged, again.made) == (0, 0)


def test_large_shards_and_full_ones_are_left_alone(lake: Lake, two: SnapshotBuild) -> None:
    assert compact(lake, below=2, dry_run=True).merged <= 1
    sizes = sorted(shard.tar.rows for shard in two.root.shards)
    assert compact(lake, photos=sizes[0] + sizes[1] - 1, dry_run=True).made == 0
    assert compact(lake, size=1, dry_run=True).made == 0


def test_a_merged_shard_is_what_one_fetch_would_have_made(
    lake: Lake, pond: Pond, two: SnapshotBuild, tmp_path: Path
) -> None:
    compact(lake)
    other = Lake(str(tmp_path / "other"), Settings(_env_file=None))
    stored = {sample.photo_id for sample in Snapshot(lake, two.version).samples()}
    assert stored
    build(other, pond, frogs())
    compact(other)
    (shard,) = Snapshot(other, build(other, pond, frogs()).version).root.shards
    ids = set(other.read_table(shard.index.key, ["photo_id"])["photo_id"].to_pylist())
    assert stored <= ids


def test_cut_at_any_operation_the_next_call_makes_the_same_shard(
    lake: Lake, two: SnapshotBuild, tmp_path: Path
) -> None:
    whole = copy_of(lake, tmp_path / "whole")
    with fused() as fuse:
        compact(whole)
    for number in range(len(fuse.seen)):
        cut = copy_of(lake, tmp_path / "cut")
        with fused(at=number + 0.5 * (number % 2)), pytest.raises(Killed):
            compact(cut)
        bury_holder(cut)
        assert verify(cut, "frogs@v2").problems == ()
        compact(cut)
        gc(cut, dry_run=False, grace=NOW)
        assert contents(cut) == contents(whole)
