"""Whether the compressed pixels of a PNG are all there, which Pillow does not tell.

Source: Portable Network Graphics (third edition), sections 7.2, 8.1, 9.2 and 11.2.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_FILTERS = 4  # the largest filter type
_PIECE = 1 << 16
# Of the seven passes of an interlaced picture: first column and row, steps across and down.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def check_rows(data: bytes) -> None:
    """Unpack the pixels, a piece at a time; ValueError if rows are missing or of no known filter.

    More pixels than there is room for are passed over, as decoders do.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    pieces = _unpacked(data)
    piece, at = b"", 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns < 1 or rows < 1:
            continue
        stride = 1 + -(-columns * depth * _CHANNELS[colour] // 8)
        missing, due = rows * stride, 0  # bytes of this pass, and until its next row begins
        while missing:
            if at == len(piece):
                piece, at = next(pieces, b""), 0
                if not piece:
                    raise ValueError("rows are missing")
            taken = min(missing, len(piece) - at)
            if max(piece[at + due : at + taken : stride], default=0) > _FILTERS:
                raise ValueError("unknown filter")
            due, missing, at = (due - taken) % stride, missing - taken, at + taken


def _unpacked(data: bytes) -> Iterator[bytes]:
    unpack, at = zlib.decompressobj(), _SIGNATURE
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            # In small parts, since what is not unpacked yet is copied for every piece.
            for start in range(at + 8, at + 8 + length, _PIECE):
                packed = data[start : min(start + _PIECE, at + 8 + length)]
                while packed and not unpack.eof:
                    if piece := unpack.decompress(packed, _PIECE):
                        yield piece
                    packed = unpack.unconsumed_tail
        at += 12 + length
    # What was held back because a piece was full.
    while not unpack.eof and (piece := unpack.decompress(b"", _PIECE)):
        yield piece
