"""From the stored bytes of a table to newline-aligned pieces of its text, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isal import isal_zlib

from lakehouse.errors import SourceError

CHUNK = 16 << 20
# Nothing in these tables comes near: a "line" this long is some other file.
MAX_LINE = 64 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_INFLATED = 4 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a text: `data`, the number of its first line (from 1), and how many lines it has.

    Every line ends in a newline, but for the last one of a text that lacks it: then `terminated` is false.
    """

    first_line: int
    data: bytes
    lines: int
    terminated: bool


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
    for piece in pieces:
        rest = piece
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


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def chunked(pieces: Iterator[bytes], where: str, size: int = CHUNK) -> Iterator[Chunk]:
    """Cut a text into chunks of about `size` bytes at line ends, the same however the text arrives.

    Raises SourceError, naming the file `where`, for a line above `MAX_LINE`.
    """
    buffer = bytearray()
    line = 1
    for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            cut = buffer.rfind(b"\n", 0, size) + 1 or buffer.find(b"\n", size) + 1
            if cut == 0:
                if len(buffer) > MAX_LINE:
                    raise SourceError(
                        f"{where}: line {line} is longer than {MAX_LINE >> 20} MB; this is no such table"
                    )
                break
            data = bytes(buffer[:cut])
            del buffer[:cut]
            lines = data.count(b"\n")
            yield Chunk(line, data, lines, True)
            line += lines
    if buffer:
        data = bytes(buffer)
        terminated = data.endswith(b"\n")
        yield Chunk(line, data, data.count(b"\n") + (not terminated), terminated)
