"""Files made to hurt whoever opens them, each with the outcome that it must have."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.images import corpus

# `jpegtran -arithmetic` (libjpeg-turbo 2.1.5) of a picture of 16 x 8 pixels, one scan.
_ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62r"
    "Z4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKT/yQARCAAIABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwCu3AgYX0BNxPIOiWpCBNKwn2Dm2mThAaVFB2TVN9s3"
    "C/L/2Q=="
)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\xff\xd9"


def files() -> dict[str, tuple[bytes, str]]:
    """Bytes and outcome (`ok` or the reason of a rejection) by name."""
    kinds = corpus.kinds()
    return {**_jpegs(kinds), **_pngs(kinds), **_others(kinds)}


def _jpegs(kinds: dict[str, bytes]) -> dict[str, tuple[bytes, str]]:
    plain = kinds["plain.jpg"]
    frame, tables = plain.index(b"\xff\xc0"), plain.index(b"\xff\xdb")

    def changed(at: int, new: bytes) -> bytes:
        return plain[:at] + new + plain[at + len(new) :]

    def leading(*segments: bytes) -> bytes:
        return plain[:2] + b"".join(segments) + plain[2:]

    def bare(*segments: bytes) -> bytes:
        """Without JFIF, after which Adobe's segment would not count."""
        return plain[:2] + b"".join(segments) + plain[tables:]

    orientation, deep = _ifd((0x0112, 3, 1, 6)), _ifd((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), after=8)
    cmyk = kinds["cmyk.jpg"]
    adobe = cmyk.index(b"Adobe") + 11
    return {
        "arithmetic coding": (base64.b64decode(_ARITHMETIC), "wrong_type"),
        "12 bits": (changed(frame + 4, b"\x0c"), "wrong_type"),
        "12 bits, extended": (changed(frame + 1, b"\xc1\0\x11\x0c"), "wrong_type"),
        "extended, 8 bits": (changed(frame + 1, b"\xc1"), "ok"),
        "lossless": (changed(frame + 1, b"\xc3"), "wrong_type"),
        "hierarchical": (changed(frame + 1, b"\xc5"), "wrong_type"),
        "two frames": (plain[:frame] + plain[frame : frame + 19] * 2 + plain[frame + 19 :], "corrupt"),
        "no pixels": (changed(frame + 5, bytes(4)), "corrupt"),
        "height told later": (changed(frame + 5, bytes(2)), "corrupt"),
        "few bytes for 80 million pixels": (changed(frame + 5, struct.pack(">HH", 9000, 9000)), "corrupt"),
        "sampled 4:1:0": (_sampled_4_1_0(), "ok"),
        "sampled 4:1:0, no end": (_sampled_4_1_0()[:-2], "corrupt"),
        "sampled 4:1:0, cut": (_sampled_4_1_0()[:-40], "corrupt"),
        "impossible sampling": (changed(frame + 11, b"\x44"), "corrupt"),
        "two starts": (b"\xff\xd8" + plain, "corrupt"),
        "byte order mark": (b"\xef\xbb\xbf" + plain, "wrong_type"),
        "filled up": (plain[:frame] + b"\xff" * 50_000 + plain[frame:], "ok"),
        "garbage between segments": (plain[:frame] + bytes(50) + plain[frame:], "ok"),
        "no markers between segments": (plain[:frame] + b"\xff\0" * 50_000 + plain[frame:], "ok"),
        "garbage before and among pixels": (
            plain[:frame] + bytes(50) + plain[frame:-200] + bytes(50) + b"\xff\xd0" + plain[-200:],
            "corrupt",
        ),
        "garbage before pixels that are cut": (
            plain[:frame] + bytes(50) + plain[frame:-200] + _END,
            "corrupt",
        ),
        "millions of segments": (plain[:2] + b"\xff\x01" * 2_000_000 + plain[2:], "corrupt"),
        "a page behind": (plain + b"<html><script>1</script></html>", "ok"),
        "zeros behind": (plain + bytes(100_000), "ok"),
        "a film behind": (plain + b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 20_000, "ok"),
        "another behind": (plain + kinds["progressive.jpg"], "ok"),
        "hundreds of passes": (scans(64, 64, 150), "ok"),
        "thousands of passes": (scans(8, 8, 1_001), "bomb"),
        "passes over many pixels": (scans(9_000, 9_000, 60), "bomb"),
        "sequential passes": (_sequential_scans(plain, 4_000, 300), "bomb"),
        "passes behind all pixels": (
            plain[:-2] + _segment(0xDA, b"\1\1\0\0\x3f\0") * 20_000 + _END,
            "corrupt",
        ),
        "EXIF in a circle": (leading(_segment(0xE1, deep)), "ok"),
        "EXIF of gigabytes": (leading(_segment(0xE1, _ifd((0x9286, 7, 0x7FFFFFFF, 8)))), "ok"),
        "EXIF many times": (leading(*[_segment(0xE1, orientation + bytes(60_000))] * 40), "ok"),
        "EXIF turned nine times": (leading(_segment(0xE1, _ifd((0x0112, 3, 1, 9)))), "ok"),
        "GPS outside": (leading(_segment(0xE1, _ifd((0x8825, 4, 1, 0xFFFFFFF0)))), "ok"),
        "XMP of megabytes": (
            leading(*[_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<a>" * 20_000)] * 30),
            "ok",
        ),
        "profile part 0 of 0": (leading(_segment(0xE2, b"ICC_PROFILE\0\0\0" + bytes(10))), "ok"),
        "profile in wrong parts": (leading(*[_segment(0xE2, b"ICC_PROFILE\0\5\2" + bytes(9_000))] * 9), "ok"),
        "a million pictures": (leading(_segment(0xE2, _index_of_pictures(1_000_000))), "ok"),
        "unknown Adobe transform": (bare(_segment(0xEE, b"Adobe\0\x64\0\0\0\0\x63")), "ok"),
        "Adobe says RGB": (bare(_segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")), "ok"),
        "CMYK, unknown transform": (cmyk[:adobe] + b"\1" + cmyk[adobe + 1 :], "ok"),
        "CMYK that says YCCK": (cmyk[:adobe] + b"\2" + cmyk[adobe + 1 :], "ok"),
        "restarts that do not come": (leading(_segment(0xDD, b"\0\1")), "corrupt"),
        "a hundred thousand segments": (leading(*[_segment(0xE5, b"x")] * 100_000), "ok"),
        "thousands of tables": (leading(*[_segment(0xC4, b"\0\1" + bytes(16))] * 5_000), "ok"),
        "cut in the frame": (plain[: frame + 4], "corrupt"),
        "the start alone": (b"\xff\xd8\xff", "corrupt"),
        "start and end": (b"\xff\xd8\xff\xd9", "corrupt"),
    }


def _pngs(kinds: dict[str, bytes]) -> dict[str, tuple[bytes, str]]:
    plain = kinds["rgb.png"]
    bomb = zlib.compress(bytes(20_000_000), 9)

    def holding(*chunks: bytes) -> bytes:
        return plain[:33] + b"".join(chunks) + plain[33:]

    animated = kinds["animated.png"]
    control = animated.index(b"acTL")
    endless = corpus.chunk(b"acTL", struct.pack(">II", 0x7FFFFFFF, 0))
    return {
        "zTXt bomb": (holding(corpus.chunk(b"zTXt", b"k\0\0" + bomb)), "corrupt"),
        "iTXt bomb": (holding(corpus.chunk(b"iTXt", b"k\0\1\0\0\0" + bomb)), "corrupt"),
        "iCCP bomb": (holding(corpus.chunk(b"iCCP", b"k\0\0" + bomb)), "corrupt"),
        "texts without end": (holding(*[corpus.chunk(b"tEXt", b"k\0" + b"x" * 100)] * 5_000), "ok"),
        "EXIF bomb": (holding(corpus.chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(90_000))), "ok"),
        "pixels without end": (_png(4, 4, 8, 2, bytes(20_000_000)), "ok"),
        "half of the rows": (_png(100, 100, 8, 2, bytes(301) * 50), "corrupt"),
        "half of the rows, interlaced": (_png(40, 40, 8, 2, bytes(2_500), interlaced=1), "corrupt"),
        "the last byte": (_png(40, 40, 8, 2, bytes(121 * 40 - 1)), "corrupt"),
        "unknown filter": (_png(4, 4, 8, 2, (b"\x09" + bytes(12)) * 4), "corrupt"),
        "unknown depth": (_png(4, 4, 3, 2, bytes(13) * 4), "corrupt"),
        "interlaced, 16 bits": (_png(40, 40, 16, 2, bytes(9_690), interlaced=1), "ok"),
        "interlaced, one pixel": (_png(1, 1, 8, 2, bytes(4), interlaced=1), "ok"),
        "two bits": (_png(7, 3, 2, 0, bytes(3) * 3), "ok"),
        "grey and alpha, 16 bits": (_png(40, 40, 16, 4, bytes(161) * 40), "ok"),
        "a transparent colour": (_png(4, 4, 8, 2, bytes(13) * 4, (b"tRNS", bytes(6))), "ok"),
        "a transparent grey of 16 bits": (_png(4, 4, 16, 0, bytes(9) * 4, (b"tRNS", bytes(2))), "ok"),
        "no palette": (_png(4, 4, 8, 3, bytes(5) * 4), "corrupt"),
        "no pixels": (_SIGNATURE + plain[8:33] + corpus.chunk(b"IEND", b""), "corrupt"),
        "line ends changed": (plain.replace(b"\r\n", b"\n"), "wrong_type"),
        "a chunk of 4 GB": (plain[:33] + b"\xff\xff\xff\xfftEXt" + plain[33:], "corrupt"),
        "two billion frames": (animated[: control - 4] + endless + animated[control + 16 :], "ok"),
        "the start alone": (_SIGNATURE, "corrupt"),
    }


def _others(kinds: dict[str, bytes]) -> dict[str, tuple[bytes, str]]:
    gif, webp, animated = kinds["still.gif"], kinds["lossy.webp"], kinds["animated.webp"]
    first = 13 + (3 << (gif[10] & 7) + 1)
    frame = gif.index(b"\x2c", first)

    def moved(*box: int) -> bytes:
        return gif[: frame + 1] + struct.pack("<4H", *box) + gif[frame + 9 :]

    avif = io.BytesIO()
    Image.new("RGB", (16, 16)).save(avif, "AVIF")
    other_size = b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x0f\0\0" * 2
    return {
        "GIF frame beyond the canvas": (moved(60, 50, 72, 56), "ok"),
        "GIF frame far away": (moved(60_000, 60_000, 72, 56), "bomb"),
        "GIF frame of 4 gigapixels": (moved(0, 0, 65_535, 65_535), "bomb"),
        "GIF frame of nothing": (moved(0, 0, 0, 0), "corrupt"),
        "GIF canvas of nothing": (gif[:6] + bytes(4) + gif[10:], "corrupt"),
        "GIF code size 255": (gif[: frame + 10] + b"\xff" + gif[frame + 11 :], "corrupt"),
        "GIF without frames": (gif[:first] + b";", "corrupt"),
        "GIF of a thousand frames": (gif[:-1] + gif[first:-1] * 1_000 + b";", "ok"),
        "GIF with a block's end too much": (gif[:-1] + b"\0" + gif[first:], "ok"),
        "GIF with garbage between blocks": (gif[:-1] + b"\1" + gif[first:], "corrupt"),
        "GIF comments": (gif[:-1] + b"\x21\xfe" + (b"\xff" + bytes(255)) * 5_000 + b"\0;", "ok"),
        "GIF start alone": (b"GIF89a", "corrupt"),
        "WebP size too large": (webp[:4] + b"\xff\xff\xff\xff" + webp[8:], "corrupt"),
        "WebP size zero": (webp[:4] + bytes(4) + webp[8:], "corrupt"),
        "WebP and more": (webp + bytes(10_000), "ok"),
        "WebP of two sizes": (
            b"RIFF" + struct.pack("<I", 22 + len(webp) - 12) + other_size + webp[12:],
            "corrupt",
        ),
        "WebP cut in a frame": (animated[:-20], "corrupt"),
        "WebP start alone": (b"RIFF\0\0\0\0WEBP", "corrupt"),
        "AVIF": (avif.getvalue(), "wrong_type"),
        "JPEG XL": (b"\xff\x0a" + bytes(100), "wrong_type"),
        "a page": (b"\n\n <!DOCTYPE html><html>", "wrong_type"),
        "compressed SVG": (b"\x1f\x8b\x08" + bytes(50), "wrong_type"),
    }


def scans(width: int, height: int, number: int) -> bytes:
    """A progressive JPEG in grey of so many passes, each a few bytes: one code stands for 16,384 blocks."""
    blocks = -(-width // 8) * -(-height // 8)
    codes = 1 + blocks // 16_384
    body = np.packbits(np.tile(np.array([0] * 15, np.uint8), codes)).tobytes()
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    refinements = [
        _segment(0xDA, bytes((1, 1, 0, 1 + n % 63, 1 + n % 63, 0))) + body for n in range(number - 1)
    ]
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xDB, b"\0" + b"\1" * 64),
            _segment(0xC2, frame),
            _segment(0xC4, b"\0\1" + bytes(16)),
            _segment(0xC4, b"\x10\1\1" + bytes(14) + b"\xe0\0"),
            _segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8)),
            *refinements,
            _END,
        )
    )


