"""Small pictures of what a dataset holds: a strip for a page, a sheet with captions for a closer look."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from lakehouse.errors import CatalogError

MAX_IMAGES = 12
MAX_BYTES = 60_000  # a strip is embedded in pages, so it stays small
_GAP = 4
_GROUND = (255, 255, 255)
_INK = (60, 60, 60)


def thumbnail_strip(images: Sequence[bytes], side: int = 96) -> bytes:
    """Up to twelve square thumbnails side by side, as a JPEG of at most 60 kB.

    Raises
    ------
    CatalogError
        There is no image, or one cannot be decoded.
    """
    tiles = [_tile(data, side) for data in images[:MAX_IMAGES]]
    return _small_jpeg(_grid(tiles, side, columns=max(len(tiles), 1), caption=0))


def thumbnail(image: bytes, side: int) -> bytes:
    """One square thumbnail, as a JPEG; raises CatalogError if the photograph cannot be decoded."""
    return _jpeg(_tile(image, side), 82)


def contact_sheet(
    images: Sequence[bytes], captions: Sequence[str] = (), columns: int = 6, side: int = 128
) -> bytes:
    """Thumbnails in rows with a caption under each, as a JPEG; `captions` are cut to the thumbnail's width.

    Raises
    ------
    CatalogError
        There is no image, or one cannot be decoded.
    """
    height = 16 if captions else 0
    tiles = [_tile(data, side) for data in images]
    sheet = _grid(tiles, side, columns, height)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, caption in enumerate(captions[: len(tiles)]):
        left, top = _corner(place, side, columns, height)
        pen.text((left, top + side + 1), _fitting(caption, side, pen, font), _INK, font)
    return _jpeg(sheet, 85)


def _tile(data: bytes, side: int) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (2 * side, 2 * side))  # decodes a JPEG at a fraction of its size
            return ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (side, side))
    except (UnidentifiedImageError, OSError) as error:
        raise CatalogError(
            f"a photograph for the thumbnails cannot be decoded: {error}; verify the shards"
        ) from error


def _grid(tiles: Sequence[Image.Image], side: int, columns: int, caption: int) -> Image.Image:
    if not tiles:
        raise CatalogError("there is no photograph to make thumbnails of; the dataset is empty")
    across, down = min(columns, len(tiles)), -(-len(tiles) // columns)
    size = (across * (side + _GAP) - _GAP, down * (side + caption + _GAP) - _GAP)
    sheet = Image.new("RGB", size, _GROUND)
    for place, tile in enumerate(tiles):
        sheet.paste(tile, _corner(place, side, columns, caption))
    return sheet


def _corner(place: int, side: int, columns: int, caption: int) -> tuple[int, int]:
    return place % columns * (side + _GAP), place // columns * (side + caption + _GAP)


def _fitting(
    text: str, width: int, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    while text and pen.textlength(text, font) > width:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    return text


def _small_jpeg(image: Image.Image) -> bytes:
    for quality in (85, 75, 65, 50, 35):
        data = _jpeg(image, quality)
        if len(data) <= MAX_BYTES:
            return data
    # Noise at a large size; the strip is then made smaller, which always ends.
    return _small_jpeg(image.resize((image.width // 2, image.height // 2)))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
