from __future__ import annotations

import gzip
import zlib
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import SourceError
from lakehouse.metadata import chunks
from lakehouse.metadata.chunks import Chunk, chunked, inflate

TEXT = b"".join(b"line %d\n" % number for number in range(5000))


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_plain_text_and_gzip_give_the_same_text(size: int) -> None:
    for stored in (TEXT, gzip.compress(TEXT)):
        assert b"".join(inflate(iter(pieces(stored, size)), "t")) == TEXT


def test_gzip_of_several_members_is_read_to_the_end() -> None:
    stored = gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:])
    for size in (1, 13, 1 << 20):
        assert b"".join(inflate(iter(pieces(stored, size)), "t")) == TEXT


def test_a_bomb_is_inflated_in_bounded_pieces() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    assert max(len(text) for text in inflate(iter([bomb]), "t")) <= 4 << 20


def test_cut_gzip_is_an_error_naming_the_file() -> None:
    with pytest.raises(SourceError, match=r"photos\.csv\.gz is cut short"):
        list(inflate(iter([gzip.compress(TEXT)[:-20]]), "photos.csv.gz"))


def test_damaged_gzip_is_an_error_naming_the_file() -> None:
    stored = bytearray(gzip.compress(TEXT))
    stored[len(stored) // 2] ^= 0xFF
    with pytest.raises(SourceError, match=r"photos\.csv\.gz is damaged"):
        list(inflate(iter([bytes(stored)]), "photos.csv.gz"))


def test_other_data_behind_gzip_is_an_error() -> None:
    with pytest.raises(SourceError, match="is damaged"):
        list(inflate(iter([gzip.compress(TEXT) + b"rubbish that is no gzip"]), "t"))


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 40))
def test_chunks_are_whole_lines_and_lose_nothing(text: bytes, piece: int, size: int) -> None:
    found = list(chunked(iter(pieces(text, piece)), "t", size))
    assert b"".join(chunk.data for chunk in found) == text
    assert all(chunk.terminated and chunk.data.endswith(b"\n") for chunk in found[:-1])


@given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
def test_chunks_do_not_depend_on_how_the_text_arrives(text: bytes, piece: int) -> None:
    assert list(chunked(iter(pieces(text, piece)), "t", 20)) == list(chunked(iter([text]), "t", 20))


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(1, 40))
def test_memory_that_is_used_again_shows_nothing_of_what_was_in_it(text: list[bytes], size: int) -> None:
    spare: deque[bytearray] = deque()
    found = []
    for chunk in chunked(iter(text), "t", size, spare):
        found.append(Chunk(chunk.data[:], chunk.terminated))
        spare.append(chunk.data)
    assert found == list(chunked(iter(text), "t", size))


def test_an_endless_line_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_LINE", 1 << 20)
    with pytest.raises(SourceError, match="the line at byte 7 is longer than 1 MB"):
        list(chunked(iter([b"header\n", bytes(2 << 20)]), "t", 1000))


def test_the_streams_are_gzip_as_others_write_it() -> None:
    packer = zlib.compressobj(wbits=31)
    stored = packer.compress(TEXT) + packer.flush()
    assert b"".join(inflate(iter([stored]), "t")) == TEXT
