"""Renditions other than the original."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from lakehouse.campaign import ImageSpec
from lakehouse.images import transform
from lakehouse.images.answers import Answer, PhotoRequest
from lakehouse.images.check import Checker
from lakehouse.images.transform import fitted
from lakehouse.images.validate import InvalidImage, inspect

SMALL = ImageSpec(max_side=32)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def render(data: bytes, spec: ImageSpec) -> bytes:
    rendered, facts = transform.render(data, spec)
    again = inspect(rendered)
    assert (facts.sha256, facts.size, facts.format) == (again.sha256, again.size, again.format)
    assert (facts.width, facts.height, facts.mode) == (again.width, again.height, again.mode)
    assert (facts.dhash ^ again.dhash).bit_count() <= 8
    return rendered


@pytest.mark.parametrize("spec", [ImageSpec(), ImageSpec(keep="original")])
def test_the_original_is_kept_bit_for_bit(tools, spec):
    request = PhotoRequest(1, "http://host/photos/1/medium.jpg")
    data, facts = Checker(spec).check(Answer(request, None, body=tools.make_jpeg(1)))
    assert data == tools.make_jpeg(1)
    assert facts == inspect(data)


def test_a_damaged_image_has_no_rendition(tools):
    with pytest.raises(InvalidImage):
        transform.render(tools.make_jpeg(1, 400, 300)[:-3000] + b"\xff\xd9", SMALL)


def test_a_rendition_remembers_that_it_was_an_animation():
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert transform.render(data, SMALL)[1].animated


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((500, 375), 384, (384, 288)),
        ((375, 500), 384, (288, 384)),
        ((100, 50), 384, (100, 50)),
        ((5000, 1), 32, (32, 1)),
    ],
)
def test_the_longer_side_fits_and_nothing_is_enlarged(size, max_side, expected):
    assert fitted(*size, max_side) == expected


@pytest.mark.parametrize(("form", "kind"), [("jpeg", "jpeg"), ("webp", "webp"), (None, "jpeg")])
def test_the_rendition_has_the_size_and_format_asked_for(tools, form, kind):
    facts = inspect(render(tools.make_jpeg(1, 400, 300), ImageSpec(max_side=200, format=form)))
    assert (facts.format, facts.width, facts.height, facts.mode) == (kind, 200, 150, "RGB")


def test_the_same_image_gives_the_same_bytes(tools):
    data = tools.make_jpeg(1, 400, 300)
    assert render(data, SMALL) == render(data, SMALL)


def test_quality_matters(tools):
    data = tools.make_jpeg(1, 400, 300)
    sizes = [len(render(data, ImageSpec(format="jpeg", quality=quality))) for quality in (30, 95)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_image_is_turned_upright(orientation):
    upright = np.zeros((40, 80, 3), np.uint8)
    upright[:20, :40] = 255
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", exif=exif, quality=95)
    result = render(data, SMALL)
    assert np.abs(pixels(result) - np.asarray(Image.fromarray(upright).resize((32, 16)))).mean() < 8
    assert inspect(result).orientation is None


def test_no_metadata_is_left(tools):
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    data = tools.make_jpeg(1, exif=exif, comment=b"by somebody")
    for form in ("jpeg", "webp"):
        with Image.open(io.BytesIO(render(data, ImageSpec(format=form)))) as image:
            assert not {"exif", "comment", "icc_profile", "xmp"} & set(image.info)


def test_transparency_is_white():
    clear = encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 0)))
    half = encoded(Image.new("LA", (64, 64), (0, 128)))
    palette = Image.new("P", (64, 64), 0)
    assert pixels(render(clear, SMALL)).min() == 255
    assert abs(pixels(render(half, SMALL)).mean() - 127) < 2
    assert pixels(render(encoded(palette, transparency=0), SMALL)).min() == 255


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.full((64, 64), 0x8000, np.uint16)
    assert abs(pixels(render(encoded(Image.fromarray(values)), SMALL)).mean() - 128) < 2


def test_cmyk_and_grey_become_rgb():
    cmyk = encoded(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG")
    grey = encoded(Image.new("L", (64, 64), 77), "JPEG")
    red, gray = pixels(render(cmyk, SMALL)).mean(axis=(0, 1)), pixels(render(grey, SMALL))
    assert red[0] > 200 and red[1] < 60 and red[2] < 60
    assert abs(gray.mean() - 77) < 2


def test_an_animation_becomes_its_first_frame():
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(render(data, SMALL)).mean(axis=(0, 1))[0] > 240


def test_a_colour_profile_is_applied_and_a_broken_one_ignored():
    image = Image.new("RGB", (64, 64), (10, 200, 30))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile"):
        data = encoded(image, "PNG", icc_profile=profile)
        assert np.abs(pixels(render(data, SMALL)).mean(axis=(0, 1)) - (10, 200, 30)).max() < 4
