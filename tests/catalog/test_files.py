"""The files of a dataset: names, addresses, digests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse.catalog.files import (
    DatasetFile,
    checked,
    describe_bytes,
    describe_file,
    media_type,
    only,
    resolved,
    shard_name,
)
from lakehouse.errors import CatalogError

SHARD = DatasetFile("a.tar", "../../../shards/m/ab/a.tar", "a" * 64, 10, "application/x-tar", "shard")


def test_a_shard_name_carries_a_piece_of_its_digest() -> None:
    assert shard_name("train", 3, "0123456789abcdef" * 4) == "data/train-000003-0123456789ab.tar"


def test_a_file_is_described_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"data")
    file = describe_file(path, "manifest.parquet", "manifest")
    assert (file.sha256, file.size) == (hashlib.sha256(b"data").hexdigest(), 4)
    assert (file.url, file.media_type) == ("manifest.parquet", "application/x-parquet")


def test_bytes_in_memory_are_described_as_a_file_would_be(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(b"# Card")
    assert describe_bytes(b"# Card", "README.md", "card") == describe_file(path, "README.md", "card")


def test_an_unknown_ending_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"\.exe"):
        media_type("setup.exe")


@pytest.mark.parametrize(
    "base,expected",
    [
        ("https://x.org/lake/catalog/p/v2", "https://x.org/lake/shards/m/ab/a.tar"),
        ("s3://bucket/lake/catalog/p/v2/", "s3://bucket/lake/shards/m/ab/a.tar"),
    ],
)
def test_relative_addresses_are_resolved_for_every_scheme(base: str, expected: str) -> None:
    assert resolved([SHARD], base)[0].url == expected


def test_an_absolute_address_stays() -> None:
    file = replace(SHARD, url="https://y.org/a.tar")
    assert resolved([file], "s3://bucket/x") == (file,)


def test_a_base_that_is_no_address_is_refused() -> None:
    with pytest.raises(CatalogError, match="not an address"):
        resolved([SHARD], "lake/catalog")


@pytest.mark.parametrize("twin", [replace(SHARD, url="b.tar"), replace(SHARD, name="b.tar")])
def test_no_two_files_share_a_name_or_an_address(twin: DatasetFile) -> None:
    with pytest.raises(CatalogError, match="each must be listed once"):
        checked([SHARD, twin])


def test_a_digest_that_is_none_is_refused() -> None:
    with pytest.raises(CatalogError, match="do not describe"):
        checked([replace(SHARD, sha256="abc")])


def test_a_role_that_must_be_there_once_is_named_when_it_is_not() -> None:
    with pytest.raises(CatalogError, match="exactly one manifest file; found none"):
        only([SHARD], "manifest")
