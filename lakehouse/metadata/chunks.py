"""From the stored bytes of a table to newline-aligned pieces of its text, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lakehouse.errors import SourceError
from lakehouse.sources.gunzip import inflate

__all__ = ["CHUNK", "MAX_LINE", "Chunk", "chunked", "inflate"]

CHUNK = 12 << 20
# Nothing in these tables comes near: a "line" this long is some other file.
MAX_LINE = 64 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a text.

    Every line ends in a newline, but for the last one of a text that lacks it: then `terminated` is false.
    """

    data: bytes
    terminated: bool = True


def chunked(pieces: Iterator[bytes], where: str, size: int = CHUNK) -> Iterator[Chunk]:
    """Cut a text into chunks of about `size` bytes at line ends, the same however the text arrives.

    Raises SourceError, naming the file `where`, for a line above `MAX_LINE`.
    """
    held: list[bytes] = []
    length = passed = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        while length >= size:
            data, rest = _cut(held, size)
            if not data:
                if length > MAX_LINE:
                    raise SourceError(
                        f"{where}: the line at byte {passed:,} is longer than {MAX_LINE >> 20} MB; this "
                        "is no such table"
                    )
                break
            held, length = [rest], len(rest)
            passed += len(data)
            yield Chunk(data)
    if length:
        data = b"".join(held)
        yield Chunk(data, data.endswith(b"\n"))


def _cut(held: list[bytes], size: int) -> tuple[bytes, bytes]:
    """The lines that end within the first `size` bytes, or else the first line, and what is behind them."""
    last = held[-1]
    before = sum(map(len, held)) - len(last)
    # Nearly always the cut is in the last piece: so all is copied once.
    at = last.rfind(b"\n", 0, max(0, size - before)) + 1
    if at:
        return b"".join([*held[:-1], memoryview(last)[:at]]), last[at:]
    whole = b"".join(held)
    at = whole.rfind(b"\n", 0, size) + 1 or whole.find(b"\n", size) + 1
    return whole[:at], whole[at:]
