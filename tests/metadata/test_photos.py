from __future__ import annotations

import uuid
from collections.abc import Callable

import duckdb
import pyarrow.parquet as pq
import pytest

from lakehouse.lake import Lake
from lakehouse.metadata import buckets, join, photos, runs
from lakehouse.metadata.photos import (
    NO_OBSERVATION,
    NO_TAXON,
    UNKNOWN_TAXON,
    build_photos,
    digests_key,
    load_photos_report,
    photo_files,
    photos_key,
    photos_rejects_key,
    read_photos,
)
from lakehouse.metadata.schema import PHOTOS, PHOTOS_INDEX, PHOTOS_REJECTS
from lakehouse.metadata.taxonomy import Taxonomy
from tests.metadata.conftest import Bucket, uuid_of

Build = Callable[[Bucket], str]


def table(lake: Lake, release: str) -> dict[int, dict[str, object]]:
    report = load_photos_report(lake, "mini", release)
    files = [photos_key("mini", release, f"part-{n:05}.parquet") for n in range(report.files)]
    rows = [row for file in files for row in lake.read_table(file).to_pylist()]
    assert len({row["photo_id"] for row in rows}) == len(rows) == report.photos
    return {row["photo_id"]: row for row in rows}


def test_a_photo_carries_its_observation(lake: Lake, bucket: Bucket, build: Build) -> None:
    bucket.observe(1, 102, on="2021-02-03", at=("1.5", "-2.5"), accuracy=7)
    bucket.photograph(10, 1, observer=2, extension="JPG", licence="CC0")
    (row,) = table(lake, build(bucket)).values()
    assert row["observation_uuid"] == uuid.UUID(uuid_of(1))
    assert (row["taxon_id"], row["observer_id"], row["extension"], row["license"]) == (102, 2, "JPG", "CC0")
    assert (row["latitude"], row["longitude"], row["positional_accuracy"]) == (1.5, -2.5, 7)
    assert str(row["observed_on"]) == "2021-02-03"
    assert (row["other_observations"], row["taxa_disagree"]) == (None, False)


def test_tables_have_their_schemas(lake: Lake, bucket: Bucket, build: Build) -> None:
    bucket.observe(1, 102)
    bucket.photograph(10, 1)
    release = build(bucket)
    for key, schema in (
        (photos_key("mini", release, "part-00000.parquet"), PHOTOS),
        (photos_key("mini", release, "index.parquet"), PHOTOS_INDEX),
        (photos_rejects_key("mini", release), PHOTOS_REJECTS),
    ):
        assert pq.read_schema(lake.uri(key)).equals(schema)


def test_a_shared_photo_keeps_the_lowest_observation_and_lists_the_others(
    lake: Lake, bucket: Bucket, build: Build
) -> None:
    for number, taxon in ((3, 102), (1, 102), (2, 102)):
        bucket.observe(number, taxon)
        bucket.photograph(10, number)
    (row,) = table(lake, build(bucket)).values()
    assert row["observation_uuid"] == uuid.UUID(uuid_of(1))
    assert row["other_observations"] == [uuid.UUID(uuid_of(2)), uuid.UUID(uuid_of(3))]
    assert row["taxa_disagree"] is False


def test_observations_of_different_taxa_disagree(lake: Lake, bucket: Bucket, build: Build) -> None:
    bucket.observe(1, 102)
    bucket.observe(2, 103)
    bucket.photograph(10, 1)
    bucket.photograph(10, 2)
    (row,) = table(lake, build(bucket)).values()
    assert (row["taxon_id"], row["taxa_disagree"]) == (102, True)


def test_a_taxon_nobody_knows_disagrees_too(lake: Lake, bucket: Bucket, build: Build) -> None:
    bucket.observe(1, 999_999)
    bucket.observe(2, 103)
    bucket.photograph(10, 1)
    bucket.photograph(10, 2)
    (row,) = table(lake, build(bucket)).values()
    assert (row["taxon_id"], row["taxa_disagree"], row["other_observations"]) == (103, True, None)


