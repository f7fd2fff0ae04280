from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.errors import SourceError
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.sources import open_source, source_name_of
from lakehouse.sources.archive import ArchiveSource
from lakehouse.sources.inaturalist import TABLES
from tests.sources.conftest import Site

TOP = "inaturalist-open-data-20260827"


def tar(texts: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo(TOP)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, text in texts.items():
            member = tarfile.TarInfo(f"{TOP}/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return stream.getvalue()


TEXTS = {f"{name}.csv": name.encode() * 50_000 for name in TABLES}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "metadata"
    folder.mkdir()
    path = folder / f"{TOP}.tar.gz"
    path.write_bytes(gzip.compress(tar(TEXTS), mtime=0))
    return path


def read(source: ArchiveSource) -> dict[str, bytes]:
    (archive,) = source.current_release().tables
    streams = source.members(source.read_table(archive))
    return {stream.file.name: b"".join(stream.pieces) for stream in streams}


def test_every_table_comes_out_of_the_stream(file: Path) -> None:
    with ArchiveSource("b", str(file), Settings()) as source:
        assert read(source) == {name.removesuffix(".csv"): text for name, text in TEXTS.items()}


def test_tables_that_are_not_read_are_passed_over(file: Path) -> None:
    with ArchiveSource("b", str(file), Settings()) as source:
        (archive,) = source.current_release().tables
        names = [stream.file.name for stream in source.members(source.read_table(archive))]
    assert names == list(TABLES)


def test_an_archive_is_read_over_http_and_resumed(file: Path, site: Site) -> None:
    data = file.read_bytes()
    site.files[f"metadata/{file.name}"] = data
    site.cuts = [len(data) // 2]
    with ArchiveSource("b", f"{site.url}/metadata/{file.name}", Settings()) as source:
        assert set(read(source)) == set(TABLES)
        assert source.photo_url(7, "JPG", "medium") == f"{site.url}/photos/7/medium.JPG"
        assert source.reference_url.endswith(f"/metadata/{file.name}")


def test_a_plain_tar_is_told_by_its_bytes(file: Path) -> None:
    file.write_bytes(tar(TEXTS))
    with ArchiveSource("b", str(file), Settings()) as source:
        assert set(read(source)) == set(TABLES)


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def without(name: str) -> dict[str, bytes]:
    return {key: text for key, text in TEXTS.items() if key != name}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (packed(tar(TEXTS))[:-20], "no end"),
        (packed(tar(TEXTS)[:100_000]), "damaged"),
        (packed(b"not a tar" * 1000), "damaged"),
        (packed(tar(without("taxa.csv"))), "lacks taxa"),
        (packed(tar({**TEXTS, "old/photos.csv": b"x"})), "photos twice"),
    ],
    ids=["cut gzip", "cut tar", "no tar", "table missing", "table twice"],
)
def test_a_broken_archive_is_an_error(file: Path, data: bytes, problem: str) -> None:
    file.write_bytes(data)
    with ArchiveSource("b", str(file), Settings()) as source, pytest.raises(SourceError, match=problem):
        read(source)


def test_a_missing_or_empty_archive_is_an_error(file: Path) -> None:
    with ArchiveSource("b", str(file), Settings()) as source:
        file.write_bytes(b"")
        with pytest.raises(SourceError, match="is empty"):
            source.current_release()
        file.unlink()
        with pytest.raises(SourceError, match="is not there; check LAKEHOUSE_SOURCE"):
            source.current_release()


@pytest.fixture
def lake(tmp_path: Path, file: Path) -> Iterator[Lake]:
    yield Lake(str(tmp_path / "lake"), Settings(source=str(file)))


def test_an_address_that_ends_in_tar_gz_is_an_archive(lake: Lake, file: Path) -> None:
    for name in ("inaturalist", str(file)):
        with open_source(name, lake) as source:
            assert isinstance(source, ArchiveSource)
            assert source.name == source_name_of(name)


def test_archives_of_different_dates_are_of_one_source() -> None:
    base = "https://example.org/metadata/inaturalist-open-data-"
    assert source_name_of(f"{base}20260827.tar.gz") == source_name_of(f"{base}latest.tar.gz")
    assert source_name_of(f"{base}20260827.tar.gz") != source_name_of(f"{base}other.tar.gz")
