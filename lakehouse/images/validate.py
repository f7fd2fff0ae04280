"""Is it an image, whole, of a kind this lake takes, and what are its facts.

The content decides, never the extension or the Content-Type. A JPEG is decoded strictly at one eighth of its
size, which finds as much damage as a full decode does, and the same pixels give the perceptual hash.

`glance` is the quick alternative for a source that is trusted: it reads a JPEG's header and its end mark, and
so finds bodies that were cut, but no damage inside.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageFile

from lakehouse.images.pixels import is_located, opaque_gray, orientation_of
from lakehouse.images.png import check_rows

# Pillow warns above this many pixels; a quarter of a gigabyte once decoded.
MAX_PIXELS = 89_478_485
# With a few bytes for each, a JPEG can ask for any number of passes over all of its pixels; encoders make ten
# or so. The second bound is on passes times pixels.
MAX_SCANS = 1_000
_MAX_SCANNED = 16 * MAX_PIXELS
MAX_SEGMENTS = 1_000_000  # before the pixels; each is a step in Python

EXTENSIONS = {"jpeg": "jpg", "png": "png", "gif": "gif", "webp": "webp"}
_PILLOW = {"jpeg": ("JPEG", "MPO"), "png": ("PNG",), "gif": ("GIF",), "webp": ("WEBP",)}
_HASH_SIDE = 8
# Pixels a side that the hash needs; libjpeg goes down to one eighth of the size, but not below this.
ENOUGH = 4 * (_HASH_SIDE + 1)
_LARGE = 16_000_000  # pixels
_ONE_AT_A_TIME = threading.Lock()
_PNG_END = b"IEND\xaeB`\x82"  # with its checksum, which is always the same
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# The next marker, and the next with content (or the end) among coded pixels: ITU-T T.81, section B.1.1.
_NEXT = re.compile(rb"\xff[\x01-\xfe]")
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_MODES = {"GRAY": "L", "Gray": "L", "CMYK": "CMYK", "YCCK": "CMYK"}
# What only Pillow can tell of a JPEG: EXIF, XMP with a position, more than one picture.
_TELLING = re.compile(rb"Exif\0\0|GPSLatitude|MPF\0")


class ImageFacts(NamedTuple):
    """What the bytes of an image say; sizes and `dhash` are of the pixels as stored, not yet turned.

    `orientation` is None where the file says nothing valid; `gps` tells of a position in EXIF or XMP;
    `dhash` is None if nothing was decoded.
    """

    sha256: bytes
    size: int
    width: int
    height: int
    format: str
    mode: str
    orientation: int | None
    gps: bool
    animated: bool
    dhash: int | None

    @property
    def extension(self) -> str:
        """The extension this lake gives the format, whatever the source called the file."""
        return EXTENSIONS[self.format]


class InvalidImage(Exception):
    """The bytes are no image this lake takes; `reason` is wrong_type, corrupt, bomb, too_large or empty."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def inspect(data: bytes) -> ImageFacts:
    """The facts of an image; raises InvalidImage unless the whole of it decodes."""
    head = head_of(data)
    orientation, gps, animated = None, False, False
    if tells_nothing(data, head):
        (width, height), mode = (head.width, head.height), head.mode
        with decoding(head):
            dhash = difference_hash(_gray_jpeg(data))
    else:
        with opened(data) as (image, kind):
            (width, height), orientation, gps = image.size, orientation_of(image), is_located(image)
            mode, animated = image.mode, bool(getattr(image, "is_animated", False))
            check_whole(data, kind, animated)
            dhash = difference_hash(_gray(data, kind, image))
    return ImageFacts(
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        width=width,
        height=height,
        format=head.kind,
        mode=mode,
        orientation=orientation,
        gps=gps,
        animated=animated,
        dhash=dhash,
    )


def glance(data: bytes) -> ImageFacts:
    """The facts of an image by its header, without a hash of the pixels; raises InvalidImage if it was cut.

    Only a JPEG has an end that tells; everything else is decoded all the same.
    """
    head = head_of(data)
    if head.kind != "jpeg":
        return inspect(data)
    # Some cameras write more behind the end mark.
    if not data.endswith(_END) and _END not in _markers(data, head.scan):
        raise InvalidImage("corrupt", "no end mark")
    orientation, gps, animated = None, False, False
    if not tells_nothing(data, head):
        with opened(data) as (image, _):
            orientation, gps = orientation_of(image), is_located(image)
            animated = bool(getattr(image, "is_animated", False))
    return ImageFacts(
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        width=head.width,
        height=head.height,
        format=head.kind,
        mode=head.mode,
        orientation=orientation,
        gps=gps,
        animated=animated,
        dhash=None,
    )


