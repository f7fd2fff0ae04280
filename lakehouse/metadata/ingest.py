"""A dump becomes a raw release of the lake: every table typed, every line accounted for, the marker last."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from lakehouse.errors import LakeError, NotFoundError, SourceError
from lakehouse.lake import Lake
from lakehouse.metadata.chunks import Chunk, chunked, inflate
from lakehouse.metadata.parse import Parsed, Parser, rejects_table
from lakehouse.metadata.schema import RAW_TABLES, REJECTS, RawTable
from lakehouse.progress import Task, task
from lakehouse.sources.base import Release, Source, TableFile

_PARSERS = 2
_SHRUNK = 0.5
# A few bad lines are quarantined; more bad lines than rows mean that this is another kind of file.
_TOLERATED = 1000


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RawTableReport(_Record):
    """One ingested table: the file it came from (`sha256` of its stored bytes) and what became of its lines.

    `rows` + `rejected` + `blank` + 1 (the header) = `lines`.
    """

    name: str
    key: str
    etag: str
    size: int
    sha256: str
    lines: int
    rows: int
    rejected: int
    blank: int


class RawRelease(_Record):
    """One complete dump in the lake, its `release.json`; `sequence` counts the ingests of the source."""

    source: str
    reference_url: str
    release_id: str
    sequence: int
    ingested_at: str
    tables: tuple[RawTableReport, ...]

    def table(self, name: str) -> RawTableReport:
        """The report of table `name`; raises NotFoundError."""
        for table in self.tables:
            if table.name == name:
                return table
        raise NotFoundError(f"release {self.release_id} of source {self.source} has no table {name!r}")


def raw_table_key(source_name: str, release_id: str, table: str) -> str:
    """The key of a raw table's Parquet file."""
    return f"raw/{source_name}/{release_id}/{table}.parquet"


def raw_rejects_key(source_name: str, release_id: str, table: str) -> str:
    """The key of the lines of a raw table that were set aside."""
    return f"raw/{source_name}/{release_id}/{table}.rejects.parquet"


def _marker_key(source_name: str, release_id: str) -> str:
    return f"raw/{source_name}/{release_id}/release.json"


def ingest_release(
    lake: Lake, source: Source, release: Release, *, accept_shrink: bool = False
) -> RawRelease:
    """Write all tables of `release` to the lake; one that is complete there already is returned as it is.

    Parameters
    ----------
    accept_shrink
        Take in a table that has fewer than half the rows of the release before it, which otherwise counts as
        a broken export.

    Raises
    ------
    SourceError
        A table cannot be read whole, changed meanwhile, has an unknown header, no rows, mostly bad lines, or
        shrank.
    """
    try:
        return load_raw_release(lake, source.name, release.release_id)
    except NotFoundError:
        earlier = _newest(lake, source.name)
    tables: list[RawTableReport] = []
    for file in release.tables:
        if file.name in RAW_TABLES:
            report = _ingest_table(lake, source, release.release_id, file)
            if earlier and not accept_shrink:
                _refuse_shrink(report, earlier)
            tables.append(report)
    # The bucket's files are replaced one after the other, so that a dump may change behind its reader.
    if source.current_release().release_id != release.release_id:
        raise SourceError(
            f"source {source.name} changed while release {release.release_id} was being read; "
            "run it again in a few hours"
        )
    whole = RawRelease(
        source=source.name,
        reference_url=source.reference_url,
        release_id=release.release_id,
        sequence=earlier.sequence + 1 if earlier else 1,
        ingested_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tables=tuple(tables),
    )
    lake.put(_marker_key(source.name, release.release_id), whole.model_dump_json(indent=1).encode())
    return whole


def load_raw_release(lake: Lake, source_name: str, release_id: str) -> RawRelease:
    """The marker of a complete release; raises NotFoundError if it is not in the lake."""
    key = _marker_key(source_name, release_id)
    try:
        return RawRelease.model_validate_json(lake.get(key))
    except ValidationError as error:
        raise LakeError(
            f"{lake.uri(key)} is damaged: {error.errors()[0]['msg']}; ingest the release again"
        ) from error


def list_releases(lake: Lake, source_name: str) -> list[str]:
    """Ids of the complete releases of a source, in the order they were taken in."""
    return [release.release_id for release in _releases(lake, source_name)]


def latest_release(lake: Lake, source_name: str) -> str | None:
    """Id of the release taken in last, None if there is none."""
    newest = _newest(lake, source_name)
    return newest.release_id if newest else None


def _releases(lake: Lake, source_name: str) -> list[RawRelease]:
    found = []
    for release_id in lake.folders(f"raw/{source_name}"):
        try:
            found.append(load_raw_release(lake, source_name, release_id))
        except NotFoundError:
            continue  # being ingested, or broken off: its marker is written last
    return sorted(found, key=lambda release: (release.sequence, release.release_id))


def _newest(lake: Lake, source_name: str) -> RawRelease | None:
    releases = _releases(lake, source_name)
    return releases[-1] if releases else None


