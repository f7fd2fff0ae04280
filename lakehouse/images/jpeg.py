"""JPEGs: what their segments say, and decoding that takes no damage.

Source: ITU-T T.81, annex B; JFIF and the other segments of applications are passed over.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import simplejpeg

MAX_SEGMENTS = 1_000_000  # before the pixels; each is a step in Python

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# The next marker, and the next with content (or the end) among coded pixels: section B.1.1.
_NEXT = re.compile(rb"\xff[\x01-\xfe]")
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers of a frame's header
_MODES = {"GRAY": "L", "Gray": "L", "CMYK": "CMYK", "YCCK": "CMYK"}


class NotShownError(ValueError):
    """A JPEG of a kind that browsers do not show."""


class JpegHead(NamedTuple):
    """What is known before the pixels: the mode, where the first `scan` begins, whether they come in several
    `passes`, and whether the colours are sampled in an `unusual` way (4:1:0, say).

    The interface to libjpeg-turbo that decodes strictly does not know such ways.
    """

    width: int
    height: int
    mode: str
    scan: int
    passes: bool
    unusual: bool = False


def read_head(data: bytes) -> JpegHead:
    """Read the segments up to the first scan; ValueError if they do not lead there, or NotShownError."""
    scan, passes = _first_scan(data)
    try:
        height, width, mode, _ = _forgiving(simplejpeg.decode_jpeg_header, data)
    except ValueError as error:
        if "subsampling level" not in str(error):
            raise
        return JpegHead(*_frame(data), scan, passes, unusual=True)
    except KeyError as error:
        raise ValueError(f"unknown combination of components {error}") from error
    return JpegHead(width, height, _MODES.get(mode, "RGB"), scan, passes)


def _frame(data: bytes) -> tuple[int, int, str]:
    """Width, height and mode by the header of the frame."""
    for at, marker in _segments(data):
        if marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", data, at + 5)
            return width, height, {1: "L", 4: "CMYK"}.get(components, "RGB")
    raise ValueError("no frame")


def has_end(data: bytes, scan: int) -> bool:
    """Whether an end mark follows the scans that begin at `scan`; some cameras write more behind it."""
    return data.endswith(_END) or _END in _markers(data, scan)


def has_scans(data: bytes, scan: int, number: int) -> bool:
    """Whether there are so many scans or more, of which the first begins at `scan`."""
    scans = (marker for marker in _markers(data, scan) if marker == _SCAN)
    return next(islice(scans, number - 1, None), None) is not None


def decode_strictly(
    data: bytes, colorspace: str, width: int = 0, height: int = 0, *, for_less: bool = False
) -> np.ndarray:
    """The pixels of a JPEG, at least `width` x `height` of them (0: all); ValueError on any damage.

    `for_less`: they will be made fewer, so colours are not interpolated between the pixels that have them.
    """
    options = {
        "min_height": height,
        "min_width": width,
        "min_factor": 2 if width else 1,
        "fastupsample": for_less,
    }
    pixels: np.ndarray = _forgiving(
        lambda whole: simplejpeg.decode_jpeg(whole, colorspace, strict=True, **options), data
    )
    return pixels


def _forgiving(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """What `decode` makes of the JPEG, if need be without what every viewer forgives."""
    forgiven: set[str] = set()
    while True:
        try:
            return decode(data)
        except ValueError as error:
            complaint = next((one for one in _FORGIVEN if one in str(error) and one not in forgiven), None)
            if complaint is None:
                raise
            forgiven.add(complaint)
            data = _FORGIVEN[complaint](data)


def _with_plain_scan(data: bytes) -> bytes:
    """The JPEG with the parameters that its first scan should have.

    Many Samsung cameras write others.
    """
    at, _ = _first_scan(data)
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[: end - 3] + bytes((0, 63, 0)) + data[end:]


def _without(name: bytes, data: bytes) -> bytes:
    """The JPEG with every segment of this name under another one, which decoders pass over."""
    scan, _ = _first_scan(data)
    return data[:scan].replace(name, name.swapcase()) + data[scan:]


def _without_junk(data: bytes) -> bytes:
    """The JPEG without what lies between the segments before its first scan."""
    kept = [data[:2]]
    for at, marker in _segments(data):
        if marker == 0xDA:
            kept.append(data[at:])
        elif marker != 0x01 and not 0xD0 <= marker <= 0xD8:
            kept.append(data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")])
    return b"".join(kept)


# What decoders complain of and show all the same, by a part of the message. Behind a complaint libjpeg hides
# that the pixels are damaged too, so the decoding is done again without its cause.
_FORGIVEN: dict[str, Callable[[bytes], bytes]] = {
    "Invalid SOS parameters for sequential JPEG": _with_plain_scan,
    "bad ICC marker": partial(_without, b"ICC_PROFILE\0"),
    "Unknown Adobe color transform": partial(_without, b"Adobe"),
    "extraneous bytes before marker": _without_junk,
}


def _first_scan(data: bytes) -> tuple[int, bool]:
    """Where a JPEG's first scan begins, and if others may follow it, because it is progressive or has not all
    components; raises ValueError if its segments do not lead there.

    Raises NotShownError for what browsers do not show (ITU-T T.81, table B.1): more than 8 bits, lossless,
    hierarchical, and arithmetic coding, of which no decoder can tell that it was cut or damaged.
    """
    progressive, components = False, 0
    for at, marker in _segments(data):
        if marker == 0xDA:
            return at, progressive or data[at + 4] < components
        if marker in _FRAMES:
            if marker > 0xC2 or data[at + 4] != 8:
                raise NotShownError(f"JPEG of frame type {marker:X}, {data[at + 4]} bits")
            progressive, components = progressive or marker == 0xC2, data[at + 9]
    raise ValueError("no scan")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each of a JPEG's segments begins, up to its first scan, and its marker.

    What lies between is passed over, as decoders do.
    """
    at, end, left = 2, len(data) - 10, MAX_SEGMENTS
    while at < end:
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF or marker == 0:
            found = _NEXT.search(data, at)
            at = found.start() if found else end
            continue
        yield at, marker
        if marker == 0xDA:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # those without content
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        left -= 1
        if not left:
            raise ValueError(f"more than {MAX_SEGMENTS:,} segments")


def _markers(data: bytes, at: int) -> Iterator[bytes]:
    """A JPEG's markers from its first scan to its end mark, or as far as it goes."""
    while marker := _MARKER.search(data, at):
        yield marker[0]
        if marker[0] == _END:
            return
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
