"""What counts as an image, and what is recorded of it."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from lakehouse.images.validate import InvalidImage, glance, inspect

# A folder of real images beside the checkout, where there is one.
_REAL = Path(__file__).parents[3] / "shared" / "data"


def real(pattern: str) -> list:
    found = sorted(_REAL.glob(pattern)) if _REAL.is_dir() else []
    files = [path for path in found if path.is_file() and path.suffix not in {".md", ".json", ".txt"}]
    return files or [pytest.param(None, marks=pytest.mark.skip("no real images here"))]


def reason(data: bytes) -> str:
    with pytest.raises(InvalidImage) as caught:
        inspect(data)
    return caught.value.reason


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def expected(name: str) -> list[str]:
    """What is asserted of a real image: format (or why it is refused), mode, size, orientation, flags."""
    lines = (Path(__file__).parent / "real_images.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    return next(row[1:] for row in rows if row[0] == name)


@pytest.mark.parametrize("path", real("images_*/**/*.*"), ids=lambda path: path and path.name)
def test_every_real_image_has_its_outcome(path):
    data = path.read_bytes()
    try:
        facts = inspect(data)
    except InvalidImage as error:
        assert [error.reason, *[""] * 6] == expected(path.name)
        return
    orientation = "" if facts.orientation is None else facts.orientation
    found = [facts.format, facts.mode, facts.width, facts.height, orientation, facts.gps, facts.animated]
    assert [str(one) for one in found] == expected(path.name)
    assert facts.sha256 == hashlib.sha256(data).digest()


@pytest.mark.parametrize("path", real("images_*/**/*.*"), ids=lambda path: path and path.name)
def test_a_glance_sees_what_a_look_sees_and_no_hash(path):
    data = path.read_bytes()
    try:
        facts = inspect(data)
    except InvalidImage as error:
        with pytest.raises(InvalidImage) as caught:
            glance(data)
        assert caught.value.reason == error.reason
        return
    seen = glance(data)
    assert facts._replace(dhash=None) == seen._replace(dhash=None)
    assert seen.dhash is None or facts.format != "jpeg"


def test_a_glance_finds_a_cut_but_no_damage(tools):
    whole = tools.make_jpeg(3, 400, 300, quality=95)
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 2000] = random.Random(5).randbytes(2000)
    assert glance(bytes(damaged)).width == 400
    with pytest.raises(InvalidImage):
        glance(whole[:-500])


def test_a_camera_that_pads_its_files_is_forgiven(tools):
    assert glance(tools.make_jpeg(3) + bytes(100)).width == 96


def test_a_harmless_oddity_of_a_header_is_no_damage(tools):
    """Many Samsung cameras write a spectral range that sequential JPEGs do not have."""
    data = bytearray(tools.make_jpeg(3, 400, 300))
    start = data.index(b"\xff\xda")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    data[start + 2 + length - 2] = 0
    assert inspect(bytes(data)).width == 400
    cut = bytes(data[: len(data) * 2 // 3]) + b"\xff\xd9"
    assert reason(cut) == "corrupt"


def test_the_pixels_decoded_are_an_eighth_a_side(monkeypatch, tools):
    shapes = []
    decode = simplejpeg.decode_jpeg

    def watched(*arguments, **options):
        pixels = decode(*arguments, **options)
        shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watched)
    inspect(tools.make_jpeg(3, 1600, 1200))
    assert shapes == [(150, 200, 1)]


@pytest.mark.parametrize(
    "path", real("images_exif_orientation/*_[1-8].jpg"), ids=lambda path: path and path.name
)
def test_orientation_is_recorded(path):
    assert inspect(path.read_bytes()).orientation == int(path.stem[-1])


@pytest.mark.parametrize("path", real("images_pillow/shared/*gps*.jpg"), ids=lambda path: path and path.name)
def test_a_position_is_noticed(path):
    assert inspect(path.read_bytes()).gps == (path.name == "exif_gps.jpg")


@pytest.mark.parametrize(
    ("form", "kind"), [("JPEG", "jpeg"), ("PNG", "png"), ("GIF", "gif"), ("WEBP", "webp")]
)
def test_the_content_decides_the_format(tools, form, kind):
    facts = inspect(tools.make_jpeg(1, form=form))
    assert (facts.format, facts.width, facts.height, facts.animated) == (kind, 96, 80, False)


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}]
)
def test_every_webp_header_tells_its_size(tools, options):
    facts = inspect(tools.make_jpeg(1, 97, 31, form="WEBP", **options))
    assert (facts.width, facts.height) == (97, 31)


@pytest.mark.parametrize(
    "data",
    [
        b"<html>sign in</html>",
        b"<?xml version='1.0'?><Error/>",
        b'{"a": 1}',
        b"%PDF-1.7",
        b"\0" * 100,
        b"BM1234",
    ],
)
def test_what_is_no_image_has_the_wrong_type(data):
    assert reason(data) == "wrong_type"


def test_nothing_is_empty():
    assert reason(b"") == "empty"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_cut_image_is_corrupt(tools, form, share):
    data = tools.make_jpeg(3, form=form)
    assert reason(data[: int(len(data) * share)]) in {"corrupt", "wrong_type"}


def test_a_cut_jpeg_with_its_end_mark_put_back_is_corrupt(tools):
    data = tools.make_jpeg(3, 400, 300)
    assert reason(data[: len(data) * 2 // 3] + b"\xff\xd9") == "corrupt"


def test_garbage_inside_a_jpeg_is_corrupt(tools):
    data = bytearray(tools.make_jpeg(3, 400, 300, quality=95))
    middle = len(data) // 2
    data[middle : middle + 2000] = random.Random(5).randbytes(2000)
    assert reason(bytes(data)) == "corrupt"


def test_a_flipped_byte_in_a_png_is_corrupt(tools):
    data = bytearray(tools.make_jpeg(3, form="PNG"))
    data[len(data) // 2] ^= 0xFF
    assert reason(bytes(data)) == "corrupt"


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def jpeg_with_size(width: int, height: int, tools) -> bytes:
    data = bytearray(tools.make_jpeg(1))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def test_a_bomb_is_recognised_by_its_header(tools):
    webp = bytearray(tools.make_jpeg(1, form="WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 16383 | 16383 << 14)
    gif = bytearray(tools.make_jpeg(1, form="GIF"))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    bombs = [png_header(100_000, 100_000), jpeg_with_size(60_000, 60_000, tools), bytes(webp), bytes(gif)]
    assert [reason(bomb) for bomb in bombs] == ["bomb"] * 4


def test_no_pixels_is_corrupt():
    assert reason(png_header(0, 10)) == "corrupt"


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "I;16"])
def test_every_mode_of_png_is_taken(mode):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    image = Image.fromarray(values) if mode == "I;16" else Image.new("RGB", (64, 64), "red").convert(mode)
    assert inspect(encoded(image, "PNG")).mode == mode


def test_a_cmyk_jpeg_is_taken():
    facts = inspect(encoded(Image.new("CMYK", (100, 50), (10, 200, 30, 4)), "JPEG"))
    assert (facts.mode, facts.width, facts.height) == ("CMYK", 100, 50)


def test_a_cut_cmyk_jpeg_is_corrupt(tools):
    image = Image.open(io.BytesIO(tools.make_jpeg(1, 300, 300))).convert("CMYK")
    data = encoded(image, "JPEG")
    assert reason(data[: len(data) // 2] + b"\xff\xd9") == "corrupt"


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "MPO"])
def test_an_animation_is_flagged(form):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    facts = inspect(encoded(frames[0], form, save_all=True, append_images=frames[1:]))
    assert facts.animated
    assert facts.extension == {"GIF": "gif", "WEBP": "webp", "PNG": "png", "MPO": "jpg"}[form]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_a_cut_animation_is_corrupt(tools, form):
    frames = [Image.open(io.BytesIO(tools.make_jpeg(seed))) for seed in range(4)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert inspect(data).animated
    assert reason(data[: len(data) * 3 // 4]) == "corrupt"


def test_broken_exif_does_not_make_an_image_invalid(tools):
    facts = inspect(tools.make_jpeg(1, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert (facts.orientation, facts.gps) == (None, False)


def test_a_position_in_xmp_is_noticed(tools):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:GPSLatitude>1,2N</exif:GPSLatitude></x:xmpmeta>'
    assert inspect(tools.make_jpeg(1, xmp=xmp)).gps


def distance(one: bytes, other: bytes) -> int:
    return (inspect(one).dhash ^ inspect(other).dhash).bit_count()


def test_the_hash_survives_another_encoding_and_size_but_not_another_image(tools):
    original = tools.make_jpeg(1, 400, 300)
    smaller, png = tools.make_jpeg(1, 200, 150, quality=60), tools.make_jpeg(1, 400, 300, form="PNG")
    assert distance(original, smaller) <= 4 and distance(original, png) <= 4
    assert distance(original, tools.make_jpeg(2, 400, 300)) > 12


def test_the_hash_of_a_known_image_never_changes():
    ramp = np.tile(np.arange(0, 144, dtype=np.uint8), (144, 1))[..., None]
    rising = simplejpeg.encode_jpeg(np.ascontiguousarray(ramp), colorspace="GRAY")
    falling = simplejpeg.encode_jpeg(np.ascontiguousarray(ramp[:, ::-1]), colorspace="GRAY")
    assert (inspect(rising).dhash, inspect(falling).dhash) == (2**64 - 1, 0)


def test_a_tiny_image_is_taken():
    assert inspect(encoded(Image.new("RGB", (1, 1)), "JPEG")).width == 1
