"""A smaller or re-encoded rendition of an image, where a campaign asks for one; else the bytes are kept."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import simplejpeg
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from lakehouse.campaign import ImageSpec
from lakehouse.images.pixels import opaque_rgb, orientation_of, to_srgb, upright
from lakehouse.images.validate import (
    ENOUGH,
    ImageFacts,
    InvalidImage,
    check_whole,
    decode_strictly,
    difference_hash,
    opened,
)

# Decoding at a half, quarter or eighth is free of charge; at least this many times the size is kept, so that
# the resampling, not the decoder's coarse scaling, decides how the picture looks.
_DETAIL = 2
# A triangle as wide as the pixels of the smaller image: every pixel counts, so no moiré, and they are
# the same whole numbers on every processor. Pillow takes twice as long.
_RESIZING = ResizeOptions(ResizeAlg.convolution(FilterType.bilinear))
# Sources: RFC 9649 (14 bits a side); libjpeg's JPEG_MAX_DIMENSION.
_LONGEST = {"webp": 16_383, "jpeg": 65_500}


def render(data: bytes, spec: ImageSpec) -> tuple[bytes, ImageFacts]:
    """The rendition `spec` asks for, with its facts: upright, RGB by the policy of `pixels`, never enlarged.

    Raises InvalidImage unless the whole of `data` decodes, and if the format cannot hold an image so large.
    The pixels are decoded once as a rule: what proves the image whole is what is resized, and what is encoded
    is what is hashed. No metadata is kept.
    """
    with opened(data) as (image, kind):
        orientation = orientation_of(image)
        animated = bool(getattr(image, "is_animated", False))
        check_whole(data, kind, animated)
        target = fitted(image.width, image.height, spec.max_side)
        if kind == "jpeg" and image.mode in ("RGB", "L"):
            enough = {"width": _DETAIL * target[0], "height": _DETAIL * target[1]} if spec.max_side else {}
            pixels = decode_strictly(data, "RGB", **enough)
            profile = image.info.get("icc_profile")
            if profile and image.mode == "RGB":
                pixels = np.asarray(to_srgb(Image.fromarray(pixels), profile))
        else:
            if kind == "jpeg":  # Pillow knows Adobe's inverted CMYK, but not damage
                decode_strictly(data, "CMYK", ENOUGH, ENOUGH)
            pixels = np.asarray(_roughly(opaque_rgb(image), *target))
        pixels = _resized(pixels, *target)
        if orientation not in (None, 1):
            pixels = np.asarray(upright(Image.fromarray(pixels), orientation))
    form = spec.format or "jpeg"
    height, width = pixels.shape[:2]
    if max(width, height) > _LONGEST[form]:
        raise InvalidImage("too_large", f"{width} x {height} pixels in {form}")
    encoded = _encoded(pixels, form, spec.quality)
    facts = ImageFacts(
        sha256=hashlib.sha256(encoded).digest(),
        size=len(encoded),
        width=width,
        height=height,
        format=form,
        mode="RGB",
        orientation=None,
        gps=False,
        animated=animated,
        dhash=difference_hash(_coarse_gray(pixels)),
    )
    return encoded, facts


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    before = pixels.shape[1], pixels.shape[0]
    if before == (width, height):
        return pixels
    small = ImageData(width, height, PixelType.U8x3)
    Resizer().resize(ImageData(*before, PixelType.U8x3, pixels.tobytes()), small, _RESIZING)
    return np.frombuffer(small.get_buffer(), np.uint8).reshape(height, width, 3)


def _roughly(image: Image.Image, width: int, height: int) -> Image.Image:
    """A large image by averages of squares, so that it is never in memory twice in full."""
    side = min(image.width // (_DETAIL * width), image.height // (_DETAIL * height))
    return image.reduce(side) if side > 1 else image


def _encoded(pixels: np.ndarray, form: str, quality: int) -> bytes:
    if form == "webp":
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "WEBP", quality=quality)
        return out.getvalue()
    return bytes(simplejpeg.encode_jpeg(pixels, quality, colorsubsampling="420"))


def _coarse_gray(pixels: np.ndarray) -> np.ndarray:
    """Grey, by averages of squares that leave enough pixels for hashing."""
    side = max(1, min(pixels.shape[:2]) // ENOUGH)
    return np.asarray(Image.fromarray(pixels).reduce(side).convert("L"))


def fitted(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """The size with its longer side at most `max_side`, proportions kept, never enlarged."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
