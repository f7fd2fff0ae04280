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

TABLES = ("observations", "observers", "photos", "taxa")
# Source: the exporter since August 2025; kept with the others where they are there, though nothing needs
# them.
OPTIONAL_TABLES = ("observations_projects", "projects")


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
        # The times of a directory's files say when they were copied, not when they were exported.
        self._most_days = settings.max_spread_days if "://" in uri else None
        self._is_s3 = uri.startswith("s3://")
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
        """What is served now.

        Raises
        ------
        SourceError
            It is unreachable, a table is missing or empty, or the tables are of different months.
        """
        found = [self._find(table) for table in TABLES]
        found += [file for table in OPTIONAL_TABLES if (file := self._look(table))]
        tables = tuple(found)
        if self._most_days is not None:
            _refuse_mixed(tables, self._most_days, self._transport.location(""))
        return Release(self.name, release_id(tables), tables)

    def read_table(self, table: TableFile) -> Iterator[bytes]:
        """The stored bytes of `table`; raises SourceError if they changed since `current_release`."""
        return self._transport.read(table.key, table.etag, table.size)

    def photo_url(self, photo_id: int, extension: str, size: str) -> str:
        """The URL of one rendition; `extension` as the photos table has it, for keys are case-sensitive."""
        name = f"photos/{photo_id}/{size}.{extension}"
        # Whoever fetches from S3 knows whether to sign.
        return self._transport.location(name) if self._is_s3 else self._transport.url(name)

    def _find(self, table: str) -> TableFile:
        found = self._look(table)
        if found is None:
            raise SourceError(
                f"{self._transport.location(f'{table}.csv.gz')} is not there (nor {table}.csv); check "
                "LAKEHOUSE_SOURCE or the campaign's source: the directory or bucket must hold "
                + ", ".join(f"{name}.csv.gz" for name in TABLES)
            )
        return found

    def _look(self, table: str) -> TableFile | None:
        for key in (f"{table}.csv.gz", f"{table}.csv"):
            head = self._transport.head(key)
            if head is not None:
                return found_file(table, key, head, self._transport.location(key))
        return None


def found_file(name: str, key: str, head: Head, where: str) -> TableFile:
    """The file behind `head`; raises SourceError, naming the place `where`, if it is empty."""
    if head.size == 0:
        raise SourceError(f"{where} is empty (0 bytes); wait until its upload is complete")
    return TableFile(name, key, head.size, head.etag, head.last_modified, head.digest)


def _refuse_mixed(tables: tuple[TableFile, ...], most_days: float, where: str) -> None:
    """Raise SourceError if the tables were not uploaded together.

    The bucket's files are replaced one after the other. Whoever reads in between gets observations of one
    month and photos of another.
    """
    dated = [(moment, table.key) for table in tables if (moment := _moment(table))]
    if not dated:
        return
    (oldest, old), (newest, new) = min(dated), max(dated)
    days = (newest - oldest).total_seconds() / 86400
    if days > most_days:
        raise SourceError(
            f"{where} holds tables of different months: {old} is of {oldest:%Y-%m-%d}, {new} of "
            f"{newest:%Y-%m-%d}; "
            "the upload of a new dump is under way: try again in a day, or set LAKEHOUSE_SOURCE to a "
            "dated archive "
            "(metadata/inaturalist-open-data-YYYYMMDD.tar.gz); for a mirror that was filled over a "
            "longer time set "
            f"LAKEHOUSE_MAX_SPREAD_DAYS above {days:.0f}"
        )


def _moment(table: TableFile) -> datetime | None:
    parsed = email.utils.parsedate_tz(table.last_modified) if table.last_modified else None
    return datetime.fromtimestamp(email.utils.mktime_tz(parsed), UTC) if parsed else None


def release_id(tables: tuple[TableFile, ...]) -> str:
    """`<YYYYMMDD>-<12 hex digits>`: newest Last-Modified date (zeros if unknown) and digest of the tables."""
    moments = [moment for table in tables if (moment := _moment(table))]
    newest = max((moment.strftime("%Y%m%d") for moment in moments), default="00000000")
    text = "\n".join(
        f"{table.name}\t{table.size}\t{table.etag}" for table in sorted(tables, key=lambda t: t.name)
    )
    return f"{newest}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
