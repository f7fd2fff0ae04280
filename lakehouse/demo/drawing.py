"""One photograph of the embedded source, drawn from its seed: a blurred ground, a subject, light, grain.

Cheap on purpose (under ten milliseconds): the ground is made at a few dozen pixels and enlarged, the subject
is drawn at twice the size and reduced, the grain is cut from one tile per process.
"""

from __future__ import annotations

import io
import math
import zlib
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from lakehouse.demo import animals, insects, plants
from lakehouse.demo.looks import GROUNDS, LOOKS, Look
from lakehouse.demo.pen import Form, Pen

FORMS: dict[str, Form] = {**insects.FORMS, **animals.FORMS, **plants.FORMS}

# Forms that stand on the ground: they are not turned upside down, only mirrored and leaned a little.
_UPRIGHT = frozenset({"bird", "duck", "crane", "mammal", *plants.FORMS} - {"cups"})
_FLOWERY = frozenset({"bee", "hoverfly", "butterfly"})
_QUALITY = 85
_GRAIN_ZERO = 24
_TILE = 360


@cache
def _grain() -> Image.Image:
    rng = np.random.Generator(np.random.PCG64(20210407))
    noise = rng.normal(0, 3.4, (560, 560, 1)) + rng.normal(0, 2.8, (560, 560, 3))
    return Image.fromarray(np.clip(np.rint(noise + _GRAIN_ZERO), 0, 2 * _GRAIN_ZERO).astype(np.uint8))


def _field(rng: np.random.Generator, side: int) -> np.ndarray:
    """Smooth noise in 0..1, square: three octaves, each enlarged."""
    total = np.zeros((side, side), dtype=np.float32)
    for cells, weight in ((14, 1.0), (34, 0.55), (80, 0.3)):
        rough = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        total += weight * np.asarray(rough.resize((side, side), Image.Resampling.BICUBIC))
    # Stretched, so that a small piece still shows several of the palette's colours.
    return np.clip((total - total.mean()) / (3.6 * total.std()) + 0.5, 0, 1)


@cache
def _texture(ground: str) -> Image.Image:
    """A tile of one ground, out of focus: its colours in smooth noise, then blades, ripples or pebbles."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(ground.encode())))
    palette = np.asarray(GROUNDS[ground], dtype=np.float32)
    place = _field(rng, _TILE) * (len(palette) - 1.001)
    index = place.astype(np.intp)
    share = (place - index)[..., None]
    tile = Image.fromarray((palette[index] * (1 - share) + palette[index + 1] * share).astype(np.uint8))
    draw = ImageDraw.Draw(tile, "RGBA")
    tones = GROUNDS[ground]
    spots = rng.uniform(-10, _TILE + 10, (900, 2)).tolist()
    sizes = rng.uniform((1, 1), (7, 4), (900, 2)).tolist()
    for (x, y), (long, short), tone in zip(spots, sizes, rng.integers(0, 4, 900).tolist(), strict=True):
        if ground in ("meadow", "lawn", "marsh", "leaves", "flowers"):
            line = [(x, y), (x + 3 * long - 12, y + 14 * short)]
            draw.line(line, fill=(*tones[tone], 120), width=int(short))
        elif ground == "water":
            draw.line([(x, y), (x + 6 * long, y)], fill=(*tones[tone], 70), width=1)
        elif ground == "bark":
            draw.line([(x, y), (x + long - 4, y + 12 * short)], fill=(*tones[tone], 90), width=int(short))
        elif ground not in ("sky", "dusk"):
            draw.ellipse((x - long, y - short, x + long, y + short), fill=(*tones[tone], 100))
    if ground in ("flowers", "leaves", "dusk", "meadow"):  # distant lights
        for (x, y), (long, _), tone in zip(spots[:90], sizes, rng.integers(2, 4, 90).tolist(), strict=False):
            draw.ellipse((x - long, y - long, x + long, y + long), fill=(*tones[tone], 110))
    return tile.filter(ImageFilter.GaussianBlur(1.3))


def _ground(look: Look, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A piece of the ground's tile, at twice the size, with light from one side and darker corners."""
    wide = int(rng.integers(52, 120))
    high = max(8, round(wide * size[1] / size[0]))
    left, top = int(rng.integers(0, _TILE - wide)), int(rng.integers(0, max(1, _TILE - high)))
    piece = _texture(look.ground).crop((left, top, left + wide, top + high))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    y, x = np.mgrid[-0.5 : 0.5 : high * 1j, -0.5 : 0.5 : wide * 1j]
    angle = rng.uniform(0, math.tau)
    gain = 1.0 + 0.26 * (x * math.cos(angle) + y * math.sin(angle)) - 0.42 * (x * x + y * y)
    pixels = (np.asarray(piece) + rng.normal(0, 9, 3)) * gain[..., None]
    lit = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    # Nearest is several times faster than a smooth filter, and two pixels of a blur under grain do not show.
    smooth = lit.resize((size[0] // 2, size[1] // 2), Image.Resampling.BICUBIC)
    return smooth.resize((size[0] * 2, size[1] * 2), Image.Resampling.NEAREST)


def _perch(pen: Pen, rng: np.random.Generator) -> None:
    """A flower head under an insect that visits flowers."""
    hues = ((214, 120, 176), (240, 236, 222), (150, 110, 200), (244, 206, 64), (236, 150, 90))
    colour = hues[int(rng.integers(len(hues)))]
    away = pen.inside(
        (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.4, 0.4))), float(rng.uniform(1.2, 1.8))
    )
    petals = int(rng.integers(7, 15))
    for k in range(petals):
        angle = k * math.tau / petals
        away.oval(0.62 * math.cos(angle), 0.62 * math.sin(angle), 0.46, 0.2, colour, angle, 225)
        away.oval(0.6 * math.cos(angle), 0.6 * math.sin(angle), 0.34, 0.09, (255, 255, 255), angle, 50)
    away.blob(0, 0, 0.3, 0.3, (206, 158, 42))


