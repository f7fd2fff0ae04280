"""A dump as one dated archive: all tables of one moment in a `.tar.gz`, read as a stream and never unpacked.

The archive is the one form of the dump whose tables are surely of the same month.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from typing import IO

from lakehouse.errors import SourceError
from lakehouse.settings import Settings
from lakehouse.sources.base import Release, TableFile, TableStream
from lakehouse.sources.gunzip import Pieces, inflate
from lakehouse.sources.inaturalist import OPTIONAL_TABLES, TABLES, found_file, release_id
from lakehouse.sources.transport import open_transport

SUFFIXES = (".tar.gz", ".tgz", ".tar")
_PIECE = 1 << 20
# Source: the bucket keeps its archives in metadata/, and the photographs beside that folder.
_FOLDER = re.compile(r"(.*)/metadata$")


def is_archive(address: str) -> bool:
    """Whether an address is that of an archive, by its ending."""
    return address.endswith(SUFFIXES)


class ArchiveSource:
    """The tables of a dated archive, and the photographs of the bucket that it lies in.

    Parameters
    ----------
    name
        The source's folder in the lake.
    uri
        The archive: `http(s)://`, `s3://` or a local file. Photographs are looked for in the folder above
        `metadata/` where the archive is in such a folder, else beside it.
    settings
        Endpoint and credentials for S3.
    """

    def __init__(self, name: str, uri: str, settings: Settings) -> None:
        self.name = name
        folder, _, self._file = uri.rpartition("/")
        above = _FOLDER.fullmatch(folder)
        self._transport = open_transport(folder or ("/" if uri.startswith("/") else "."), settings)
        self._photos = open_transport(above[1], settings) if above else self._transport
        self.reference_url = uri if "://" in uri else self._transport.url(self._file)

    def __enter__(self) -> ArchiveSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back connections."""
        self._transport.close()
        if self._photos is not self._transport:
            self._photos.close()

    def current_release(self) -> Release:
        """The archive as it is served now; its tables are known when it is read."""
        head = self._transport.head(self._file)
        where = self._transport.location(self._file)
        if head is None:
            raise SourceError(f"{where} is not there; check LAKEHOUSE_SOURCE or the campaign's source")
        file = found_file("archive", self._file, head, where)
        return Release(self.name, release_id((file,)), (file,))

    def read_table(self, table: TableFile) -> Iterator[bytes]:
        """The stored bytes of the archive."""
        return self._transport.read(table.key, table.etag, table.size)

    def members(self, pieces: Iterator[bytes]) -> Iterator[TableStream]:
        """The tables in the archive behind `pieces`, in its order; each is to be read before the next.

        Raises
        ------
        SourceError
            The archive is damaged, holds a table twice or lacks one.
        """
        where = self._transport.location(self._file)
        text = io.BufferedReader(Pieces(inflate(pieces, where)))
        seen: set[str] = set()
        try:
            with tarfile.open(fileobj=text, mode="r|", bufsize=_PIECE) as archive:
                for member in archive:
                    table = member.name.rpartition("/")[2].removesuffix(".gz").removesuffix(".csv")
                    if not member.isfile() or table not in (*TABLES, *OPTIONAL_TABLES):
                        continue
                    if table in seen:
                        raise SourceError(f"{where} holds {table} twice; fetch another archive")
                    seen.add(table)
                    content = archive.extractfile(member)
                    assert content is not None, "a regular file has content"
                    file = TableFile(table, f"{self._file}/{member.name}", member.size, "", None)
                    yield TableStream(file, _pieces(content, where))
        except tarfile.TarError as error:
            raise _damaged(where, error) from error
        missing = [table for table in TABLES if table not in seen]
        if missing:
            raise SourceError(f"{where} lacks {', '.join(missing)}; take another archive")
        # What lies behind the end of the archive counts for its ETag.
        while text.read(_PIECE):
            pass

    def photo_url(self, photo_id: int, extension: str, size: str) -> str:
        """The URL of one rendition; `extension` as the photos table has it, for keys are case-sensitive."""
        return self._photos.url(f"photos/{photo_id}/{size}.{extension}")


def _pieces(stream: IO[bytes], where: str) -> Iterator[bytes]:
    try:
        while piece := stream.read(_PIECE):
            yield piece
    except tarfile.TarError as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> SourceError:
    return SourceError(f"{where} is damaged: {error}; fetch it again, or another archive")
