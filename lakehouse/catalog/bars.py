"""A small bar chart drawn without a plotting library: hundreds of partitions get one, and each costs
milliseconds."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_ROW, _NAME, _BAR, _GAP = 16, 190, 300, 8
_COLOUR, _INK, _GROUND = (27, 110, 106), (43, 43, 43), (255, 255, 255)


def label_bars(counts: Sequence[tuple[str, int]], most: int = 12) -> bytes:
    """A PNG with a bar for each of the first `most` labels, and a line on the rest; the same bytes for the
    same counts."""
    shown, rest = counts[:most], counts[most:]
    font = ImageFont.load_default(11)
    height = _ROW * (len(shown) + bool(rest)) + 2 * _GAP
    image = Image.new("RGB", (_NAME + _BAR + 60, height), _GROUND)
    pen = ImageDraw.Draw(image)
    highest = max((count for _, count in shown), default=1)
    for row, (label, count) in enumerate(shown):
        top = _GAP + row * _ROW
        text = label if len(label) <= 32 else label[:31] + "…"
        pen.text((_GAP, top), text, _INK, font)
        length = max(1, round(_BAR * count / highest))
        pen.rectangle((_NAME, top + 2, _NAME + length, top + _ROW - 4), _COLOUR)
        pen.text((_NAME + length + 5, top), f"{count:,}", _INK, font)
    if rest:
        photos = sum(count for _, count in rest)
        pen.text(
            (_GAP, _GAP + len(shown) * _ROW), f"and {len(rest):,} more labels, {photos:,} photos", _INK, font
        )
    stream = io.BytesIO()
    image.quantize(16).save(stream, "PNG", optimize=True)
    return stream.getvalue()
