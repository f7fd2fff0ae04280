"""USTAR archives whose bytes depend on nothing but the names and contents of their members."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 512
_RECORD = 20 * BLOCK  # tar pads an archive to whole records


def member(name: str, content: bytes) -> Iterator[bytes]:
    """The pieces of one plain file: a header of one block, the content, padding to whole blocks."""
    yield header(name, len(content))
    yield content
    yield bytes(-len(content) % BLOCK)


def trailer(position: int) -> bytes:
    """What ends an archive whose members take `position` bytes."""
    return bytes(2 * BLOCK + (-(position + 2 * BLOCK) % _RECORD))


# Mode 0644; owner, group and time, which could vary, are zero.
_BEFORE_SIZE = b"0000644\0" + b"0000000\0" * 2
_AFTER_SIZE = b"\0" + b"00000000000\0"
_AFTER_SUM = b"0" + bytes(100) + b"ustar\00000"
_PLAIN = _AFTER_SUM.ljust(BLOCK - 156, b"\0")
_SUM = sum(_BEFORE_SIZE + _AFTER_SIZE + _AFTER_SUM) + 8 * ord(" ")  # the checksum is counted as blanks


def header(name: str, size: int) -> bytes:
    """The header of a plain file of `size` bytes; `name` is ASCII, at most 100 characters."""
    path, digits = name.encode("ascii"), b"%011o" % size
    checksum = _SUM + sum(path) + sum(digits)
    return b"".join(
        (path.ljust(100, b"\0"), _BEFORE_SIZE, digits, _AFTER_SIZE, b"%06o\0 " % checksum, _PLAIN)
    )
