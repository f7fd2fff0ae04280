"""Images of every kind this lake may meet, small, and seeded ways to harm them."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms


def kinds() -> dict[str, bytes]:
    """One image of each kind by name, and files that are something else."""
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    rgb = coarse.resize((72, 56), Image.Resampling.BICUBIC)
    alpha = rgb.copy()
    alpha.putalpha(rgb.convert("L"))
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 30.0, 0.0), 3: "W", 4: (0.0, 7.0, 0.0)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    clear = rgb.quantize(16)
    clear.info["transparency"] = 3
    made = {
        "plain.jpg": _saved(rgb, "JPEG"),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "grey.jpg": _saved(rgb.convert("L"), "JPEG"),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "exif.jpg": _saved(rgb, "JPEG", exif=exif.tobytes()),
        "profile.jpg": _saved(rgb, "JPEG", icc_profile=profile),
        "nonsense_profile.jpg": _saved(rgb, "JPEG", icc_profile=b"no profile" * 20),
        "restarts.jpg": _saved(rgb, "JPEG", restart_marker_rows=1),
        "several.jpg": _saved(rgb, "MPO", **frames),
        "rgb.png": _saved(rgb, "PNG"),
        "rgba.png": _saved(alpha, "PNG"),
        "16_bits.png": _saved(wide, "PNG"),
        "bilevel.png": _saved(rgb.convert("1"), "PNG"),
        "palette.png": _saved(clear, "PNG", transparency=3),
        "animated.png": _saved(rgb, "PNG", **frames),
        "still.gif": _saved(rgb.quantize(32), "GIF"),
        "animated.gif": _saved(rgb, "GIF", **frames, duration=50),
        "lossy.webp": _saved(rgb, "WEBP", quality=60),
        "lossless.webp": _saved(alpha, "WEBP", lossless=True),
        "animated.webp": _saved(rgb, "WEBP", **frames),
        "thin.png": _saved(rgb.resize((1, 300)), "PNG"),
        "dot.jpg": _saved(rgb.resize((1, 1)), "JPEG"),
    }
    other = {
        "bmp.jpg": _saved(rgb, "BMP"),
        "tiff.jpg": _saved(rgb, "TIFF"),
        "ico.jpg": _saved(rgb, "ICO"),
        "jpeg2000.jpg": _saved(rgb, "JPEG2000"),
        "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "avif.jpg": b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf" + bytes(200),
        "svg.jpg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        "page.jpg": b"<!doctype html><title>404</title>",
        "error.jpg": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "pdf.jpg": b"%PDF-1.7\n" + bytes(100),
        "zip.jpg": b"PK\3\4" + bytes(100),
        "nothing.jpg": b"",
        "byte.jpg": b"\xff",
        "zeros.jpg": bytes(5000),
    }
    bombs = {
        "bomb.png": png_bomb(50_000, 50_000),
        "bomb.gif": b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + made["still.gif"][10:],
        "bomb.jpg": _resized_header(made["plain.jpg"], 65_000, 65_000),
        "bomb.webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + bytes(8),
        "hidden_bomb.png": hidden_bomb(),
    }
    return made | other | bombs


def png_bomb(width: int, height: int) -> bytes:
    """A few kilobytes that would be gigabytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def hidden_bomb() -> bytes:
    """A PNG whose first chunk looks like a small header, and whose second is that of a large image."""
    small = chunk(b"tEXt", struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + small + png_bomb(11_000, 9_000)[8:]


def harmed(files: dict[str, bytes], rounds: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Every file in `rounds` harmed forms, each with a name that says how."""
    names = sorted(name for name, data in files.items() if data)
    for turn in range(rounds):
        for name in names:
            rng = random.Random(f"{seed}/{turn}/{name}")
            how = rng.choice(_HARM)
            yield f"{name} {how.__name__} {turn}", how(bytearray(files[name]), rng, files)


def cut_everywhere(data: bytes, step: int = 1) -> Iterator[bytes]:
    """The file cut after every `step`-th byte."""
    return (data[:end] for end in range(0, len(data), step))


def _cut(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def _flip(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _flip_header(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(min(64, len(data)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data)


def _zero(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    start = rng.randrange(len(data))
    length = rng.randrange(1, 64)
    data[start : start + length] = bytes(len(data[start : start + length]))
    return bytes(data)


def _garbage(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    start = rng.randrange(len(data))
    data[start : start + 32] = rng.randbytes(32)
    return bytes(data)


def _insert(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.choice((1, 7, 300)))
    return bytes(data)


def _remove(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 5, 100))]
    return bytes(data)


def _trail(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    other = files[rng.choice(sorted(files))]
    return bytes(data) + rng.choice((other, bytes(5000), b"\xff\xd9", b"<script>", rng.randbytes(500)))


def _lead(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    return rng.choice((b"\0", b"\r\n", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) + bytes(data)


def _splice(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    other = files[rng.choice(sorted(files))]
    return bytes(data[: rng.randrange(len(data))]) + other[rng.randrange(len(other) + 1) :]


def _lengths(data: bytearray, rng: random.Random, files: dict[str, bytes]) -> bytes:
    """A length or size that is not true."""
    at = rng.randrange(max(1, len(data) - 4))
    data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\xff\xff"))
    return bytes(data)


_HARM = (_cut, _flip, _flip_header, _zero, _garbage, _insert, _remove, _trail, _lead, _splice, _lengths)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _resized_header(jpeg: bytes, width: int, height: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]
