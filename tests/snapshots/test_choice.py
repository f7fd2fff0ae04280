"""What of the stored photos a snapshot takes: no picture in two splits, and with `dedupe` none twice."""

from __future__ import annotations

import random

import duckdb
import polars as pl
import pytest

from lakehouse.lake import Lake
from lakehouse.metadata.splits import split_of
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import SnapshotBuild
from lakehouse.snapshots.checks import copied, leaks, miscounted, moved_samples, shared_bytes, small_splits
from lakehouse.snapshots.duplicates import DUPLICATES, duplicates, examples
from lakehouse.snapshots.near import near_values
from lakehouse.snapshots.read import Snapshot
from tests.metadata.conftest import uuid_of
from tests.snapshots.mini import FIRST, Pond, build, frogs

SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}


def ids(lake: Lake, built: SnapshotBuild) -> set[int]:
    return set(Snapshot(lake, built.version).manifest.collect()["photo_id"])


def dropped(lake: Lake, built: SnapshotBuild) -> dict[int, tuple[str, int | None]]:
    if built.root.dropped is None:
        return {}
    rows = lake.read_table(built.root.dropped.key).to_pylist()
    return {row["photo_id"]: (row["reason"], row["stays"]) for row in rows}


def elsewhere(photo_id: int, start: int) -> int:
    """The first id from `start` on whose own observation is in another split than the photo's."""
    split = split_of(uuid_of(photo_id), SPLITS)
    return next(n for n in range(start, start + 1000) if split_of(uuid_of(n), SPLITS) != split)


def beside(photo_id: int, start: int) -> int:
    """The first id from `start` on whose own observation is in the same split."""
    split = split_of(uuid_of(photo_id), SPLITS)
    return next(n for n in range(start, start + 1000) if split_of(uuid_of(n), SPLITS) == split)


# --- one picture, two splits


def test_of_one_picture_in_two_splits_the_lower_id_stays(lake: Lake, pond: Pond) -> None:
    other = elsewhere(FIRST, FIRST + 1)
    same = beside(FIRST, FIRST + 2000)
    pond.frog(other, seed=FIRST)
    pond.frog(FIRST)
    pond.frog(same, seed=FIRST)
    built = build(lake, pond, frogs())
    assert ids(lake, built) == {FIRST, same}
    assert dropped(lake, built) == {other: ("copy_in_other_split", FIRST)}
    assert built.version.accounting["dropped.copy_in_other_split"] == 1
    assert list(miscounted(built.version, built.root)) == []
    with lake.connect() as connection:
        assert list(shared_bytes(connection, lake, built.root)) == []


def test_a_later_upload_of_the_picture_displaces_nobody(lake: Lake, pond: Pond) -> None:
    pond.frog(FIRST)
    pond.frog(FIRST + 5000)
    first = build(lake, pond, frogs())
    pond.frog(elsewhere(FIRST, FIRST + 1), seed=FIRST)
    second = build(lake, pond, frogs())
    assert ids(lake, first) <= ids(lake, second)
    assert second.root.content_id == first.root.content_id


