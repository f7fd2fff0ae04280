"""iNaturalist Open Data, or a mirror of the same layout, as a source."""

from __future__ import annotations

import email.utils
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType

from lakehouse.errors import SourceError
from lakehouse.settings import Settings
from lakehouse.sources.base import Release, TableFile
from lakehouse.sources.transport import Head, open_transport

# The bucket also holds `observations_projects` and `projects` since August 2025; nothing here needs them.
TABLES = ("observations", "observers", "photos", "taxa")


class InaturalistSource:
    """The tables and photographs of a bucket with iNaturalist Open Data's layout.

    Parameters
    ----------
    name
        The source's folder in the lake.
    uri
        Where it is: `http(s)://`, `s3://bucket/prefix` or a local directory.
    settings
        Endpoint and credentials for S3.
    reference_url
        The address its files are cited by; `uri` unless given.
    """

    def __init__(self, name: str, uri: str, settings: Settings, reference_url: str | None = None) -> None:
        self.name = name
        self._transport = open_transport(uri, settings)
        self.reference_url = reference_url or (
            uri.rstrip("/") if "://" in uri else self._transport.url("").rstrip("/")
        )

    def __enter__(self) -> InaturalistSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back connections."""
        self._transport.close()

    def current_release(self) -> Release:
        """What is served now; raises SourceError if it is unreachable or a table is missing or empty."""
        tables = tuple(self._find(table) for table in TABLES)
        return Release(self.name, release_id(tables), tables)

    def read_table(self, table: TableFile) -> Iterator[bytes]:
        """The stored bytes of `table`; raises SourceError if they changed since `current_release`."""
        return self._transport.read(table.key, table.etag, table.size)

    def photo_url(self, photo_id: int, extension: str, size: str) -> str:
        """The URL of one rendition; `extension` as the photos table has it, for keys are case-sensitive."""
        return self._transport.url(f"photos/{photo_id}/{size}.{extension}")

    def _find(self, table: str) -> TableFile:
        for key in (f"{table}.csv.gz", f"{table}.csv"):
            head = self._transport.head(key)
            if head is not None:
                return self._checked(table, key, head)
        raise SourceError(
            f"{self._transport.location(f'{table}.csv.gz')} is not there (nor {table}.csv); check "
            "LAKEHOUSE_SOURCE or the campaign's source: the directory or bucket must hold "
            + ", ".join(f"{name}.csv.gz" for name in TABLES)
        )

    def _checked(self, table: str, key: str, head: Head) -> TableFile:
        if head.size == 0:
            raise SourceError(
                f"{self._transport.location(key)} is empty (0 bytes); wait until its upload is complete"
            )
        return TableFile(table, key, head.size, head.etag, head.last_modified)


def release_id(tables: tuple[TableFile, ...]) -> str:
    """`<YYYYMMDD>-<12 hex digits>`: newest Last-Modified date (zeros if unknown) and digest of the tables."""
    dates = [email.utils.parsedate_tz(table.last_modified) for table in tables if table.last_modified]
    moments = [datetime.fromtimestamp(email.utils.mktime_tz(date), UTC) for date in dates if date]
    newest = max((moment.strftime("%Y%m%d") for moment in moments), default="00000000")
    text = "\n".join(
        f"{table.name}\t{table.size}\t{table.etag}" for table in sorted(tables, key=lambda t: t.name)
    )
    return f"{newest}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
