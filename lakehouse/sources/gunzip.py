"""The text behind the stored bytes of a file, gzip'd or not, told apart by the first bytes."""

from __future__ import annotations

from collections.abc import Iterator

from isal import isal_zlib

from lakehouse.errors import SourceError

_GZIP_MAGIC = b"\x1f\x8b"
_INFLATED = 4 << 20
# Bytes that are inflated at once: what comes of them is still in the processor's cache for whoever copies it.
_FED = 1 << 17


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
    inflater = isal_zlib.decompressobj(wbits=31)
    started = True
    for rest in _fed(pieces):
        while rest:
            if not started:
                inflater, started = isal_zlib.decompressobj(wbits=31), True
            try:
                # A limit, because a kilobyte of gzip may hold a gigabyte of text.
                text = inflater.decompress(rest, _INFLATED)
            except isal_zlib.IsalError as error:  # type: ignore[misc]
                raise SourceError(
                    f"{where} is damaged: its gzip data cannot be read ({error}); fetch it again"
                ) from error
            if text:
                yield text
            if inflater.eof:
                rest, started = inflater.unused_data, False
            else:
                rest = inflater.unconsumed_tail
                if not text and not rest:
                    break
    if started and not inflater.eof:
        raise SourceError(
            f"{where} is cut short: its gzip stream has no end; fetch it again, or wait for its upload"
        )


def _fed(pieces: Iterator[bytes]) -> Iterator[memoryview | bytes]:
    for piece in pieces:
        view = memoryview(piece)
        for first in range(0, len(piece), _FED):
            yield view[first : first + _FED]


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
