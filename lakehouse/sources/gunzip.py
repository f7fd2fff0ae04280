"""The text behind the stored bytes of a file, gzip'd or not, told apart by the first bytes."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import Any

from isal import igzip, isal_zlib

from lakehouse.errors import SourceError

_GZIP_MAGIC = b"\x1f\x8b"
# Bytes of text at a time: still in the processor's cache for whoever copies them.
_INFLATED = 1 << 18


def inflate(pieces: Iterator[bytes], where: str) -> Iterator[bytes]:
    """The text behind `pieces`: gzip (one member or several) or plain, told apart by the first bytes.

    Raises SourceError, naming the file `where`, if the gzip stream is damaged or ends early.
    """
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(_GZIP_MAGIC):
            break
    if not head.startswith(_GZIP_MAGIC):
        yield head
        yield from pieces
        return
    yield from _gunzip(_chain(head, pieces), where)


def _gunzip(pieces: Iterator[bytes], where: str) -> Iterator[bytes]:
    try:
        with igzip.IGzipFile(fileobj=Pieces(pieces)) as file:
            # A limit, because a kilobyte of gzip may hold a gigabyte of text.
            while text := file.read1(_INFLATED):
                yield text
    except EOFError:
        raise SourceError(
            f"{where} is cut short: its gzip stream has no end; fetch it again, or wait for its upload"
        ) from None
    except (gzip.BadGzipFile, isal_zlib.IsalError) as error:  # type: ignore[misc]
        raise SourceError(
            f"{where} is damaged: its gzip data cannot be read ({error}); fetch it again"
        ) from error


class Pieces(io.RawIOBase):
    """A file to be read once, made of the pieces that an iterator gives."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, space: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(space), len(self._left))
        space[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