def test_a_photo_whose_rows_differ_in_licence_has_none(lake: Lake, bucket: Bucket, build: Build) -> None:
    for number, licence in ((1, "CC0"), (2, "")):
        bucket.observe(number, 102)
        bucket.photograph(10, number, licence=licence)
    (row,) = table(lake, build(bucket)).values()
    assert row["license"] is None


def test_every_raw_row_is_accounted_for(lake: Lake, bucket: Bucket, build: Build) -> None:
    bucket.observe(1, 102)
    bucket.observe(2, "")
    bucket.observe(3, 999_999)
    bucket.observe(4, 111)
    bucket.photograph(10, 1)
    bucket.photograph(10, 1)  # exact duplicate
    bucket.photograph(11, 1)
    bucket.photograph(11, 4)  # shared
    bucket.photograph(12, 2)
    bucket.photograph(13, 3)
    bucket.photograph(14, 77)
    bucket.photograph(11, 77)
    release = build(bucket)
    report = load_photos_report(lake, "mini", release)
    assert (report.raw_rows, report.photos, report.duplicates, report.shared_extra) == (8, 2, 1, 1)
    assert report.rejected == {NO_OBSERVATION: 2, NO_TAXON: 1, UNKNOWN_TAXON: 1}
    assert (report.shared, report.disagreeing) == (1, 1)
    assert sum(report.accounting().values()) == report.raw_rows
    rejects = lake.read_table(photos_rejects_key("mini", release)).to_pylist()
    assert sorted((row["photo_id"], row["rule"]) for row in rejects) == [
        (11, NO_OBSERVATION),
        (12, NO_TAXON),
        (13, UNKNOWN_TAXON),
        (14, NO_OBSERVATION),
    ]


def test_a_repeated_observation_does_not_multiply_its_photos(
    lake: Lake, bucket: Bucket, build: Build
) -> None:
    bucket.observe(1, 102)
    bucket.observe(1, 102)
    bucket.observe(2, 102)
    bucket.observe(2, 103)
    bucket.photograph(10, 1)
    bucket.photograph(11, 2)
    report = load_photos_report(lake, "mini", build(bucket))
    assert (report.photos, report.rejected) == (1, {NO_TAXON: 1})


def test_files_are_cut_between_taxa_and_found_by_range(
    lake: Lake, bucket: Bucket, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "FILE_ROWS", 5)
    photo_id = 0
    for number, taxon in enumerate((102, 103, 111, 201), start=1):
        bucket.observe(number, taxon)
        for _ in range(4):
            photo_id += 1
            bucket.photograph(photo_id, number)
    release = build(bucket)
    index = lake.read_table(photos_key("mini", release, "index.parquet")).to_pylist()
    assert [part["rows"] for part in index] == [8, 8]
    assert index[0]["lft_max"] < index[1]["lft_min"]
    taxonomy = Taxonomy.load(lake, "mini", release)
    found = {
        taxon: photo_files(lake, "mini", release, [taxonomy.resolve(taxon).interval])
        for taxon in (102, 201, 1, 105)
    }
    assert found[102] != found[201] and len(found[102]) == len(found[201]) == 1
    assert len(found[1]) == 2
    assert not set(found[105]) - set(found[1])


def test_the_table_is_sorted_and_the_same_from_rows_in_any_order(
    lake: Lake, bucket: Bucket, build: Build
) -> None:
    for number in range(1, 60):
        bucket.observe(number, (102, 103, 111, 201)[number % 4])
        bucket.photograph(1000 - number, number)
    first = build(bucket)
    bucket.photos.reverse()
    bucket.observations.reverse()
    second = build(bucket)
    assert first != second
    one, other = (lake.get(photos_key("mini", release, "part-00000.parquet")) for release in (first, second))
    assert one == other
    rows = lake.read_table(photos_key("mini", first, "part-00000.parquet")).to_pylist()
    order = [(row["lft"], row["photo_id"]) for row in rows]
    assert order == sorted(order)


