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
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from lakehouse.images.jpeg import JpegHead, NotShownError, decode_strictly, has_end, has_scans, read_head
from lakehouse.images.pixels import is_located, opaque_gray, orientation_of
from lakehouse.images.png import check_rows

# Pillow warns above this many pixels; a quarter of a gigabyte once decoded.
MAX_PIXELS = 89_478_485
# With a few bytes for each, a JPEG can ask for any number of passes over all of its pixels; encoders make ten
# or so. The second bound is on passes times pixels.
MAX_SCANS = 1_000
_MAX_SCANNED = 16 * MAX_PIXELS

EXTENSIONS = {"jpeg": "jpg", "png": "png", "gif": "gif", "webp": "webp"}
_PILLOW = {"jpeg": ("JPEG", "MPO"), "png": ("PNG",), "gif": ("GIF",), "webp": ("WEBP",)}
_HASH_SIDE = 8
# Pixels a side that the hash needs; libjpeg goes down to one eighth of the size, but not below this.
ENOUGH = 4 * (_HASH_SIDE + 1)
_LARGE = 16_000_000  # pixels
_ONE_AT_A_TIME = threading.Lock()
_PNG_END = b"IEND\xaeB`\x82"  # with its checksum, which is always the same
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
    if head.jpeg and tells_nothing(data, head.jpeg):
        (width, height), mode = (head.width, head.height), head.jpeg.mode
        with decoding(head):
            dhash = difference_hash(_gray_jpeg(data))
    else:
        with opened(data) as image:
            (width, height), orientation, gps = image.size, orientation_of(image), is_located(image)
            mode, animated = image.mode, bool(getattr(image, "is_animated", False))
            check_whole(data, head.kind, animated)
            dhash = difference_hash(_gray(data, head, image))
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
    if head.jpeg is None:
        return inspect(data)
    if not has_end(data, head.jpeg.scan):
        raise InvalidImage("corrupt", "no end mark")
    orientation, gps, animated = None, False, False
    if not tells_nothing(data, head.jpeg):
        with opened(data) as image:
            orientation, gps = orientation_of(image), is_located(image)
            animated = bool(getattr(image, "is_animated", False))
    return ImageFacts(
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        width=head.width,
        height=head.height,
        format=head.kind,
        mode=head.jpeg.mode,
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
    """What is known before anything is decoded; `jpeg` only of a JPEG."""

    kind: str
    width: int
    height: int
    jpeg: JpegHead | None = None

    @property
    def strictly(self) -> bool:
        """Whether `decode_strictly` can tell if it is whole."""
        return self.jpeg is not None and not self.jpeg.unusual


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
    if head.jpeg and head.jpeg.passes:
        most = min(MAX_SCANS, _MAX_SCANNED // (head.width * head.height))
        if has_scans(data, head.jpeg.scan, most + 1):
            raise InvalidImage("bomb", f"more than {most} scans")
    return head


def tells_nothing(data: bytes, head: JpegHead, but: bytes = b"") -> bool:
    """Whether a JPEG is in grey or RGB without anything that only Pillow can tell, nor `but`.

    Most medium photos are: opening them twice would cost as much as a quarter of the decoding.
    """
    if head.unusual or head.mode not in ("L", "RGB"):
        return False
    return not _TELLING.search(data, 0, head.scan) and not (but and data.find(but, 0, head.scan) >= 0)


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
            elif data[at] == 0:  # more of what ends a block than there should be
                at += 1
                continue
            else:
                return False
            while data[at]:
                at += data[at] + 1
            at += 1
    except IndexError:
        return False
    return True


@contextmanager
def opened(data: bytes) -> Iterator[ImageFile.ImageFile]:
    """The image, open in Pillow, as in `decoding`."""
    head = head_of(data)
    with decoding(head), Image.open(io.BytesIO(data), formats=_PILLOW[head.kind]) as image:
        # A file may say one size where it is looked at first, and another to the decoder.
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        yield image


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
            jpeg = read_head(data)
            return Head(kind, jpeg.width, jpeg.height, jpeg)
        if kind == "png":
            return Head(kind, *struct.unpack_from(">II", data, 16))
        if kind == "gif":
            return Head(kind, *struct.unpack_from("<HH", data, 6))
        return Head(kind, *_webp_dimensions(data))
    except NotShownError as error:
        raise InvalidImage("wrong_type", str(error)) from error
    except (ValueError, struct.error) as error:
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


def _gray(data: bytes, head: Head, image: ImageFile.ImageFile) -> np.ndarray:
    """The pixels in grey, at a size fit for hashing; decoding them is what proves the image whole."""
    if head.strictly:
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
