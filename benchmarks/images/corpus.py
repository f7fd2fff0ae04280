"""Generated photographs: JPEGs of about 75 KB, 500 pixels on the long side, the same on every machine."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

_TEXTURES, _SIDE = 6, 1400
_PROGRESSIVE = 20  # one in so many


def write_corpus(folder: Path, images: int) -> None:
    """Write `photos/<1..images>/medium.jpg` below `folder`, keeping what is there already."""
    done = folder / f"corpus-{images}"
    if done.exists():
        return
    textures = [_texture(seed) for seed in range(_TEXTURES)]
    for number in range(1, images + 1):
        path = folder / "photos" / str(number) / "medium.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_photo(number, textures))
    done.touch()


def _texture(seed: int) -> np.ndarray:
    """1/f noise, which compresses about as foliage does."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None]
    power = (rows**2 + columns**2) ** 0.45
    power[0, 0] = 1
    planes = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE))) / power) for _ in range(3)]
    pixels = np.stack(planes, axis=2)
    return ((pixels - pixels.mean()) / pixels.std() * 50 + 128).clip(0, 255).astype(np.uint8)


def _photo(number: int, textures: list[np.ndarray]) -> bytes:
    rng = np.random.default_rng(number)
    width, height = (500, 375) if rng.random() < 0.7 else (375, 500)
    texture = textures[number % _TEXTURES]
    top, left = rng.integers(0, _SIDE - height), rng.integers(0, _SIDE - width)
    pixels = np.ascontiguousarray(texture[top : top + height, left : left + width])
    quality = int(rng.integers(71, 81))
    if number % _PROGRESSIVE:
        return bytes(simplejpeg.encode_jpeg(pixels, quality, colorsubsampling="420"))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, progressive=True)
    return out.getvalue()
