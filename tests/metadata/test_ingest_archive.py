"""A release out of the dated archive, the tables that not every release has, and ETags that are digests."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.errors import NotFoundError, SourceError
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import RawRelease, ingest_release, list_releases, raw_table_key
from lakehouse.settings import Settings
from lakehouse.sources.archive import ArchiveSource
from lakehouse.sources.inaturalist import InaturalistSource
from tests.metadata.conftest import HEADERS, Bucket, text_of, uuid_of
from tests.sources.conftest import Site, site

__all__ = ["site"]

Ingest = Callable[..., RawRelease]
PROJECTS = b'project_id\ttitle\tslug\n7\tFrogs "of" here\tfrogs\n'
LINKS = f"observation_uuid\tproject_id\n{uuid_of(1)}\t7\n".encode()


def some(bucket: Bucket, photos: int = 10) -> Bucket:
    for number in range(1, photos + 1):
        bucket.observe(number, 102)
        bucket.photograph(number, number)
    return bucket


def archive(bucket: Bucket, path: Path, extra: dict[str, bytes] | None = None) -> Path:
    """The bucket's rows as a dated archive."""
    path.parent.mkdir(exist_ok=True)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        texts = {f"{table}.csv": text_of(table, getattr(bucket, table)) for table in HEADERS}
        for name, text in {**texts, **(extra or {})}.items():
            member = tarfile.TarInfo(f"inaturalist-open-data-20260827/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    path.write_bytes(gzip.compress(stream.getvalue(), mtime=0))
    return path


def take_in(lake: Lake, path: Path | str, **options: bool) -> RawRelease:
    with ArchiveSource("mini", str(path), lake.settings) as source:
        return ingest_release(lake, source, source.current_release(), **options)


def test_an_archive_gives_the_same_tables_as_its_files(
    lake: Lake, bucket: Bucket, ingest: Ingest, tmp_path: Path
) -> None:
    files = ingest(some(bucket))
    path = archive(bucket, tmp_path / "metadata" / "inaturalist-open-data-20260827.tar.gz")
    packed = take_in(lake, path)
    assert packed.archive is not None
    assert packed.archive.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {table.etag_check for table in packed.tables} == {"archive"}
    for table in HEADERS:
        both = [lake.get(raw_table_key("mini", one.release_id, table)) for one in (files, packed)]
        assert both[0] == both[1]
    assert list_releases(lake, "mini") == [files.release_id, packed.release_id]
    assert take_in(lake, path) == packed


def test_an_archive_is_held_against_its_etag(lake: Lake, bucket: Bucket, tmp_path: Path, site: Site) -> None:
    path = archive(some(bucket), tmp_path / "a.tar.gz")
    site.files["a.tar.gz"] = path.read_bytes()
    release = take_in(lake, f"{site.url}/a.tar.gz")
    assert release.archive is not None and release.archive.etag_check == "md5"
    site.tags["a.tar.gz"] = "0" * 32
    with pytest.raises(SourceError, match="not those of its ETag 000"):
        take_in(lake, f"{site.url}/a.tar.gz")
    assert list_releases(lake, "mini") == [release.release_id]


def test_an_archive_that_shrank_is_refused(lake: Lake, bucket: Bucket, tmp_path: Path) -> None:
    take_in(lake, archive(some(bucket), tmp_path / "a.tar.gz"))
    del bucket.photos[3:]
    path = archive(bucket, tmp_path / "a.tar.gz")
    with pytest.raises(SourceError, match=r"photos\.csv of source mini has 3 rows, less than half of the 10"):
        take_in(lake, path)
    assert take_in(lake, path, accept_shrink=True).table("photos").rows == 3


def test_how_much_a_table_may_lose_is_a_setting(tmp_path: Path, bucket: Bucket) -> None:
    for most, taken in ((0.1, False), (0.4, True)):
        lake = Lake(str(tmp_path / f"lake{most}"), Settings(max_shrink=most))
        bucket.photos.clear()
        take_in(lake, archive(some(bucket), tmp_path / "a.tar.gz"))
        del bucket.photos[7:]
        path = archive(bucket, tmp_path / "a.tar.gz")
        if taken:
            assert take_in(lake, path).table("photos").rows == 7
        else:
            with pytest.raises(SourceError, match=r"less than 90% of the 10 .*_MAX_SHRINK, now 0\.1"):
                take_in(lake, path)


@pytest.fixture
def served(bucket: Bucket, site: Site, lake: Lake) -> Callable[[], RawRelease]:
    """Ingest what the site serves: the bucket's tables, and what was put there."""
    some(bucket).write()
    for table in HEADERS:
        site.files[f"{table}.csv.gz"] = (bucket.directory / f"{table}.csv.gz").read_bytes()

    def run() -> RawRelease:
        with InaturalistSource("mini", site.url, lake.settings) as source:
            return ingest_release(lake, source, source.current_release())

    return run


def test_an_etag_that_is_a_digest_is_checked(served: Callable[[], RawRelease], site: Site) -> None:
    data = site.files["taxa.csv.gz"]
    site.tags["taxa.csv.gz"] = hashlib.md5(hashlib.md5(data).digest()).hexdigest() + "-1"
    site.tags["observers.csv.gz"] = "66f1a2b3-1f4"
    release = served()
    assert {table.name: table.etag_check for table in release.tables} == {
        "observations": "md5",
        "observers": "unverifiable",
        "photos": "md5",
        "taxa": "multipart",
    }


@pytest.mark.parametrize("tag", ["0" * 32, "0" * 32 + "-1"])
def test_bytes_that_are_not_those_of_the_etag_are_refused(
    served: Callable[[], RawRelease], site: Site, lake: Lake, tag: str
) -> None:
    site.tags["photos.csv.gz"] = tag
    with pytest.raises(SourceError, match=rf"photos\.csv\.gz.* not those of its ETag {tag}"):
        served()
    assert list_releases(lake, "mini") == []


def test_the_newer_tables_are_taken_in_where_they_are(
    served: Callable[[], RawRelease], site: Site, lake: Lake
) -> None:
    without = served()
    with pytest.raises(NotFoundError):
        without.table("projects")
    site.files |= {
        "projects.csv.gz": gzip.compress(PROJECTS),
        "observations_projects.csv.gz": gzip.compress(LINKS),
    }
    release = served()
    (project,) = lake.read_table(raw_table_key("mini", release.release_id, "projects")).to_pylist()
    assert project == {"project_id": 7, "title": 'Frogs "of" here', "slug": "frogs"}
    assert release.table("observations_projects").rows == 1
    assert release.skipped == {}


def test_a_newer_table_in_an_unknown_form_is_skipped_with_the_reason(
    served: Callable[[], RawRelease], site: Site
) -> None:
    site.files["projects.csv.gz"] = gzip.compress(b"id\ttitle\n1\tA\n")
    release = served()
    assert "expected the header 'project_id" in release.skipped["projects"]
    assert "projects" not in {table.name for table in release.tables}