def check_whole(data: bytes, kind: str, animated: bool) -> None:
    """What decoding the first picture does not tell; an exception if the file was cut or damaged."""
    if kind == "png":
        # Loading skips the checksums of the pixel data; for PNG (and only for PNG) verify() reads them all.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as unread:
            unread.verify()
        if _PNG_END not in data:
            raise ValueError("no end mark")
        check_rows(data)
    # Of an animation that was cut after its first picture nothing tells that there was more.
    if (animated or kind == "gif") and not _has_end(data, kind):
        raise ValueError("no end mark")


def _has_end(data: bytes, kind: str) -> bool:
    """Whether an animation is there to its end, of which only the first frame is decoded."""
    if kind == "gif":
        return _gif_has_end(data)
    if kind == "webp":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return True  # a PNG's chunks have been read to the last; of a JPEG with several pictures the first counts


class Head(NamedTuple):
    """What is known before anything is decoded.

    Of a JPEG also its `mode`, where its first `scan` begins, and whether its pixels come in several `passes`.
    """

    kind: str
    width: int
    height: int
    mode: str = ""
    scan: int = 0
    passes: bool = False


def head_of(data: bytes) -> Head:
    """Format and size by the first bytes; raises InvalidImage unless they are those of an image to take."""
    if not data:
        raise InvalidImage("empty")
    kind = sniff(data)
    if kind is None:
        raise InvalidImage("wrong_type", f"starts with {data[:12]!r}")
    head = _unchecked_head(data, kind)
    if head.width < 1 or head.height < 1:
        raise InvalidImage("corrupt", f"{head.width} x {head.height} pixels")
    if head.width * head.height > MAX_PIXELS:
        raise InvalidImage("bomb", f"{head.width} x {head.height} pixels")
    if head.passes:
        most = min(MAX_SCANS, _MAX_SCANNED // (head.width * head.height))
        if _has_scans(data, head.scan, most + 1):
            raise InvalidImage("bomb", f"more than {most} scans")
    return head


def tells_nothing(data: bytes, head: Head, but: bytes = b"") -> bool:
    """Whether it is a JPEG in grey or RGB without anything that only Pillow can tell, nor `but`.

    Most medium photos are: opening them twice would cost as much as a quarter of the decoding.
    """
    if head.kind != "jpeg" or head.mode not in ("L", "RGB"):
        return False
    return not _TELLING.search(data, 0, head.scan) and not (but and data.find(but, 0, head.scan) >= 0)


def _first_scan(data: bytes) -> tuple[int, bool]:
    """Where a JPEG's first scan begins, and if others may follow it, because it is progressive or has not all
    components; raises ValueError if its segments do not lead there.

    Raises InvalidImage for what browsers do not show (ITU-T T.81, table B.1): more than 8 bits, lossless,
    hierarchical, and arithmetic coding, of which no decoder can tell that it was cut or damaged.
    """
    progressive, components = False, 0
    for at, marker in _segments(data):
        if marker == 0xDA:
            return at, progressive or data[at + 4] < components
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker > 0xC2 or data[at + 4] != 8:
                raise InvalidImage("wrong_type", f"JPEG of frame type {marker:X}, {data[at + 4]} bits")
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


def _has_scans(data: bytes, at: int, number: int) -> bool:
    scans = (marker for marker in _markers(data, at) if marker == _SCAN)
    return next(islice(scans, number - 1, None), None) is not None


def _gif_has_end(data: bytes) -> bool:
    """Whether the blocks of a GIF lead to its trailer. Source: GIF89a, sections 15 to 27."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    try:
        at = 13 + table(data[10])
        while data[at] != 0x3B:
            if data[at] == 0x2C:  # a picture: descriptor, colours, code size, data
                at += 11 + table(data[at + 9])
            elif data[at] == 0x21:
                at += 2
            else:
                return False
            while data[at]:
                at += data[at] + 1
            at += 1
    except IndexError:
        return False
    return True


@contextmanager
def opened(data: bytes) -> Iterator[tuple[ImageFile.ImageFile, str]]:
    """The image, open in Pillow, and its format, as in `decoding`."""
    head = head_of(data)
    with decoding(head), Image.open(io.BytesIO(data), formats=_PILLOW[head.kind]) as image:
        # A file may say one size where it is looked at first, and another to the decoder.
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        yield image, head.kind


@contextmanager
def decoding(head: Head) -> Iterator[None]:
    """Whatever goes wrong in the block is an InvalidImage; large images are in it one at a time."""
    try:
        with _turn(head.width * head.height):
            yield
    except MemoryError:
        raise
    # A decoder meets hostile bytes with any exception there is; whichever it is, the image is not whole.
    except Exception as error:
        reason = "bomb" if isinstance(error, Image.DecompressionBombError) else "corrupt"
        raise InvalidImage(reason, str(error)) from error


@contextmanager
def _turn(pixels: int) -> Iterator[None]:
    """Large images take turns, so that memory is bounded by one of them and not by one for every thread."""
    if pixels < _LARGE:
        yield
        return
    with _ONE_AT_A_TIME:
        yield


def sniff(data: bytes) -> str | None:
    """The format by its magic bytes: jpeg, png, gif, webp, or None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return None


def _unchecked_head(data: bytes, kind: str) -> Head:
    """What the header says, before anything is decoded: a bomb is never opened."""
    try:
        if kind == "jpeg":
            scan, passes = _first_scan(data)
            height, width, mode, _ = _forgiving(simplejpeg.decode_jpeg_header, data)
            return Head(kind, width, height, _MODES.get(mode, "RGB"), scan, passes)
        if kind == "png":
            return Head(kind, *struct.unpack_from(">II", data, 16))
        if kind == "gif":
            return Head(kind, *struct.unpack_from("<HH", data, 6))
        return Head(kind, *_webp_dimensions(data))
    # KeyError: simplejpeg has no name for such a combination of components.
    except (ValueError, KeyError, struct.error) as error:
        raise InvalidImage("corrupt", str(error)) from error


def _webp_dimensions(data: bytes) -> tuple[int, int]:
    # Source: RFC 9649, sections 2.5 to 2.7.
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return width, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"unknown WebP chunk {chunk!r}")


