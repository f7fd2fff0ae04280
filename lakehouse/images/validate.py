"""Is it an image, whole, of a kind this lake takes, and what are its facts.

The content decides, never the extension or the Content-Type. A JPEG is decoded strictly at one eighth of its
size, which finds as much damage as a full decode does, and the same pixels give the perceptual hash.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageFile

from lakehouse.images.pixels import is_located, opaque_gray, orientation_of

# Pillow warns above this many pixels; a quarter of a gigabyte once decoded.
MAX_PIXELS = 89_478_485

EXTENSIONS = {"jpeg": "jpg", "png": "png", "gif": "gif", "webp": "webp"}
_PILLOW = {"jpeg": ("JPEG", "MPO"), "png": ("PNG",), "gif": ("GIF",), "webp": ("WEBP",)}
_HASH_SIDE = 8


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the bytes of an image say; sizes and `dhash` are of the pixels as stored, not yet turned.

    `orientation` is None where the file says nothing valid; `gps` tells of a position in EXIF or XMP.
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
    dhash: int

    @property
    def extension(self) -> str:
        """The extension this lake gives the format, whatever the source called the file."""
        return EXTENSIONS[self.format]


class InvalidImage(Exception):
    """The bytes are no image this lake takes; `reason` is one of wrong_type, corrupt, bomb, empty."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def inspect(data: bytes) -> ImageFacts:
    """The facts of an image; raises InvalidImage unless the whole of it decodes."""
    if not data:
        raise InvalidImage("empty")
    kind = sniff(data)
    if kind is None:
        raise InvalidImage("wrong_type", f"starts with {data[:12]!r}")
    width, height = _dimensions(data, kind)
    if width < 1 or height < 1:
        raise InvalidImage("corrupt", f"{width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise InvalidImage("bomb", f"{width} x {height} pixels")
    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW[kind]) as image:
            orientation, gps = orientation_of(image), is_located(image)
            mode, animated = image.mode, bool(getattr(image, "is_animated", False))
            dhash = _difference_hash(_gray(data, kind, image))
    except MemoryError:
        raise
    # A decoder meets hostile bytes with any exception there is; whichever it is, the image is not whole.
    except Exception as error:
        reason = "bomb" if isinstance(error, Image.DecompressionBombError) else "corrupt"
        raise InvalidImage(reason, str(error)) from error
    return ImageFacts(
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        width=width,
        height=height,
        format=kind,
        mode=mode,
        orientation=orientation,
        gps=gps,
        animated=animated,
        dhash=dhash,
    )


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


def _dimensions(data: bytes, kind: str) -> tuple[int, int]:
    """Width and height from the header, before anything is decoded: a bomb is never opened."""
    try:
        if kind == "jpeg":
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
            return int(width), int(height)
        if kind == "png":
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        if kind == "gif":
            width, height = struct.unpack_from("<HH", data, 6)
            return width, height
        return _webp_dimensions(data)
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


def _gray(data: bytes, kind: str, image: ImageFile.ImageFile) -> np.ndarray:
    """The pixels in grey, at a size fit for hashing; decoding them is what proves the image whole."""
    if kind == "jpeg":
        colorspace = "CMYK" if image.mode == "CMYK" else "GRAY"
        small = min(image.size) < 8 * (_HASH_SIDE + 1)
        pixels = simplejpeg.decode_jpeg(data, colorspace, min_factor=1 if small else 8, strict=True)
        if colorspace == "GRAY":
            return np.squeeze(pixels, axis=2)
        # Adobe stores CMYK inverted; Pillow, which knows when, gives the pixels to hash.
    if kind == "png":
        # Loading skips the checksums of the pixel data; for PNG (and only for PNG) verify() reads them all.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as unread:
            unread.verify()
    image.load()
    return np.asarray(opaque_gray(image))


def _difference_hash(gray: np.ndarray) -> int:
    """64 bits, row by row: whether each of 8 x 8 areas is darker than its right neighbour (dHash).

    In whole numbers, so that no library's resampling can ever change the hash of an image.
    """
    rows, columns = _HASH_SIDE, _HASH_SIDE + 1
    gray = gray.repeat(-(-rows // gray.shape[0]), axis=0).repeat(-(-columns // gray.shape[1]), axis=1)
    height, width = gray.shape
    tops, lefts = np.arange(rows) * height // rows, np.arange(columns) * width // columns
    sums = np.add.reduceat(np.add.reduceat(gray.astype(np.int64), tops, axis=0), lefts, axis=1)
    areas = np.diff(lefts, append=width)  # the areas of one row are equally high
    darker = sums[:, :-1] * areas[1:] < sums[:, 1:] * areas[:-1]
    return int.from_bytes(np.packbits(darker).tobytes(), "big")