def _sampled_4_1_0() -> bytes:
    """A JPEG in grey whose colours are sampled so: eight blocks of brightness, then one for each colour."""
    out = io.BytesIO()
    Image.new("RGB", (96, 64), (128, 128, 128)).save(out, "JPEG", subsampling=2)
    head = bytearray(out.getvalue()[: out.getvalue().index(b"\xff\xda") + 14])
    head[head.index(b"\xff\xc0") + 11] = 0x42
    # By the usual tables: no difference to the block before, and nothing else in the block (T.81, annex K.3).
    unit = np.packbits([*(0, 0, 1, 0, 1, 0) * 8, *(0, 0, 0, 0) * 2]).tobytes()
    return bytes(head) + unit * (96 // 32 * 64 // 16) + _END


def _sequential_scans(jpeg: bytes, side: int, number: int) -> bytes:
    """A sequential JPEG whose three components come again and again, each time cut."""
    head = bytearray(jpeg[: jpeg.index(b"\xff\xda")])
    frame = head.index(b"\xff\xc0")
    head[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    passes = (
        _segment(0xDA, bytes((1, 1 + n % 3, 0x11 if n % 3 else 0, 0, 63, 0))) + bytes(4)
        for n in range(number)
    )
    return bytes(head) + b"".join(passes) + _END


def _segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def _ifd(*entries: tuple[int, int, int, int], after: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<L", after)


def _index_of_pictures(number: int) -> bytes:
    entries = (0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, number), (0xB002, 7, 16, 50)
    return b"MPF\0" + _ifd(*entries)[6:] + bytes(40)


def _png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    rows: bytes,
    *chunks: tuple[bytes, bytes],
    interlaced: int = 0,
) -> bytes:
    header = corpus.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    more = b"".join(corpus.chunk(*one) for one in chunks)
    return (
        _SIGNATURE + header + more + corpus.chunk(b"IDAT", zlib.compress(rows)) + corpus.chunk(b"IEND", b"")
    )
