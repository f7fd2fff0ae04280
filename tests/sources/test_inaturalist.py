from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse.errors import SourceError
from lakehouse.settings import Settings
from lakehouse.sources.inaturalist import TABLES, InaturalistSource, release_id
from tests.sources.conftest import Site


def fill(directory: Path, suffix: str = ".csv.gz") -> None:
    directory.mkdir(exist_ok=True)
    for table in TABLES:
        path = directory / f"{table}{suffix}"
        path.write_bytes(gzip.compress(table.encode(), mtime=0))
        os.utime(path, (1_787_800_000, 1_787_800_000))


def source(directory: Path | str) -> InaturalistSource:
    return InaturalistSource("mini", str(directory), Settings())


def test_a_release_is_named_by_date_and_etags(tmp_path: Path) -> None:
    fill(tmp_path)
    release = source(tmp_path).current_release()
    assert release.source == "mini"
    assert [table.name for table in release.tables] == list(TABLES)
    assert release.release_id.startswith("20260827-") and len(release.release_id) == 21
    assert source(tmp_path).current_release() == release
    (tmp_path / "photos.csv.gz").write_bytes(b"other")
    assert source(tmp_path).current_release().release_id != release.release_id


def test_tables_without_a_date_have_a_release_without_one(tmp_path: Path) -> None:
    fill(tmp_path)
    tables = source(tmp_path).current_release().tables
    for unknown in (None, "yesterday"):
        undated = tuple(replace(table, last_modified=unknown) for table in tables)
        assert release_id(undated).startswith("00000000-")


def test_plain_tables_are_taken_where_there_is_no_gzip(tmp_path: Path) -> None:
    fill(tmp_path, ".csv")
    assert [table.key for table in source(tmp_path).current_release().tables] == [
        f"{name}.csv" for name in TABLES
    ]


def test_a_missing_table_is_an_error_that_names_it(tmp_path: Path, site: Site) -> None:
    fill(tmp_path)
    (tmp_path / "photos.csv.gz").unlink()
    with pytest.raises(SourceError, match=r"photos\.csv\.gz is not there .* check LAKEHOUSE_SOURCE"):
        source(tmp_path).current_release()
    with pytest.raises(SourceError, match=rf"{site.url}/observations\.csv\.gz is not there"):
        source(site.url).current_release()


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "observers.csv.gz").write_bytes(b"")
    with pytest.raises(SourceError, match=r"observers\.csv\.gz is empty \(0 bytes\)"):
        source(tmp_path).current_release()


def test_tables_are_read_as_they_are_stored(tmp_path: Path, site: Site) -> None:
    fill(tmp_path)
    site.files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with source(site.url) as served:
        for table in served.current_release().tables:
            assert b"".join(served.read_table(table)) == (tmp_path / table.key).read_bytes()


def test_photo_urls_keep_the_raw_extension(tmp_path: Path) -> None:
    assert (
        source("https://example.org/d/").photo_url(7, "JPG", "medium")
        == "https://example.org/d/photos/7/medium.JPG"
    )
    assert source(tmp_path).photo_url(7, "jpg", "large") == f"{tmp_path.as_uri()}/photos/7/large.jpg"


def test_the_reference_is_the_address_unless_told(tmp_path: Path) -> None:
    assert source("https://example.org/d/").reference_url == "https://example.org/d"
    assert source(tmp_path).reference_url == tmp_path.as_uri()
    assert InaturalistSource("e", "http://127.0.0.1:1", Settings(), "embedded:").reference_url == "embedded:"


def test_the_newer_tables_are_part_of_a_release_that_has_them(tmp_path: Path) -> None:
    fill(tmp_path)
    without = source(tmp_path).current_release()
    for name in ("projects.csv.gz", "observations_projects.csv"):
        (tmp_path / name).write_bytes(b"x")
    release = source(tmp_path).current_release()
    assert [table.name for table in release.tables] == [*TABLES, "observations_projects", "projects"]
    assert release.release_id != without.release_id


def test_tables_of_different_months_are_refused(tmp_path: Path, site: Site) -> None:
    fill(tmp_path)
    site.files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    site.dates = {"taxa.csv.gz": "Mon, 27 Jul 2026 03:00:00 GMT"}
    expected = r"taxa\.csv\.gz is of 2026-07-27, .* of 2026-08-27.*LAKEHOUSE_MAX_SPREAD_DAYS above 31"
    with source(site.url) as served, pytest.raises(SourceError, match=expected):
        served.current_release()
    patient = InaturalistSource("mini", site.url, Settings(max_spread_days=40))
    with patient as served:
        assert served.current_release().release_id.startswith("20260827-")


def test_an_upload_that_takes_days_is_one_month(tmp_path: Path, site: Site) -> None:
    fill(tmp_path)
    site.files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    site.dates = {"observations.csv.gz": "Sat, 22 Aug 2026 03:00:00 GMT"}
    with source(site.url) as served:
        assert served.current_release().release_id.startswith("20260827-")


def test_times_of_a_directory_say_nothing_of_months(tmp_path: Path) -> None:
    fill(tmp_path)
    os.utime(tmp_path / "taxa.csv.gz", (1_700_000_000, 1_700_000_000))
    assert source(tmp_path).current_release().release_id.startswith("20260827-")


@pytest.mark.parametrize(
    ("header", "value", "digest"),
    [
        ("x-amz-server-side-encryption", "aws:kms", False),
        ("x-amz-server-side-encryption", "AES256", True),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", False),
    ],
)
def test_the_etag_of_an_object_under_an_own_key_is_no_digest(
    tmp_path: Path, site: Site, header: str, value: str, digest: bool
) -> None:
    fill(tmp_path)
    site.files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    site.headers = {header: value}
    with source(site.url) as served:
        assert {table.digest for table in served.current_release().tables} == {digest}
