"""USTAR archives whose bytes depend on nothing but the names and contents of their members."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 512
_RECORD = 20 * BLOCK  # tar pads an archive to whole records


def member(name: str, content: bytes) -> Iterator[bytes]:
    """The pieces of one plain file: a header of one block, the content, padding to whole blocks."""
    yield _header(name, len(content))
    yield content
    yield bytes(-len(content) % BLOCK)


def trailer(position: int) -> bytes:
    """What ends an archive whose members take `position` bytes."""
    return bytes(2 * BLOCK + (-(position + 2 * BLOCK) % _RECORD))


def _header(name: str, size: int) -> bytes:
    """Mode 0644; owner, group and time, which could vary, are zero."""
    fields = b"".join(
        (
            name.encode("ascii").ljust(100, b"\0"),
            b"0000644\0",
            b"0000000\0" * 2,  # owner and group
            f"{size:011o}\0".encode(),
            b"00000000000\0",  # modification time
            b" " * 8,  # checksum, counted as blanks
            b"0",
            bytes(100),
            b"ustar\00000",
        )
    ).ljust(BLOCK, b"\0")
    return fields[:148] + f"{sum(fields):06o}\0 ".encode() + fields[156:]
