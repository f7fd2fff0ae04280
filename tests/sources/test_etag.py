from __future__ import annotations

import hashlib

import pytest

from lakehouse.sources import etag
from lakehouse.sources.etag import PART_SIZE, EtagCheck

DATA = bytes(range(256)) * 400


def verdict(tag: str, data: bytes = DATA, pieces: int = 7) -> str:
    check = EtagCheck(tag, len(DATA))
    for start in range(0, len(data), len(data) // pieces):
        check.update(data[start : start + len(data) // pieces])
    return check.verdict()


def multipart(data: bytes, part: int) -> str:
    digests = [hashlib.md5(data[start : start + part]).digest() for start in range(0, len(data), part)]
    return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def test_the_exporters_parts_are_500_mebibytes() -> None:
    assert PART_SIZE == 524_288_000


def test_a_small_object_has_its_md5() -> None:
    tag = hashlib.md5(DATA).hexdigest()
    assert verdict(tag) == "md5"
    assert verdict(tag, DATA[:-1] + b"?") == "wrong"


@pytest.mark.parametrize("part", [30_000, 50_000, 102_400, 200_000])
def test_parts_are_digested_as_they_pass(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etag, "PART_SIZE", part)
    tag = multipart(DATA, part)
    assert {verdict(tag, pieces=pieces) for pieces in (1, 3, 100)} == {"multipart"}
    assert verdict(tag, b"?" + DATA[1:]) == "wrong"


def test_an_object_of_one_part_is_proved_whatever_its_size() -> None:
    assert verdict(multipart(DATA, len(DATA))) == "multipart"


def test_a_mirrors_parts_prove_the_bytes_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etag, "_OTHER_PARTS", (20_000,))
    tag = multipart(DATA, 20_000)
    assert verdict(tag) == "multipart"
    assert verdict(tag, b"?" + DATA[1:]) == "unverifiable"


@pytest.mark.parametrize("tag", ["66f1a2b3-19000", "no-etag Thu 5", 'W/"abc"', "0" * 32 + "-4711"])
def test_an_etag_that_is_no_digest_proves_nothing(tag: str) -> None:
    assert not EtagCheck(tag, len(DATA)).possible
    assert verdict(tag) == "unverifiable"
