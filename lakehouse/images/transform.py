"""A smaller or re-encoded rendition of an image, where a campaign asks for one; else the bytes are kept."""

from __future__ import annotations

import io

from PIL import Image

from lakehouse.campaign import ImageSpec
from lakehouse.images.pixels import opaque_rgb, orientation_of, upright


def render(data: bytes, spec: ImageSpec) -> bytes:
    """The rendition `spec` asks for: upright, RGB by the policy of `pixels`, never enlarged, no metadata.

    `data` must have passed `inspect`; a spec that keeps the original returns it bit for bit.
    """
    if not spec.transformed:
        return data
    with Image.open(io.BytesIO(data)) as opened:
        orientation, target = orientation_of(opened), fitted(opened.width, opened.height, spec.max_side)
        if spec.max_side:
            # A JPEG decoder can leave out detail nobody would see: at least twice the size is kept.
            opened.draft(None, (2 * target[0], 2 * target[1]))
        image = opaque_rgb(opened)
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    form = "WEBP" if spec.format == "webp" else "JPEG"
    upright(image, orientation).save(out, form, quality=spec.quality)
    return out.getvalue()


def fitted(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """The size with its longer side at most `max_side`, proportions kept, never enlarged."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