@pytest.mark.parametrize("seed", range(3))
def test_through_random_refreshes_no_sample_moves_and_no_picture_is_in_two_splits(
    lake: Lake, pond: Pond, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Photos come, go, are identified anew and closed; some are pictures that are there already."""
    chance = random.Random(seed)
    where: dict[int, str] = {}
    number = 0
    for _month in range(4):
        for _ in range(12):
            number += 1
            taken = [row[1] for row in pond.photos]
            copy = chance.random() < 0.4 and taken
            observation = chance.choice(taken) if taken and chance.random() < 0.2 else None
            pond.frog(
                FIRST + number,
                chance.choice((102, 103, 111)),
                seed=chance.choice(taken) if copy else None,
                observation=observation,
            )
        for row in chance.sample(pond.photos, 3):
            pond.without(row[1])
        changed = {row[0] for row in chance.sample(pond.observations, 3)}
        pond.observations = [
            (*row[:5], chance.choice((102, 103)) if row[0] in changed else row[5], *row[6:])
            for row in pond.observations
        ]
        built = build(lake, pond, frogs())
        rows = Snapshot(lake, built.version).manifest.collect()
        for photo_id, split in rows.select("photo_id", "split").iter_rows():
            assert where.setdefault(photo_id, split) == split
        for column in ("photo_id", "observation_uuid", "sha256"):
            assert rows.group_by(column).agg(pl.col("split").n_unique())["split"].max() == 1
    scratch = Lake(str(tmp_path_factory.mktemp("scratch")), lake.settings)
    assert build(scratch, pond, frogs()).root.content_id == built.root.content_id
    if built.version.parent:
        before = refs.read_root(lake, built.version.parent)
        with lake.connect() as connection:
            assert list(moved_samples(connection, lake, before, built.root)) == []


# --- dedupe


def test_with_dedupe_a_picture_is_there_once(lake: Lake, pond: Pond) -> None:
    same = beside(FIRST, FIRST + 1)
    pond.frog(FIRST)
    pond.frog(same, seed=FIRST)
    assert ids(lake, build(lake, pond, frogs())) == {FIRST, same}
    built = build(lake, pond, frogs(dedupe="exact"))
    assert ids(lake, built) == {FIRST}
    assert dropped(lake, built) == {same: ("copy", FIRST)}


def test_with_dedupe_a_picture_under_two_labels_is_not_there_at_all(lake: Lake, pond: Pond) -> None:
    other = beside(FIRST, FIRST + 1)
    pond.frog(FIRST, 102)
    pond.frog(other, 103, seed=FIRST)
    pond.frog(FIRST + 5000, 103)
    assert ids(lake, build(lake, pond, frogs())) == {FIRST, other, FIRST + 5000}
    built = build(lake, pond, frogs(dedupe="exact"))
    assert ids(lake, built) == {FIRST + 5000}
    assert dropped(lake, built) == {FIRST: ("copies_disagree", None), other: ("copies_disagree", None)}


def test_near_copies_of_one_label_give_way_to_the_lowest(lake: Lake, pond: Pond) -> None:
    pond.frog(FIRST, 102)
    pond.frog(FIRST + 1, 102, seed=FIRST, quality=60)
    pond.frog(FIRST + 2, 103, seed=FIRST, quality=40)  # another label: no proof that it is the same
    pond.frog(FIRST + 3, 102)
    built = build(lake, pond, frogs(dedupe={"rule": "near", "distance": 3}))
    assert ids(lake, built) == {FIRST, FIRST + 2, FIRST + 3}
    assert dropped(lake, built) == {FIRST + 1: ("near_copy", FIRST)}


def test_a_photo_gives_way_only_to_one_that_stays(lake: Lake, pond: Pond) -> None:
    """Of a chain a - b - c in which only neighbours are near, c stays, for b does not."""
    from lakehouse.snapshots.choice import _giving_way

    assert _giving_way([(1, 2), (2, 3)]) == {2: 1}
    assert _giving_way([(1, 2), (1, 3), (2, 3), (3, 4)]) == {2: 1, 3: 1}


# --- specimens photographed twice


@pytest.fixture
def specimens(lake: Lake, pond: Pond) -> tuple[SnapshotBuild, SnapshotBuild]:
    """40 specimens photographed twice, half of them under separate observations, and one picture under two
    labels; built without and with `dedupe: near`."""
    for number in range(40):
        one, other = FIRST + 2 * number, FIRST + 2 * number + 1
        pond.frog(one, (102, 103)[number % 2], seed=number)
        pond.frog(
            other,
            (102, 103)[number % 2],
            seed=number,
            quality=70,
            observation=one if number < 20 else None,
        )
    pond.frog(FIRST + 500, 111)
    pond.frog(beside(FIRST, FIRST + 501), 111, seed=0)
    return build(lake, pond, frogs()), build(lake, pond, frogs(dedupe="near"))


def test_the_report_tells_every_specimen_photographed_twice(
    lake: Lake, specimens: tuple[SnapshotBuild, SnapshotBuild], connection_to_lake: duckdb.DuckDBPyConnection
) -> None:
    plain, _ = specimens
    found = duplicates(connection_to_lake, lake, plain.root)
    assert dict(found.table.schema) == dict(DUPLICATES)
    assert found.counts["exact"] == {"groups": 1, "photos": 2, "cross_split": 0, "cross_label": 2}
    near = found.table.filter(pl.col("kind") == "near")
    assert near["group"].n_unique() == 40
    assert near.height == 80
    assert near.filter(pl.col("same_observation")).height == 40
    torn = near.filter(pl.col("cross_split"))
    splits = {row["photo_id"]: row["split"] for row in near.to_dicts()}
    assert torn.height == sum(2 for n in range(40) if splits[FIRST + 2 * n] != splits[FIRST + 2 * n + 1])
    assert 0 < torn.height < 80
    (told,) = copied(found, "cross_label")
    assert told.endswith("are the same bytes in 2 labels: Hyla una, Rana una")
    assert len(list(copied(found, "cross_split", "near"))) == min(torn.height // 2, 21)
    shown = examples(Snapshot(lake, plain.version), torn, most=4)
    assert len(shown) == 4
    assert all(image.startswith(b"\xff\xd8") for image, _ in shown)


def test_dedupe_leaves_each_specimen_once_and_no_doubtful_label(
    lake: Lake, specimens: tuple[SnapshotBuild, SnapshotBuild], connection_to_lake: duckdb.DuckDBPyConnection
) -> None:
    _, deduped = specimens
    found = duplicates(connection_to_lake, lake, deduped.root)
    assert found.table.is_empty()
    reasons = [reason for reason, _ in dropped(lake, deduped).values()]
    assert reasons.count("copies_disagree") == 2  # and so the near copy of the one stays
    assert reasons.count("near_copy") == 39
    assert deduped.root.counts.photos == 82 - 41
    assert list(miscounted(deduped.version, deduped.root)) == []


@pytest.fixture
def connection_to_lake(lake: Lake) -> duckdb.DuckDBPyConnection:
    with lake.connect() as connection:
        yield connection


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 8])
def test_near_hashes_are_those_that_comparing_all_finds(distance: int) -> None:
    chance = random.Random(distance)
    hashes = {chance.getrandbits(64) for _ in range(150)}
    for value in list(hashes):
        for bits in range(1, 11):
            hashes.add(value ^ sum(1 << bit for bit in chance.sample(range(64), bits)))
    hashes = {value for value in hashes if 4 <= value.bit_count() <= 60}
    wanted = {
        (a, b, (a ^ b).bit_count())
        for a in hashes
        for b in hashes
        if a < b and (a ^ b).bit_count() <= distance
    }
    with duckdb.connect() as cursor:
        listed = ", ".join(f"({value}::UBIGINT)" for value in hashes)
        near_values(cursor, f"SELECT * FROM (VALUES {listed}) v(dhash)", distance)
        assert set(cursor.execute("SELECT * FROM near_values").fetchall()) == wanted
    assert bool(wanted) == bool(distance)


def test_flat_pictures_are_like_nothing(lake: Lake) -> None:
    with duckdb.connect() as cursor:
        near_values(cursor, "SELECT * FROM (VALUES (0::UBIGINT), (1::UBIGINT), (3::UBIGINT)) v(dhash)", 2)
        assert cursor.execute("SELECT * FROM near_values").fetchall() == []


# --- labels and observers


def test_a_label_that_a_split_lacks_is_told_or_left_out(lake: Lake, pond: Pond) -> None:
    of = {split: [] for split in SPLITS}  # type: dict[str, list[int]]
    for number in range(FIRST, FIRST + 400):
        of[split_of(uuid_of(number), SPLITS)].append(number)
    for photo_id in of["train"][:3] + of["val"][:1] + of["test"][:1]:
        pond.frog(photo_id, 102)
    for photo_id in of["train"][3:6]:
        pond.frog(photo_id, 103)
    built = build(lake, pond, frogs())
    assert built.version.label_splits == {"train": 2, "val": 1, "test": 1}
    assert list(small_splits(built.version, built.root)) == [
        "1 of 2 labels have no photo in val",
        "1 of 2 labels have no photo in test",
    ]
    enforced = build(lake, pond, frogs(per_label={"min_per_split": 1}))
    assert enforced.root.counts.labels == 1
    assert enforced.version.accounting["dropped.per_label_min_in_split"] == 3
    assert list(small_splits(enforced.version, enforced.root)) == []


def test_by_observer_nobody_is_in_two_splits(lake: Lake, pond: Pond) -> None:
    for number in range(60):
        pond.frog(FIRST + number, (102, 103)[number % 2], observer=10 + number // 6)
    campaign = frogs(splits={**SPLITS, "group_by": "observer"})
    built = build(lake, pond, campaign)
    rows = Snapshot(lake, built.version).manifest.collect()
    assert rows.height == 60
    by_person = rows.group_by("creator").agg(pl.col("split").n_unique())
    assert by_person.height == 10
    assert by_person["split"].max() == 1
    assert rows["split"].n_unique() > 1
    with lake.connect() as connection:
        assert list(leaks(connection, lake, built.root)) == []
        plain = build(lake, pond, frogs())
        forged = plain.root.model_copy(update={"parameters": built.root.parameters})
        assert any("observers are in more than one split" in told for told in leaks(connection, lake, forged))


def test_an_observation_of_observers_in_two_splits_is_left_out(lake: Lake, pond: Pond) -> None:
    by = {split: [] for split in SPLITS}  # type: dict[str, list[int]]
    for observer in range(10, 100):
        by[split_of(f"observer:{observer}", SPLITS)].append(observer)
    pond.frog(FIRST, observer=by["train"][0])
    pond.frog(FIRST + 1, observation=FIRST, observer=by["test"][0])
    pond.frog(FIRST + 2, observer=by["test"][0])
    built = build(lake, pond, frogs(splits={**SPLITS, "group_by": "observer"}))
    assert ids(lake, built) == {FIRST + 2}
    assert built.version.accounting["excluded.observations_split"] == 2
