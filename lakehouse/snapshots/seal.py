"""Checksums of the files that describe a version: `checksums.txt` in its catalogue folder, as sha256sum reads
it.

Its first line is a comment with the digest of the lines that follow, so that damage to the list itself shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from lakehouse.lake import Lake
from lakehouse.snapshots.identity import sha256_hex, sha256_of_object

NAME = "checksums.txt"


def seal(lake: Lake, folder: str) -> None:
    """Write the checksums of all files that are in `folder` now; whoever adds one seals it again."""
    names = [key.removeprefix(f"{folder}/") for key in lake.list(folder)]
    lines = "".join(
        f"{sha256_of_object(lake, f'{folder}/{name}')[0]}  {name}\n" for name in names if name != NAME
    )
    lake.put(f"{folder}/{NAME}", f"# {sha256_hex(lines.encode())}\n{lines}".encode())


def sealed(lake: Lake, folder: str) -> dict[str, str] | None:
    """The digest of each file of a sealed folder; None if the list is not what it was."""
    comment, _, lines = lake.get(f"{folder}/{NAME}").decode("utf-8", "replace").partition("\n")
    if comment != f"# {sha256_hex(lines.encode())}":
        return None
    return dict(_entries(lines))


def _entries(lines: str) -> Iterator[tuple[str, str]]:
    for line in lines.splitlines():
        digest, _, name = line.partition("  ")
        yield name, digest
