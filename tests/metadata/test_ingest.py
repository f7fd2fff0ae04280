from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lakehouse.errors import NotFoundError, SourceError
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import (
    RawRelease,
    ingest_release,
    latest_release,
    list_releases,
    load_raw_release,
    raw_rejects_key,
    raw_table_key,
)
from lakehouse.metadata.photos import NO_OBSERVATION, UNKNOWN_TAXON, build_photos
from lakehouse.metadata.schema import RAW, REJECTS
from lakehouse.metadata.taxonomy import build_taxa
from lakehouse.settings import Settings
from lakehouse.sources.base import TableFile
from lakehouse.sources.inaturalist import InaturalistSource
from tests.metadata.conftest import HEADERS, Bucket, text_of

Ingest = Callable[..., RawRelease]
SAMPLE = (
    Path(__file__).parents[2].parent / "shared" / "data" / "inat_open_data_sample" / "inaturalist-open-data"
)


def test_every_table_has_its_schema(lake: Lake, bucket: Bucket, ingest: Ingest) -> None:
    release = ingest(bucket)
    for table in release.tables:
        key = raw_table_key("mini", release.release_id, table.name)
        assert pq.read_schema(lake.uri(key)).equals(RAW[table.name]), table.name
        rejects = raw_rejects_key("mini", release.release_id, table.name)
        assert pq.read_schema(lake.uri(rejects)).equals(REJECTS)


def test_the_marker_names_the_stored_bytes(lake: Lake, bucket: Bucket, ingest: Ingest) -> None:
    release = ingest(bucket)
    stored = (bucket.directory / "photos.csv.gz").read_bytes()
    report = release.table("photos")
    assert (report.sha256, report.size) == (hashlib.sha256(stored).hexdigest(), len(stored))
    assert (report.lines, report.rows, report.rejected, report.blank) == (2, 1, 0, 0)
    assert load_raw_release(lake, "mini", release.release_id) == release


def test_plain_and_gzip_tables_give_the_same_rows(lake: Lake, bucket: Bucket, ingest: Ingest) -> None:
    gzipped = ingest(bucket)
    for table in HEADERS:
        packed = bucket.directory / f"{table}.csv.gz"
        (bucket.directory / f"{table}.csv").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    with InaturalistSource("mini", str(bucket.directory), lake.settings) as source:
        plain = ingest_release(lake, source, source.current_release())
    assert plain.release_id != gzipped.release_id
    for table in HEADERS:
        files = [lake.get(raw_table_key("mini", one.release_id, table)) for one in (plain, gzipped)]
        assert files[0] == files[1]


def test_a_release_is_ingested_once(lake: Lake, bucket: Bucket, ingest: Ingest) -> None:
    release = ingest(bucket)
    with InaturalistSource("mini", str(bucket.directory), lake.settings) as source:
        current = source.current_release()
        for table in HEADERS:
            (bucket.directory / f"{table}.csv.gz").unlink()
        assert ingest_release(lake, source, current) == release


def test_an_unknown_header_is_an_error_that_shows_both(bucket: Bucket, ingest: Ingest) -> None:
    bucket.raw["photos"] = b"photo_uuid\tphoto_id\n1\t2\n"
    with pytest.raises(
        SourceError, match=r"photos\.csv\.gz.*'photo_uuid\\tphoto_id', expected the header 'photo_uuid"
    ):
        ingest(bucket)


def test_windows_line_ends_are_told_by_the_header(bucket: Bucket, ingest: Ingest) -> None:
    bucket.raw["observers"] = text_of("observers", [(1, "a", "b")]).replace(b"\n", b"\r\n")
    with pytest.raises(SourceError, match=r"observers\.csv\.gz.*name\\r"):
        ingest(bucket)


def test_observations_of_eight_and_nine_columns_are_both_known(bucket: Bucket, ingest: Ingest) -> None:
    bucket.observe(1, 102)
    nine = text_of("observations", bucket.observations)
    bucket.raw["observations"] = b"".join(line.rpartition(b"\t")[0] + b"\n" for line in nine.splitlines())
    assert ingest(bucket).table("observations").rows == 1


@pytest.mark.parametrize(
    "text", [b"\t".join(name.encode() for name in RAW["photos"].names) + end for end in (b"\n", b"")]
)
def test_a_table_with_nothing_but_its_header_is_an_error(bucket: Bucket, ingest: Ingest, text: bytes) -> None:
    bucket.raw["photos"] = text
    with pytest.raises(SourceError, match=r"photos\.csv\.gz of source mini has no rows"):
        ingest(bucket)


def test_a_table_with_nothing_at_all_is_an_error(bucket: Bucket, ingest: Ingest) -> None:
    bucket.raw["photos"] = gzip.compress(b"")
    with pytest.raises(SourceError, match=r"photos\.csv\.gz of source mini holds nothing"):
        ingest(bucket)


