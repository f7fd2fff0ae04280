"""A smaller or re-encoded rendition of an image, where a campaign asks for one; else the bytes are kept."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import simplejpeg
from PIL import Image

from lakehouse.campaign import ImageSpec
from lakehouse.images.pixels import opaque_rgb, orientation_of, to_srgb, upright
from lakehouse.images.validate import ENOUGH, ImageFacts, decode_strictly, difference_hash, opened

# Decoding at a half, quarter or eighth is free of charge; at least this many times the size is kept, so that
# the resampling, not the decoder's coarse scaling, decides how the picture looks.
_DETAIL = 2
# Free of moiré as Lanczos is and sharper than averaging areas, at less than half the cost of Lanczos.
_FILTER = Image.Resampling.HAMMING


def render(data: bytes, spec: ImageSpec) -> tuple[bytes, ImageFacts]:
    """The rendition `spec` asks for, with its facts: upright, RGB by the policy of `pixels`, never enlarged.

    Raises InvalidImage unless the whole of `data` decodes. The pixels are decoded once: what proves the image
    whole is what is resized, and what is encoded is what is hashed. No metadata is kept.
    """
    with opened(data) as (image, kind):
        orientation = orientation_of(image)
        animated = bool(getattr(image, "is_animated", False))
        target = fitted(image.width, image.height, spec.max_side)
        if kind == "jpeg" and image.mode in ("RGB", "L"):
            enough = {"width": _DETAIL * target[0], "height": _DETAIL * target[1]} if spec.max_side else {}
            plain = Image.fromarray(decode_strictly(data, "RGB", **enough))
            profile = image.info.get("icc_profile")
            if profile and image.mode == "RGB":
                plain = to_srgb(plain, profile)
                plain.info = {}
        else:
            plain = opaque_rgb(image)
    if plain.size != target:
        plain = plain.resize(target, _FILTER)
    plain = upright(plain, orientation)
    values = np.asarray(plain)
    if spec.format == "webp":
        out = io.BytesIO()
        plain.save(out, "WEBP", quality=spec.quality)
        encoded = out.getvalue()
    else:
        encoded = bytes(simplejpeg.encode_jpeg(values, spec.quality, colorsubsampling="420"))
    small = plain.reduce(max(1, min(plain.size) // ENOUGH))
    facts = ImageFacts(
        sha256=hashlib.sha256(encoded).digest(),
        size=len(encoded),
        width=plain.width,
        height=plain.height,
        format=spec.format or "jpeg",
        mode="RGB",
        orientation=None,
        gps=False,
        animated=animated,
        dhash=difference_hash(np.asarray(small.convert("L"))),
    )
    return encoded, facts


def fitted(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """The size with its longer side at most `max_side`, proportions kept, never enlarged."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
