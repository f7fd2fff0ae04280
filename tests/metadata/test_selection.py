from __future__ import annotations

import hashlib
from collections.abc import Callable

import duckdb
import pyarrow.parquet as pq
import pytest

from lakehouse.campaign import Campaign
from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.partitions import build_plan
from lakehouse.metadata.schema import EXCLUDED, SELECTION
from lakehouse.metadata.selection import (
    SelectionReport,
    excluded_key,
    load_selection_report,
    preview,
    select_partition,
    selection_key,
    split_of,
)
from tests.metadata.conftest import Bucket, uuid_of

Build = Callable[[Bucket], str]
MakeCampaign = Callable[..., Campaign]
SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}


@pytest.fixture
def select(
    lake: Lake, build: Build, campaign: MakeCampaign, connection: duckdb.DuckDBPyConnection
) -> Callable[..., SelectionReport]:
    """Build everything and select the one partition of a campaign."""

    def run(bucket: Bucket, **values: object) -> SelectionReport:
        asked = campaign(**values)
        plan = build_plan(lake, asked, "mini", build(bucket))
        report = select_partition(lake, asked, plan, "ranidae-100", connection)
        assert report.considered == report.selected + sum(report.excluded.values())
        return report

    return run


Select = Callable[..., SelectionReport]


def selected(lake: Lake) -> list[dict[str, object]]:
    return lake.read_table(selection_key("frogs", "ranidae-100")).to_pylist()


def photos(lake: Lake) -> list[object]:
    return [row["photo_id"] for row in selected(lake)]


def test_a_selected_photo_has_all_that_a_dataset_needs(lake: Lake, bucket: Bucket, select: Select) -> None:
    bucket.observe(1, 104)
    bucket.photograph(10, 1, observer=2, extension="JPG")
    report = select(bucket)
    (row,) = selected(lake)
    assert (row["label_id"], row["label"], row["taxon_id"]) == (103, "Rana dua", 104)
    assert (row["creator"], row["observer_id"], row["license"]) == ("bob", 2, "CC-BY")
    assert (row["latitude"], row["longitude"]) == (41.1, -71.0)
    assert row["split"] == split_of(uuid_of(1), SPLITS)
    assert (report.considered, report.selected, report.labels, report.excluded) == (1, 1, 1, {})
    assert pq.read_schema(lake.uri(selection_key("frogs", "ranidae-100"))).equals(SELECTION)
    assert load_selection_report(lake, "frogs", "ranidae-100") == report
    stored = lake.get(selection_key("frogs", "ranidae-100"))
    assert report.digest == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize(
    ("observer", "creator"),
    [(1, "Ann Other"), (2, "bob"), (77, "unknown photographer"), ("", "unknown photographer")],
)
def test_the_creator_is_the_photographers_name_or_login(
    lake: Lake, bucket: Bucket, select: Select, observer: object, creator: str
) -> None:
    bucket.observe(1, 102)
    bucket.photograph(10, 1, observer=observer)
    select(bucket)
    assert selected(lake)[0]["creator"] == creator


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("CC-BY-NC", "licence"),
        ("", "unknown_licence"),
        ("GFDL", "unknown_licence"),
        ("cc-by", "unknown_licence"),
    ],
)
def test_a_licence_that_is_not_asked_for_or_not_known_is_left_out(
    bucket: Bucket, select: Select, licence: str, reason: str
) -> None:
    bucket.observe(1, 102)
    bucket.photograph(10, 1, licence=licence)
    assert select(bucket).excluded == {reason: 1}


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"quality": ["research"]}, [1]),
        ({"quality": ["research", "needs_id"]}, [1, 2]),
        ({"quality": ["research", "needs_id", "casual"], "bbox": [-80, 30, -60, 50]}, [1, 2]),
        ({"quality": ["research", "needs_id", "casual"], "bbox": [170, -50, -170, 50]}, [3, 4]),
        ({"quality": ["research", "needs_id", "casual"], "observed": {"from": "2020-05-01"}}, [1, 3]),
        ({"quality": ["research", "needs_id", "casual"], "observed": {"to": "2020-04-30"}}, [2]),
        ({"quality": ["research", "needs_id", "casual"], "observed": {}}, [1, 2, 3, 4, 5]),
        ({"quality": ["research", "needs_id", "casual"], "positional_accuracy_max": 10}, [1, 4]),
    ],
)
def test_where_restricts(
    lake: Lake, bucket: Bucket, select: Select, where: dict[str, object], kept: list[int]
) -> None:
    bucket.observe(1, 102, "research", "2020-05-01", ("41", "-70"), 10)
    bucket.observe(2, 102, "needs_id", "2020-04-30", ("41", "-70"), 11)
    bucket.observe(3, 102, "casual", "2021-01-01", ("41", "175"), "")
    bucket.observe(4, 102, "casual", "", ("41", "-175"), 0)
    bucket.observe(5, 102, "casual", "", ("", ""), "")
    for number in range(1, 6):
        bucket.photograph(number, number)
    select(bucket, where=where)
    assert photos(lake) == kept


