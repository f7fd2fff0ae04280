"""Taking photos back: they are gone from every object of the lake, whatever interrupted the removal."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import polars as pl
import pytest

from lakehouse.errors import LakeError, UsageError, WithdrawnError
from lakehouse.images.ledger import Ledger
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import list_releases, load_raw_release
from lakehouse.metadata.photos import load_photos_report
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import SnapshotBuild
from lakehouse.snapshots.checks import leaks, miscounted, shared_bytes, unlicensed
from lakehouse.snapshots.read import Snapshot, catalog_folder
from lakehouse.snapshots.removal import (
    RemovalRequest,
    pending,
    read_requests,
    remove,
    unfinished,
)
from lakehouse.snapshots.seal import seal
from lakehouse.snapshots.verify import verify
from lakehouse.tombstones import load_tombstones
from tests.metadata.conftest import uuid_of
from tests.snapshots.faults import Killed, bury_holder, fused
from tests.snapshots.mini import COPY, FIRST, NEW, Pond, build, frogs, picture
from tests.snapshots.scan import everything, traces

# The first is the only photo of its person (the other one was withdrawn upstream in the second month, but the
# first month's raw table has it); NEW is the only one ever.
TARGET = NEW
REQUESTS = [RemovalRequest(TARGET, "legal"), RemovalRequest(FIRST + 2, "privacy")]
WANTED = [TARGET, FIRST + 2]


@pytest.fixture
def described(lake: Lake, two: SnapshotBuild) -> Lake:
    """frogs@v2 with something in its catalogue folder that names a photo."""
    for version in refs.versions(lake, "frogs"):
        folder = catalog_folder(version)
        lake.put(f"{folder}/README.md", f"photos {TARGET} and {FIRST + 2} by Person Number41".encode())
        seal(lake, folder)
    return lake


def state(lake: Lake) -> dict[str, bytes]:
    """What a lake holds, as far as it does not depend on time or chance."""
    random = ("ledger/", "removals/", "dagster/")
    return {key: lake.get(key) for key in everything(lake) if not key.startswith(random)}


def digests(photo_ids: list[int], lake: Lake) -> list[bytes]:
    rows = pl.scan_delta(lake.uri("ledger")).filter(pl.col("photo_id").is_in(photo_ids)).collect()
    return rows["sha256"].drop_nulls().to_list()


def test_nothing_in_the_lake_has_the_photo_its_digest_or_its_photographer(described: Lake) -> None:
    blobs = [*digests(WANTED, described), picture(TARGET)]
    texts = [uuid_of(TARGET), uuid_of(FIRST + 2), "login41", "Person Number41"]
    assert len(blobs) == 3
    before = traces(described, WANTED, texts, blobs)
    assert {key.split("/")[0] for key in before} == {
        *("campaigns", "catalog", "ledger", "raw", "shards", "snapshots", "tables")
    }
    report = remove(described, REQUESTS)
    assert traces(described, WANTED, texts, blobs) == []
    assert report.photos == {"legal": 1, "privacy": 1}
    assert report.photographers == 1  # the other person has another photo
    assert set(report.versions) == {"frogs@v1", "frogs@v2"}


def test_whoever_has_other_photos_stays(described: Lake) -> None:
    remove(described, REQUESTS)
    assert traces(described, [], ["Person Number11"], []) != []


def test_every_version_is_whole_and_keeps_the_rules_afterwards(described: Lake) -> None:
    before = {
        version.ref: Snapshot(described, version).manifest.collect()
        for version in refs.versions(described, "frogs")
    }
    remove(described, REQUESTS)
    for version in refs.versions(described, "frogs"):
        snapshot = Snapshot(described, version)
        left = before[version.ref].filter(~pl.col("photo_id").is_in(WANTED))
        columns = [name for name in left.columns if name not in ("shard", "offset")]
        assert snapshot.manifest.collect().select(columns).equals(left.select(columns))
        assert verify(described, version.ref).problems == ()
        assert list(miscounted(version, snapshot.root)) == []
        assert "redacted" in version.kinds
        with described.connect() as connection:
            for rule in (unlicensed, leaks, shared_bytes):
                assert list(rule(connection, described, snapshot.root)) == []
        for sample in snapshot.samples():
            assert sample.image == described_image(described, snapshot, sample.photo_id)


def described_image(lake: Lake, snapshot: Snapshot, photo_id: int) -> bytes:
    row = snapshot.manifest.filter(pl.col("photo_id") == photo_id).collect().row(0, named=True)
    return snapshot.image(row["shard"], row["offset"], row["size"])


def test_the_old_id_answers_with_its_successor(described: Lake) -> None:
    old = [version.snapshot_id for version in refs.versions(described, "frogs")]
    remove(described, REQUESTS)
    for snapshot_id, version in zip(old, refs.versions(described, "frogs"), strict=True):
        assert version.redacts == (snapshot_id,)
        with pytest.raises(WithdrawnError, match=f"its successor is {version.ref}, {version.snapshot_id}"):
            refs.resolve(described, snapshot_id[:12])
        assert not described.exists(refs.root_key(snapshot_id))
    first, second = refs.versions(described, "frogs")
    assert second.parent == first.snapshot_id


def test_after_two_removals_the_oldest_id_names_the_newest_successor(described: Lake) -> None:
    old = refs.resolve(described, "frogs@v2").snapshot_id
    remove(described, REQUESTS[:1])
    remove(described, REQUESTS[1:])
    now = refs.resolve(described, "frogs@v2")
    assert len(now.redacts) == 2
    gone = refs.withdrawal(described, old)
    assert gone is not None
    assert gone.successor == now.snapshot_id


def test_the_photos_do_not_come_back(described: Lake, pond: Pond) -> None:
    remove(described, REQUESTS)
    again = build(described, pond, frogs())
    assert not again.created
    pond.frog(FIRST + 200, 111, observer=50)
    later = build(described, pond, frogs())
    assert later.created
    ids = set(Snapshot(described, later.version).manifest.collect()["photo_id"])
    assert not ids & set(WANTED)
    assert FIRST + 200 in ids
    assert later.version.accounting["excluded.taken_back"] == 2
    assert Ledger(described).outcomes("inaturalist", "medium", pl.Series(WANTED)).is_empty()


def test_the_picture_under_another_id_is_not_stored(described: Lake, pond: Pond) -> None:
    remove(described, REQUESTS)
    pond.frog(FIRST + 300, 111, seed=TARGET)
    assert not build(described, pond, frogs()).created
    (row,) = Ledger(described).outcomes("inaturalist", "medium", pl.Series([FIRST + 300])).to_dicts()
    assert (row["outcome"], row["reason"]) == ("gone", "taken_back")
    assert traces(described, [], [], [picture(TARGET)]) == []


def test_copies_of_the_picture_go_too(described: Lake) -> None:
    original = next(FIRST + n for n in range(18) if picture(FIRST + n) == copied_picture(described))
    report = remove(described, [RemovalRequest(original)])
    assert report.copies == 1
    assert traces(described, [original, COPY], [], [picture(original)]) == []


def test_logs_beside_the_lake_forget_copies_too_and_again_if_it_was_interrupted(described: Lake) -> None:
    original = next(FIRST + n for n in range(18) if picture(FIRST + n) == copied_picture(described))
    asked: list[set[int]] = []

    def failing(photos: Collection[int]) -> int:
        asked.append(set(photos))
        raise LakeError("the log is busy")

    def forget(photos: Collection[int]) -> int:
        asked.append(set(photos))
        return 3

    with pytest.raises(LakeError, match="busy"):
        remove(described, [RemovalRequest(original, "privacy")], forget=failing)
    assert unfinished(described) == 2
    report = remove(described, [], forget=forget)
    assert len(asked) == 2 and asked[0] == asked[1] and len(asked[0]) == 2 and original in asked[0]
    assert report.events == 3
    assert unfinished(described) == 0


def copied_picture(lake: Lake) -> bytes:
    rows = pl.scan_delta(lake.uri("ledger")).filter(pl.col("photo_id") == COPY).collect()
    snapshot = Snapshot(lake, refs.resolve(lake, "frogs@v2"))
    index = pl.DataFrame(
        lake.read_table(f"shards/medium/{rows['shard'][0][:2]}/{rows['shard'][0]}.index.parquet")
    )
    place = index.filter(pl.col("photo_id") == COPY).row(0, named=True)
    return snapshot.lake.get_range(
        f"shards/medium/{rows['shard'][0][:2]}/{rows['shard'][0]}.tar", place["offset"], place["size"]
    )


def test_reports_on_tables_still_account_for_every_row(described: Lake) -> None:
    remove(described, REQUESTS)
    for release in list_releases(described, "inaturalist"):
        raw = load_raw_release(described, "inaturalist", release)
        for table in raw.tables:
            assert table.rows + table.rejected + table.blank + table.taken_back + 1 == table.lines
        assert raw.table("photos").taken_back > 0
        photos = load_photos_report(described, "inaturalist", release)
        assert sum(photos.accounting().values()) == photos.raw_rows == raw.table("photos").rows


def test_photos_of_no_lake_are_kept_out_from_now_on(described: Lake, pond: Pond) -> None:
    before = state(described)
    report = remove(described, [RemovalRequest(FIRST + 400)])
    assert report.unknown == (FIRST + 400,)
    assert report.versions == {}
    assert state(described) == before
    pond.frog(FIRST + 400, 111)
    assert not build(described, pond, frogs()).created
    assert Ledger(described).outcomes("inaturalist", "medium", pl.Series([FIRST + 400])).is_empty()


def test_again_nothing_is_left_to_do(described: Lake) -> None:
    assert pending(described, REQUESTS) == REQUESTS
    remove(described, REQUESTS)
    assert pending(described, REQUESTS) == []
    before = state(described)
    report = remove(described, REQUESTS)
    assert (report.photos, report.already, report.versions) == ({}, 2, {})
    assert state(described) == before


def test_all_photos_of_a_lake_can_go(described: Lake) -> None:
    everyone = [FIRST + n for n in range(18)] + [COPY, NEW]
    remove(described, [RemovalRequest(photo_id) for photo_id in everyone])
    assert traces(described, everyone, [], []) == []
    for version in refs.versions(described, "frogs"):
        assert refs.read_root(described, version.snapshot_id).counts.photos == 0
        assert verify(described, version.ref).problems == ()


# --- interrupted


def copy_of(described: Lake, folder: Path) -> Lake:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(described.path, folder)
    return Lake(str(folder), Settings(_env_file=None))


def cut_and_completed(described: Lake, tmp_path: Path, every: int) -> None:
    """Interrupt a removal at every so-manieth operation and let the next call complete it."""
    blobs = [*digests(WANTED, described), picture(TARGET)]
    texts = [uuid_of(TARGET), "login41", "Person Number41"]
    whole = copy_of(described, tmp_path / "whole")
    with fused() as fuse:
        remove(whole, REQUESTS)
    wanted = state(whole)
    assert len(fuse.seen) > 40
    assert {"Ledger.forget", "Ledger.move", "Ledger.purge"} <= set(fuse.seen)
    for number in range(0, len(fuse.seen), every):
        lake = copy_of(described, tmp_path / "cut")
        # Before and after an operation by turns: after one and before the next is the same instant.
        with fused(at=number + 0.5 * (number % 2)), pytest.raises(Killed):
            remove(lake, REQUESTS)
        bury_holder(lake)
        remove(lake, [])  # what was begun is completed without anybody naming it again
        remove(lake, REQUESTS)
        assert state(lake) == wanted, f"cut at {number}: {fuse.seen[number]}"
        assert traces(lake, WANTED, texts, blobs) == [], f"cut at {number}: {fuse.seen[number]}"
        assert (unfinished(lake), pending(lake, REQUESTS)) == (0, [])


def test_killed_on_its_way_it_completes_on_the_next_call(described: Lake, tmp_path: Path) -> None:
    cut_and_completed(described, tmp_path, every=13)


@pytest.mark.slow
def test_killed_at_any_operation_it_completes_on_the_next_call(described: Lake, tmp_path: Path) -> None:
    cut_and_completed(described, tmp_path, every=1)


# --- tombstones and requests


def test_a_tombstone_tells_neither_photo_nor_picture(described: Lake) -> None:
    remove(described, REQUESTS)
    tombstones = load_tombstones(described)
    assert [tombstones.of_photo(photo_id) for photo_id in (TARGET, FIRST + 2, FIRST)] == [
        "legal",
        "privacy",
        None,
    ]
    assert all(str(TARGET).encode() not in described.get(key) for key in described.list("removals"))


def test_two_lakes_have_other_tombstones_for_one_photo(described: Lake, tmp_path: Path) -> None:
    other = copy_of(described, tmp_path / "other")
    for lake in (described, other):
        remove(lake, REQUESTS)
    assert load_tombstones(described).photos.keys().isdisjoint(load_tombstones(other).photos)


@pytest.mark.parametrize(
    "photo",
    [777000001, "777000001", " 777000001 ", "https://www.inaturalist.org/photos/777000001",
     "https://inaturalist-open-data.s3.amazonaws.com/photos/777000001/medium.jpg?1"],
)  # fmt: skip
def test_a_photo_is_named_by_its_number_or_address(photo: str | int) -> None:
    assert RemovalRequest(photo).photo_id == 777000001


@pytest.mark.parametrize("photo", ["", "frog", "-1", "1.5", "12 13", "https://example.org/12", "9" * 19])
def test_what_names_no_photo_is_refused(photo: str) -> None:
    with pytest.raises(UsageError, match="is not a photo id"):
        RemovalRequest(photo)


@pytest.mark.parametrize("text", [
    "photo_id,reason\n1,legal\n2,privacy\n3,\n\n1,legal\n",
    "photo_id;reason\r\n1;legal\r\n2;privacy\r\n3;\r\n",
    "\ufeffPhoto_ID\treason\n1\tlegal\n2\tprivacy\n3\t\n",
])  # fmt: skip
def test_a_list_is_read_whatever_it_is_separated_by(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_requests(path, "privacy") == [
        RemovalRequest(1, "legal"),
        RemovalRequest(2, "privacy"),
        RemovalRequest(3, "privacy"),
    ]


def test_every_bad_line_of_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("photo_id,reason\n1,legal\nfrog,legal\n3,because\n4,legal,now\n")
    with pytest.raises(UsageError) as error:
        read_requests(path)
    for told in ("line 3: 'frog' is not a photo id", "line 4: the reason 'because'", "line 5: 3 columns"):
        assert told in str(error.value)
    assert "line 2" not in str(error.value)


@pytest.mark.parametrize("text", ["", "id\n1\n", "1\n2\n"])
def test_a_list_without_its_header_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match="it must name the column photo_id"):
        read_requests(path)
