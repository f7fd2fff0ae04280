"""From the stored bytes of a table to newline-aligned pieces of its text, in bounded memory."""

from __future__ import annotations

from collections import deque
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

    data: bytearray
    terminated: bool = True


def chunked(
    pieces: Iterator[bytes], where: str, size: int = CHUNK, spare: deque[bytearray] | None = None
) -> Iterator[Chunk]:
    """Cut a text into chunks of about `size` bytes at line ends, the same however the text arrives.

    Memory in `spare`, where whoever is done with a chunk may put its `data`, is used again.

    Raises SourceError, naming the file `where`, for a line above `MAX_LINE`.
    """
    spare = deque() if spare is None else spare
    data, filled, passed = _room(spare), 0, 0
    for piece in pieces:
        # Anything behind is of an earlier chunk.
        data[filled : filled + len(piece)] = piece
        filled += len(piece)
        while filled >= size:
            end = data.rfind(b"\n", 0, size) + 1 or data.find(b"\n", size, filled) + 1
            if not end:
                if filled > MAX_LINE:
                    raise SourceError(
                        f"{where}: the line at byte {passed:,} is longer than {MAX_LINE >> 20} MB; this "
                        "is no such table"
                    )
                break
            rest = data[end:filled]
            del data[end:]
            yield Chunk(data)
            data, filled, passed = _room(spare), len(rest), passed + end
            data[:filled] = rest
    if filled:
        del data[filled:]
        yield Chunk(data, data.endswith(b"\n"))


def _room(spare: deque[bytearray]) -> bytearray:
    return spare.popleft() if spare else bytearray()