def _refuse_shrink(report: RawTableReport, earlier: RawRelease) -> None:
    before = sum(table.rows for table in earlier.tables if table.name == report.name)
    if report.rows < _SHRUNK * before:
        raise SourceError(
            f"{report.key} of source {earlier.source} has {report.rows:,} rows, less than half of the "
            f"{before:,} in release {earlier.release_id}; an export may have broken off: "
            "accept the shrinking explicitly if it is meant"
        )


# --- one table


@dataclass(slots=True)
class _Meter:
    """Counts and hashes the stored bytes as they pass."""

    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def pass_on(self, pieces: Iterator[bytes], progress: Task) -> Iterator[bytes]:
        for piece in pieces:
            self.size += len(piece)
            self.digest.update(piece)
            progress.advance(len(piece))
            yield piece


def _ingest_table(lake: Lake, source: Source, release_id: str, file: TableFile) -> RawTableReport:
    table = RAW_TABLES[file.name]
    where = f"{file.key} of source {source.name}"
    meter = _Meter()
    with (
        task(f"Reading {file.name}", file.size, "bytes") as progress,
        ThreadPoolExecutor(1, "read") as reader,
        ThreadPoolExecutor(_PARSERS, "parse") as parsers,
    ):
        pieces = meter.pass_on(source.read_table(file), progress)
        chunks = _ahead(chunked(inflate(pieces, where), where), reader)
        header, chunk = _header(next(chunks, None), table, where)
        parser = Parser(table, header)
        counts = _write(lake, source.name, release_id, file, _parsed(parser, chunk, chunks, parsers), where)
    if meter.size != file.size:
        raise SourceError(f"{where}: {meter.size} bytes were read of {file.size}; run it again")
    if counts.rows == 0:
        raise SourceError(
            f"{where} has no rows ({counts.rejected} lines rejected); wait for a complete export"
        )
    return RawTableReport(
        name=file.name,
        key=file.key,
        etag=file.etag,
        size=file.size,
        sha256=meter.digest.hexdigest(),
        lines=1 + counts.rows + counts.rejected + counts.blank,
        rows=counts.rows,
        rejected=counts.rejected,
        blank=counts.blank,
    )


def _header(chunk: Chunk | None, table: RawTable, where: str) -> tuple[tuple[str, ...], Chunk]:
    """The columns that the file says it has, and the first chunk without its header."""
    if chunk is None:
        raise SourceError(f"{where} holds nothing; wait for a complete export")
    line, _, rest = chunk.data.partition(b"\n")
    found = tuple(line.decode("utf-8", "backslashreplace").split("\t"))
    if found not in table.headers:
        expected = " or ".join(repr("\t".join(header)) for header in table.headers)
        shown = "\t".join(found)[:500]
        raise SourceError(
            f"{where}: line 1 is {shown!r}, expected the header {expected}; "
            f"check that this is the table {table.name}"
        )
    terminated = chunk.terminated or not rest
    return found, Chunk(2, rest, chunk.lines - 1, terminated)


def _parsed(
    parser: Parser, first: Chunk, rest: Iterator[Chunk], pool: ThreadPoolExecutor
) -> Iterator[Parsed]:
    """Parsed chunks in their order, a few of them being worked on at a time."""
    pending: deque[Future[Parsed]] = deque()
    if first.lines:
        pending.append(pool.submit(parser.parse, first))
    for chunk in rest:
        pending.append(pool.submit(parser.parse, chunk))
        if len(pending) > _PARSERS:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    rejected: int = 0
    blank: int = 0


def _write(
    lake: Lake, source_name: str, release_id: str, file: TableFile, parsed: Iterator[Parsed], where: str
) -> _Counts:
    table, counts = RAW_TABLES[file.name], _Counts()
    place = (source_name, release_id, file.name)
    with (
        lake.parquet_writer(raw_table_key(*place), table.schema, **table.encoding) as rows,
        lake.parquet_writer(raw_rejects_key(*place), REJECTS) as rejects,
    ):
        for part in parsed:
            counts.rows += part.rows.num_rows
            counts.rejected += len(part.rejects)
            counts.blank += part.blank
            _append(rows, part)
            if part.rejects:
                rejects.write_table(rejects_table(file.key, part.rejects))
            if counts.rejected > max(counts.rows, _TOLERATED):
                last = part.rejects[-1] if part.rejects else None
                example = f", for example line {last.line}: {last.rule}" if last else ""
                raise SourceError(
                    f"{where}: {counts.rejected:,} lines break a rule, only {counts.rows:,} do not{example}; "
                    f"check that this is the table {file.name}"
                )
    return counts


def _append(writer: pq.ParquetWriter, part: Parsed) -> None:
    if part.rows.num_rows:
        writer.write_table(part.rows, row_group_size=part.rows.num_rows)


def _ahead(items: Iterator[Chunk], pool: ThreadPoolExecutor) -> Iterator[Chunk]:
    """`items`, the next one being made in `pool` while one is in use."""
    pending = pool.submit(next, items, None)
    while (item := pending.result()) is not None:
        pending = pool.submit(next, items, None)
        yield item
