"""A smaller or re-encoded rendition of an image, where a campaign asks for one; else the bytes are kept."""

from __future__ import annotations

import hashlib
import io
import threading

import numpy as np
import pyarrow as pa
import simplejpeg
from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from lakehouse.campaign import ImageSpec
from lakehouse.images.jpeg import decode_strictly
from lakehouse.images.pixels import opaque_rgb, orientation_of, to_srgb, upright
from lakehouse.images.validate import (
    ENOUGH,
    ImageFacts,
    InvalidImage,
    check_whole,
    decoding,
    difference_hash,
    head_of,
    opened,
    tells_nothing,
)

# Decoding at a half, quarter or eighth is free of charge; at least this many times the size is kept, so that
# the resampling, not the decoder's coarse scaling, decides how the picture looks.
_DETAIL = 2
# A triangle as wide as the pixels of the smaller image: every pixel counts, so no moiré, and they are
# the same whole numbers on every processor. Pillow takes twice as long.
_RESIZING = ResizeOptions(ResizeAlg.convolution(FilterType.bilinear), use_alpha=False)
# For the hash sixteen pixels of each area are as good as all.
_AVERAGING = ResizeOptions(ResizeAlg.super_sampling(FilterType.box, 4), use_alpha=False)
_AVERAGED = {"L", "LA", "RGB", "RGBA", "CMYK"}
_USUAL = 4_000_000  # pixels; a larger picture has a resizer of its own, so that its memory is given back
_PROFILE = b"ICC_PROFILE"
# Sources: RFC 9649 (14 bits a side); libjpeg's JPEG_MAX_DIMENSION.
_LONGEST = {"webp": 16_383, "jpeg": 65_500}


def render(data: bytes, spec: ImageSpec) -> tuple[bytes, ImageFacts]:
    """The rendition `spec` asks for, with its facts: upright, RGB by the policy of `pixels`, never enlarged.

    Raises InvalidImage unless the whole of `data` decodes, and if the format cannot hold an image so large.
    The pixels are decoded once as a rule: what proves the image whole is what is resized, and what is encoded
    is what is hashed. No metadata is kept.
    """
    head = head_of(data)
    orientation, animated, profile = None, False, None
    if head.jpeg and tells_nothing(data, head.jpeg, _PROFILE):
        with decoding(head):
            target = fitted(head.width, head.height, spec.max_side)
            picture = _resized(_decoded(data, (head.width, head.height), target), target)
    else:
        with opened(data) as image:
            orientation, profile = orientation_of(image), image.info.get("icc_profile")
            animated = bool(getattr(image, "is_animated", False))
            check_whole(data, head.kind, animated)
            target = fitted(image.width, image.height, spec.max_side)
            if head.strictly and image.mode in ("RGB", "L"):
                picture = _decoded(data, image.size, target)
                if profile and image.mode == "RGB":
                    picture = to_srgb(picture.convert("RGB"), profile)
            else:
                if head.strictly:  # Pillow knows Adobe's inverted CMYK, but not damage
                    decode_strictly(data, "CMYK", ENOUGH, ENOUGH)
                picture = _roughly(opaque_rgb(_roughly(image, target)), target)
            picture = upright(_resized(picture, target), orientation)
    form = spec.format or "jpeg"
    if max(picture.size) > _LONGEST[form]:
        raise InvalidImage("too_large", f"{picture.width} x {picture.height} pixels in {form}")
    encoded = _encoded(picture, form, spec.quality)
    facts = ImageFacts(
        sha256=hashlib.sha256(encoded).digest(),
        size=len(encoded),
        width=picture.width,
        height=picture.height,
        format=form,
        mode="RGB",
        orientation=None,
        gps=False,
        animated=animated,
        dhash=difference_hash(_coarse_gray(picture)),
    )
    return encoded, facts


def _decoded(data: bytes, size: tuple[int, int], target: tuple[int, int]) -> Image.Image:
    """The pixels of a JPEG of this size, all or as many as make a good picture of the size wanted.

    With an opaque fourth channel, because Pillow takes such pixels over without a copy.
    """
    if target == size:
        pixels = decode_strictly(data, "RGBA")
    else:
        pixels = decode_strictly(data, "RGBA", _DETAIL * target[0], _DETAIL * target[1], for_less=True)
    height, width = pixels.shape[:2]
    return Image.frombuffer("RGBA", (width, height), pixels, "raw", "RGBA", 0, 1)


class _Resizers(threading.local):
    """A thread's resizer, which keeps the memory that it works in, up to four bytes a pixel."""

    def __init__(self) -> None:
        self.usual = Resizer()


_RESIZERS = _Resizers()


def _resized(picture: Image.Image, size: tuple[int, int], how: ResizeOptions = _RESIZING) -> Image.Image:
    if picture.size == size:
        return picture
    small = Image.new(picture.mode, size)
    usual = picture.width * picture.height <= _USUAL
    (_RESIZERS.usual if usual else Resizer()).resize_pil(picture, small, how)
    return small


def _roughly(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """A large image by averages of squares: where the mode allows, it is then in memory in full only once."""
    if image.mode not in _AVERAGED:
        return image
    side = min(image.width // (_DETAIL * target[0]), image.height // (_DETAIL * target[1]))
    return image.reduce(side) if side > 1 else image


def _encoded(picture: Image.Image, form: str, quality: int) -> bytes:
    if form == "webp":
        out = io.BytesIO()
        picture.convert("RGB").save(out, "WEBP", quality=quality)
        return out.getvalue()
    pixels, order = _with_pixels(picture)
    return bytes(simplejpeg.encode_jpeg(pixels, quality, order, colorsubsampling="420"))


def _with_pixels(picture: Image.Image) -> tuple[np.ndarray, str]:
    """The pixels of an RGB or RGBA picture and the order of their channels.

    Without a copy, four bytes for each in either mode, unless it is so large that Pillow has it in pieces.
    """
    try:
        flat = pa.array(picture).flatten().to_numpy()
    except ValueError:
        return np.asarray(picture), picture.mode
    return flat.reshape(picture.height, picture.width, 4), "RGBX"


def _coarse_gray(picture: Image.Image) -> np.ndarray:
    """Grey, by averages of areas that leave enough pixels for hashing."""
    size = min(picture.width, ENOUGH), min(picture.height, ENOUGH)
    return np.asarray(_resized(picture, size, _AVERAGING).convert("L"))


def fitted(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """The size with its longer side at most `max_side`, proportions kept, never enlarged."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