def test_hazards_in_one_file_are_all_accounted_for(lake: Lake, bucket: Bucket, ingest: Ingest) -> None:
    good = [(number, f"user{number}", 'He said "hi"') for number in range(1, 101)]
    text = (
        text_of("observers", good)
        + b"\n"
        + b"7\tcut\n"
        + b"8\tbad\xff\tname\n"
        + b"9\ta\tb\tc\n"
        + b"10\tlas"
    )
    bucket.raw["observers"] = gzip.compress(text[:500]) + gzip.compress(text[500:])
    release = ingest(bucket)
    report = release.table("observers")
    assert (report.rows, report.rejected, report.blank, report.lines) == (100, 4, 1, 106)
    rejects = lake.read_table(raw_rejects_key("mini", release.release_id, "observers"))
    assert list(zip(rejects["line"].to_pylist(), rejects["rule"].to_pylist(), strict=True)) == [
        (103, "field count 2, expected 3"),
        (104, "not UTF-8"),
        (105, "field count 4, expected 3"),
        (106, "last row cut short"),
    ]


def test_a_table_of_mostly_bad_lines_is_an_error(bucket: Bucket, ingest: Ingest) -> None:
    bucket.raw["observers"] = text_of("observers", [(1, "a", "b")]) + b"bad\n" * 2000
    with pytest.raises(SourceError, match=r"2,000 lines break a rule.*line 2002: field count 1, expected 3"):
        ingest(bucket)


def test_a_table_that_shrank_below_half_is_refused_unless_accepted(
    lake: Lake, bucket: Bucket, ingest: Ingest
) -> None:
    for number in range(1, 11):
        bucket.observe(number, 102)
        bucket.photograph(number, number)
    first = ingest(bucket)
    del bucket.photos[4:]
    with pytest.raises(
        SourceError, match=f"has 4 rows, less than half of the 10 in release {first.release_id}"
    ):
        ingest(bucket)
    assert list_releases(lake, "mini") == [first.release_id]
    second = ingest(bucket, accept_shrink=True)
    assert list_releases(lake, "mini") == [first.release_id, second.release_id]
    assert latest_release(lake, "mini") == second.release_id


def test_releases_are_listed_in_the_order_of_ingest(lake: Lake, bucket: Bucket, ingest: Ingest) -> None:
    assert list_releases(lake, "mini") == [] and latest_release(lake, "mini") is None
    ids = []
    for number in range(1, 5):
        bucket.observe(number, 102)
        ids.append(ingest(bucket).release_id)
    assert list_releases(lake, "mini") == ids
    with pytest.raises(NotFoundError):
        load_raw_release(lake, "mini", "20200101-000000000000")


class Changing(InaturalistSource):
    """A source whose dump is replaced while it is read."""

    def read_table(self, table: TableFile) -> Iterator[bytes]:
        yield from super().read_table(table)
        path = Path(self._transport.location("taxa.csv.gz"))
        if table.name == "taxa":
            path.write_bytes(path.read_bytes() + gzip.compress(b""))


def test_a_dump_that_changes_behind_its_reader_is_not_taken_in(lake: Lake, bucket: Bucket) -> None:
    bucket.observe(1, 102)
    bucket.photograph(1, 1)
    bucket.write()
    with (
        Changing("mini", str(bucket.directory), lake.settings) as source,
        pytest.raises(SourceError, match="changed while release"),
    ):
        ingest_release(lake, source, source.current_release())
    assert list_releases(lake, "mini") == []


def test_a_size_that_is_not_as_announced_is_an_error(lake: Lake, bucket: Bucket) -> None:
    bucket.write()
    bucket.observe(1, 102)
    bucket.write()

    class Lying(InaturalistSource):
        def read_table(self, table: TableFile) -> Iterator[bytes]:
            return iter([(bucket.directory / table.key).read_bytes()])

    with Lying("mini", str(bucket.directory), lake.settings) as source:
        release = source.current_release()
        tables = tuple(replace(table, size=table.size + 1) for table in release.tables)
        with pytest.raises(SourceError, match="bytes were read of"):
            ingest_release(lake, source, replace(release, tables=tables))


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real sample is not beside this checkout")
def test_the_real_sample_is_read_and_every_row_accounted_for(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), Settings())
    with InaturalistSource("sample", str(SAMPLE), lake.settings) as source:
        release = ingest_release(lake, source, source.current_release())
    counts = {table.name: (table.rows, table.rejected, table.blank) for table in release.tables}
    assert counts == {
        "observations": (48, 2, 0),
        "observers": (50, 0, 0),
        "photos": (50, 0, 0),
        "taxa": (50, 0, 0),
    }
    rejects = lake.read_table(raw_rejects_key("sample", release.release_id, "observations")).to_pylist()
    assert [(reject["line"], reject["rule"]) for reject in rejects] == [
        (27, "field count 9, expected 8"),
        (28, "field count 9, expected 8"),
    ]
    taxa = build_taxa(lake, "sample", release.release_id)
    assert (taxa.taxa, taxa.inactive, taxa.orphans) == (50, 20, 50)
    with lake.connect() as connection:
        photos = build_photos(lake, "sample", release.release_id, connection)
    assert sum(photos.accounting().values()) == photos.raw_rows == 50
    assert photos.rejected == {NO_OBSERVATION: 2, UNKNOWN_TAXON: 48}
