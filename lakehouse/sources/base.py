"""What a source of open biodiversity data is to the rest of the house: tables of a release, photos by id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of a release as the source stores it: bytes, and ETag and Last-Modified as it says them.

    `name` is the table that it holds, or `archive` where it holds them all. `digest` tells whether the
    ETag may be a digest of the bytes; of an object that the server encrypts it is not.
    """

    name: str
    key: str
    size: int
    etag: str
    last_modified: str | None
    digest: bool = True


@dataclass(frozen=True, slots=True)
class TableStream:
    """A table being read: what it is, and its stored bytes in pieces."""

    file: TableFile
    pieces: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Release:
    """The files of one dump, named by the set of their ETags: one a table, or the archive of all.

    `release_id` is `<YYYYMMDD>-<12 hex digits>`: the newest Last-Modified date and a digest of names,
    sizes and ETags.
    """

    source: str
    release_id: str
    tables: tuple[TableFile, ...]


class Source(Protocol):
    """One source, open for reading.

    `name` is its folder in the lake (`raw/<name>/...`); `reference_url` is the address its files are cited
    by, which for a source served from this machine is not the address they are fetched from.
    """

    name: str
    reference_url: str

    def current_release(self) -> Release:
        """What is served now, without fetching it; raises SourceError if unreachable or incomplete."""

    def read_table(self, table: TableFile) -> Iterator[bytes]:
        """The bytes of a table as they are stored, in pieces; raises SourceError if they changed since."""

    def photo_url(self, photo_id: int, extension: str, size: str) -> str:
        """The URL to fetch a photo's rendition from; `extension` is the raw one of the photos table (keys are
        case-sensitive)."""