def _develop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exposure, a warm or cold cast, and grain; in bytes, where Pillow is fast."""
    wide, high = image.size
    gain = rng.uniform(0.84, 1.14) * (1 + rng.normal(0, 0.035, 3))
    table = np.clip(np.arange(256)[None, :] * gain[:, None], 0, 255).astype(int).ravel().tolist()
    top, left = int(rng.integers(0, 560 - high + 1)), int(rng.integers(0, 560 - wide + 1))
    grain = _grain().crop((left, top, left + wide, top + high))
    return ImageChops.add(image.point(table), grain, offset=-_GRAIN_ZERO)


def picture(taxon_id: int, seed: int, size: tuple[int, int]) -> Image.Image:
    """The photograph of one taxon: the same for the same arguments, different for every seed.

    Parameters
    ----------
    taxon_id
        A key of `looks.LOOKS`.
    seed
        Chooses pose, scale, light, place and grain.
    size
        Width and height in pixels.
    """
    look = LOOKS[taxon_id]
    rng = np.random.Generator(np.random.PCG64(seed))
    image = _ground(look, size, rng)  # twice the size: reducing it smooths the subject's edges
    large = image.size
    upright = look.form in _UPRIGHT
    scale = min(large) * float(rng.uniform(0.25, 0.4))
    at = large[0] * float(rng.uniform(0.4, 0.6)), large[1] * float(rng.uniform(0.42, 0.58))
    turn = float(rng.normal(0, 0.12)) if upright else float(rng.uniform(0, math.tau))
    pen = Pen(image, at, scale, turn, rng)
    if look.form in _FLOWERY and rng.random() < 0.55:
        _perch(pen, rng)
    low = look.form in ("bird", "crane", "mammal", "mushroom")
    for spread in (1.15, 0.95, 0.75):  # a soft shadow that grounds the subject
        ground = Pen(image, at, scale, 0.0, rng)
        ground.oval(0, 0.95 if low else 0.12, spread, 0.32 * spread, (0, 0, 0), alpha=18)
    FORMS[look.form](pen, look)
    if upright and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _develop(image.reduce(2), rng)


def photograph(taxon_id: int, seed: int, size: tuple[int, int], extension: str) -> bytes:
    """The file's bytes: a PNG for `png`, else a JPEG."""
    image, buffer = picture(taxon_id, seed, size), io.BytesIO()
    if extension.lower() == "png":
        image.save(buffer, "PNG", compress_level=6)
    else:
        image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