def test_photos_are_built_once(
    lake: Lake, bucket: Bucket, build: Build, connection: duckdb.DuckDBPyConnection
) -> None:
    bucket.observe(1, 102)
    bucket.photograph(10, 1)
    release = build(bucket)
    lake.delete(photos_key("mini", release, "part-00000.parquet"))
    assert build_photos(lake, "mini", release, connection).photos == 1


def test_photos_of_a_subtree_are_read_alone(lake: Lake, bucket: Bucket, build: Build) -> None:
    for number, taxon in ((1, 102), (2, 103), (3, 111)):
        bucket.observe(number, taxon)
        bucket.photograph(10 * number, number)
    release = build(bucket)
    taxonomy = Taxonomy.load(lake, "mini", release)
    for taxon in (102, 103, 111, 100):
        low, high = taxonomy.resolve(taxon).interval
        labels = {photo_id: int(str(row["lft"])) for photo_id, row in table(lake, release).items()}
        expected = sorted(photo_id for photo_id, label in labels.items() if low <= label < high)
        found = read_photos(lake, "mini", release, [(low, high)])
        assert sorted(found["photo_id"].to_pylist()) == expected
        assert found.schema.equals(PHOTOS)
    assert len(read_photos(lake, "mini", release, [(0, 0)], ["photo_id"])) == 0


def test_a_row_group_tells_of_its_own_labels_and_no_other(
    lake: Lake, bucket: Bucket, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "PHOTOS_GROUP", 4)
    monkeypatch.setattr(photos, "DIGESTS_GROUP", 8)
    for number in range(1, 31):
        bucket.observe(number, (102, 103, 104, 111)[number % 4])
        bucket.photograph(number, number)
    release = build(bucket)
    key = photos_key("mini", release, "part-00000.parquet")
    with pq.ParquetFile(lake.uri(key)) as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4] * 7 + [2]
        for number in range(file.num_row_groups):
            labels = file.read_row_group(number, ["lft"])["lft"].to_pylist()
            told = file.metadata.row_group(number).column(file.schema.names.index("lft")).statistics
            assert (told.min, told.max) == (min(labels), max(labels))
    groups = pq.read_metadata(lake.uri(digests_key(key)))
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [8, 8, 8, 6]
    taxonomy = Taxonomy.load(lake, "mini", release)
    for taxon in (102, 103, 104, 111):
        low, high = taxonomy.resolve(taxon).interval
        expected = {one for one, row in table(lake, release).items() if low <= int(str(row["lft"])) < high}
        assert set(read_photos(lake, "mini", release, [(low, high)])["photo_id"].to_pylist()) == expected


def test_a_table_that_lost_a_photo_is_read_as_it_is(lake: Lake, bucket: Bucket, build: Build) -> None:
    bucket.observe(1, 102)
    for number in range(1, 6):
        bucket.photograph(number, 1)
    release = build(bucket)
    everything = [(0, 1 << 62)]
    whole = read_photos(lake, "mini", release, everything)
    with lake.parquet_writer(photos_key("mini", release, "part-00000.parquet"), PHOTOS) as writer:
        writer.write_table(whole.slice(1))
    assert read_photos(lake, "mini", release, everything)["photo_id"].to_pylist() == [2, 3, 4, 5]


def test_buckets_and_ranges_change_nothing(
    lake: Lake, bucket: Bucket, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 61):
        bucket.observe(number, (102, 103, 104, 111, "", 999_999)[number % 6])
        bucket.photograph(number, number)
        bucket.photograph(1000 + number % 7, number)
    whole = table(lake, build(bucket))
    bucket.observers.append((9, "new", ""))  # another release of the same photos
    monkeypatch.setattr(join, "BUCKET_ROWS", 9)
    monkeypatch.setattr(buckets, "IDS", 20)
    monkeypatch.setattr(buckets, "CUT_ROWS", 10)
    monkeypatch.setattr(runs, "RANGE_ROWS", 6)
    monkeypatch.setattr(runs, "SAMPLE_ROWS", 2)
    release = build(bucket)
    assert table(lake, release) == whole
    report = load_photos_report(lake, "mini", release)
    assert sum(report.accounting().values()) == report.raw_rows == 120
    assert report.shared == 7