def _gray(data: bytes, kind: str, image: ImageFile.ImageFile) -> np.ndarray:
    """The pixels in grey, at a size fit for hashing; decoding them is what proves the image whole."""
    if kind == "jpeg":
        if image.mode != "CMYK":
            return _gray_jpeg(data)
        # Adobe stores CMYK inverted; Pillow, which knows when, gives the pixels to hash.
        decode_strictly(data, "CMYK", ENOUGH, ENOUGH)
    image.load()
    # Of a large image some pixels are enough, so that it is not in memory several times.
    step = math.isqrt(image.width * image.height // _LARGE) + 1
    if step > 1:
        size = max(1, image.width // step), max(1, image.height // step)
        return np.asarray(opaque_gray(image.resize(size, Image.Resampling.NEAREST)))
    return np.asarray(opaque_gray(image))


def _gray_jpeg(data: bytes) -> np.ndarray:
    return np.squeeze(decode_strictly(data, "GRAY", ENOUGH, ENOUGH), axis=2)


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


def difference_hash(gray: np.ndarray) -> int:
    """64 bits, row by row: whether each of 8 x 8 areas is darker than its right neighbour (dHash).

    In whole numbers, so that no library's resampling can ever change the hash of an image.
    """
    rows, columns = _HASH_SIDE, _HASH_SIDE + 1
    if gray.shape[0] < rows or gray.shape[1] < columns:
        gray = gray.repeat(-(-rows // gray.shape[0]), axis=0).repeat(-(-columns // gray.shape[1]), axis=1)
    tops, lefts, areas = _areas(*gray.shape)
    sums = np.add.reduceat(np.add.reduceat(gray, tops, axis=0, dtype=np.int64), lefts, axis=1)
    darker = sums[:, :-1] * areas[1:] < sums[:, 1:] * areas[:-1]
    return int.from_bytes(np.packbits(darker).tobytes(), "big")


@lru_cache(maxsize=256)
def _areas(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the areas begin, from the top and from the left, and how wide they are (their height is equal in
    a row)."""
    tops = np.arange(_HASH_SIDE) * height // _HASH_SIDE
    lefts = np.arange(_HASH_SIDE + 1) * width // (_HASH_SIDE + 1)
    return tops, lefts, np.diff(lefts, append=width)