def test_what_has_no_taxon_of_the_labels_rank_is_left_out(lake: Lake, bucket: Bucket, select: Select) -> None:
    for number, taxon in enumerate((100, 101, 105, 102), start=1):
        bucket.observe(number, taxon)
        bucket.photograph(number, number)
    assert select(bucket).excluded == {"not_at_label_rank": 3}
    assert select(bucket, label="genus").excluded == {"not_at_label_rank": 1}
    assert {row["label"] for row in selected(lake)} == {"Rana"}
    assert select(bucket, label="superfamily").excluded == {"not_at_label_rank": 4}


def test_shared_photos_whose_observations_disagree_or_are_split_are_listed(
    lake: Lake, bucket: Bucket, select: Select
) -> None:
    numbers = {
        name: next(n for n in range(1, 500) if split_of(uuid_of(n), SPLITS) == name) for name in SPLITS
    }
    second = next(n for n in range(numbers["train"] + 1, 500) if split_of(uuid_of(n), SPLITS) == "train")
    bucket.observe(numbers["train"], 102)
    bucket.observe(second, 102)
    bucket.observe(numbers["val"], 102)
    bucket.observe(numbers["test"], 103)
    for photo_id, claims in ((1, ("train", "val")), (2, ("train", "test")), (3, ("train",))):
        for name in claims:
            bucket.photograph(photo_id, numbers[name])
    bucket.photograph(4, numbers["train"])
    bucket.photograph(4, second)
    bucket.photograph(5, second, licence="?")
    bucket.photograph(6, second, licence="CC-BY-NC")
    report = select(bucket)
    assert report.excluded == {
        "observations_disagree": 1,
        "unknown_licence": 1,
        "licence": 1,
        "observations_split": 1,
    }
    assert photos(lake) == [3, 4]
    listed = lake.read_table(excluded_key("frogs", "ranidae-100"))
    assert listed.schema.equals(EXCLUDED)
    assert [tuple(row.values()) for row in listed.to_pylist()] == [
        (1, "observations_split"),
        (2, "observations_disagree"),
        (5, "unknown_licence"),
    ]


def test_labels_are_bounded_by_the_lowest_hash_first(lake: Lake, bucket: Bucket, select: Select) -> None:
    bucket.observe(1, 102)
    bucket.observe(2, 103)
    bucket.observe(3, 111)
    for photo_id in range(1, 21):
        bucket.photograph(photo_id, 1)
    for photo_id in range(21, 24):
        bucket.photograph(photo_id, 2)
    bucket.photograph(24, 3, licence="CC-BY-NC")
    bucket.photograph(25, 3)
    bucket.photograph(26, 3)
    report = select(bucket, per_label={"min": 3, "max": 5})
    assert report.excluded == {"licence": 1, "per_label_min": 2, "per_label_max": 15}
    assert report.labels == 2
    lowest = sorted(
        range(1, 21), key=lambda photo_id: hashlib.sha256(f"lakehouse:{photo_id}".encode()).hexdigest()
    )[:5]
    assert photos(lake) == [*sorted(lowest), 21, 22, 23]


def test_the_same_photos_give_the_same_bytes(lake: Lake, bucket: Bucket, select: Select) -> None:
    for number in range(1, 30):
        bucket.observe(number, (102, 103, 111)[number % 3])
        bucket.photograph(100 - number, number)
    first = select(bucket)
    bucket.photos.reverse()
    bucket.observers.append((3, "cat", ""))
    second = select(bucket)
    assert second.release != first.release and second.plan_digest != first.plan_digest
    assert second.digest == first.digest


def test_an_unknown_partition_and_an_absent_report(
    lake: Lake, bucket: Bucket, build: Build, campaign: MakeCampaign, connection: duckdb.DuckDBPyConnection
) -> None:
    plan = build_plan(lake, campaign(), "mini", build(bucket))
    assert load_selection_report(lake, "frogs", "ranidae-100") is None
    with pytest.raises(NotFoundError):
        select_partition(lake, campaign(), plan, "toads-1", connection)


def test_a_preview_says_what_would_be_selected_and_writes_nothing(
    lake: Lake, bucket: Bucket, build: Build, campaign: MakeCampaign, connection: duckdb.DuckDBPyConnection
) -> None:
    photo_id = 0
    for number, (taxon, count) in enumerate(((102, 5), (103, 2), (111, 4), (101, 1)), start=1):
        bucket.observe(number, taxon)
        for licence in ("CC0", *["CC-BY"] * (count - 1)):
            photo_id += 1
            bucket.photograph(photo_id, number, licence=licence)
    asked = campaign(partition={"max_photos": 6})
    plan = build_plan(lake, asked, "mini", build(bucket))
    seen = preview(lake, asked, plan, connection)
    assert (seen.considered, seen.photos, seen.partitions) == (12, 11, len(plan.partitions))
    assert [(label.label, label.photos) for label in seen.labels] == [
        ("Rana una", 5),
        ("Hyla una", 4),
        ("Rana dua", 2),
    ]
    assert seen.licenses == {"CC0": 3, "CC-BY": 8}
    assert seen.excluded == {"not_at_label_rank": 1}
    assert not list(lake.list("campaigns/frogs/selection"))
    for partition in plan.partitions:
        select_partition(lake, asked, plan, partition.key, connection)
    reports = [load_selection_report(lake, "frogs", partition.key) for partition in plan.partitions]
    assert sum(report.selected for report in reports if report) == 11
