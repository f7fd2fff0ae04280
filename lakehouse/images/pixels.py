"""One policy for pixels of every kind: what an image looks like as plain RGB, in grey, and upright.

- The first frame stands for an animation.
- Transparency (an alpha channel, a palette's or a PNG's transparent colour) is laid over white.
- A palette is resolved; grey of more than 8 bits is scaled to its high byte, never clipped.
- CMYK becomes RGB by Pillow's plain conversion (which knows Adobe's inverted files).
- RGB with an embedded ICC profile is converted to sRGB; a profile that cannot be used is ignored.
- EXIF orientation is a fact of the file; broken EXIF does not make an image invalid, it says nothing.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_ORIENTATION, _GPS = 0x0112, 0x8825
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises on EXIF that is not EXIF.
_BROKEN_EXIF = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error)


def orientation_of(image: Image.Image) -> int | None:
    """The EXIF orientation, 1 to 8, or None."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except _BROKEN_EXIF:
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def is_located(image: Image.Image) -> bool:
    """Whether EXIF or XMP tells where the picture was taken."""
    xmp = image.info.get("xmp", b"")
    if b"GPSLatitude" in (xmp if isinstance(xmp, bytes) else str(xmp).encode()):
        return True
    try:
        return bool(image.getexif().get_ifd(_GPS))
    except _BROKEN_EXIF:
        return False


def upright(image: Image.Image, orientation: int | None) -> Image.Image:
    """The image turned as its EXIF orientation asks for."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def opaque_rgb(image: Image.Image) -> Image.Image:
    """The image as RGB by the policy above, without metadata."""
    profile, managed = image.info.get("icc_profile"), image.mode in ("RGB", "RGBA", "P")
    plain = _flattened(image).convert("RGB")
    if profile and managed:
        plain = to_srgb(plain, profile)
    plain.info = {}
    return plain


def opaque_gray(image: Image.Image) -> Image.Image:
    """The image as 8-bit grey by the policy above (without colour management)."""
    return _flattened(image).convert("L")


def _flattened(image: Image.Image) -> Image.Image:
    """8 bits a channel and no transparency; the mode may still be any of L, RGB, CMYK and the like."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(values, 0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB") if image.mode == "P" else image


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An RGB image with this colour profile in sRGB; as it is if the profile cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, _SRGB)
    except (ImageCms.PyCMSError, OSError):
        return image
    return converted or image
