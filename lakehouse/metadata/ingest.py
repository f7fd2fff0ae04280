"""A dump becomes a raw release of the lake: every table typed, every line accounted for, the marker last."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from queue import Full, Queue
from threading import Event

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from lakehouse.errors import LakeError, NotFoundError, SourceError
from lakehouse.lake import Lake
from lakehouse.metadata.chunks import Chunk, chunked, inflate
from lakehouse.metadata.parse import Parsed, Parser, rejects_table
from lakehouse.metadata.schema import RAW_TABLES, REJECTS, RawTable
from lakehouse.progress import Task, task
from lakehouse.sources.archive import ArchiveSource
from lakehouse.sources.base import Release, Source, TableFile, TableStream
from lakehouse.sources.etag import EtagCheck

_PARSERS = 2
# Chunks that wait for the writer, parsed or not: they bound what is held at once.
_AHEAD = 3
_TURN = 0.0005  # seconds
# A few bad lines are quarantined; more bad lines than rows mean that this is another kind of file.
_TOLERATED = 1000


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RawTableReport(_Record):
    """One ingested table: the file it came from (`sha256` of its stored bytes) and what became of its lines.

    `rows` + `rejected` + `blank` + `taken_back` + 1 (the header) = `lines`. `etag_check` is how the bytes
    were held against the ETag: `md5`, `multipart`, `unverifiable` where it is no digest, `archive` where it
    is the archive's. Lines that were removed later because a photo was taken back are `taken_back`, and no
    longer among the others.
    """

    name: str
    key: str
    etag: str
    size: int
    sha256: str
    etag_check: str = "unverifiable"
    lines: int
    rows: int
    rejected: int
    blank: int
    taken_back: int = 0


class ArchiveReport(_Record):
    """The one file that a release was read from."""

    key: str
    etag: str
    size: int
    sha256: str
    etag_check: str


class RawRelease(_Record):
    """One complete dump in the lake, its `release.json`; `sequence` counts the ingests of the source.

    `skipped` names optional tables that could not be read, with the reason.
    """

    source: str
    reference_url: str
    release_id: str
    sequence: int
    ingested_at: str
    tables: tuple[RawTableReport, ...]
    archive: ArchiveReport | None = None
    skipped: dict[str, str] = {}

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
        Take in a table that lost more of its rows since the release before than LAKEHOUSE_MAX_SHRINK allows,
        which otherwise counts as a broken export.

    Raises
    ------
    SourceError
        A table cannot be read whole, is not what its ETag says, changed meanwhile, has an unknown header,
        no rows, mostly bad lines, or shrank.
    """
    try:
        return load_raw_release(lake, source.name, release.release_id)
    except NotFoundError:
        earlier = _newest(lake, source.name)
    tables: list[RawTableReport] = []
    skipped: dict[str, str] = {}
    reading = _Reading(source, release)
    for stream in reading.streams():
        try:
            report = _ingest_table(lake, source, release.release_id, stream)
        except _UnknownHeaderError as error:
            # Nothing reads the optional tables, so that one in a new form is no reason to do without the
            # others.
            if not RAW_TABLES[stream.file.name].optional:
                raise
            skipped[stream.file.name] = str(error)
            continue
        if earlier and not accept_shrink:
            _refuse_shrink(report, earlier, lake.settings.max_shrink)
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
        tables=tuple(sorted(tables, key=lambda table: table.name)),
        archive=reading.archive,
        skipped=skipped,
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


def _refuse_shrink(report: RawTableReport, earlier: RawRelease, most: float) -> None:
    before = sum(table.rows for table in earlier.tables if table.name == report.name)
    if report.rows < (1 - most) * before:
        share = "half" if most == 0.5 else f"{1 - most:.0%}"
        raise SourceError(
            f"{report.key} of source {earlier.source} has {report.rows:,} rows, less than {share} of the "
            f"{before:,} in release {earlier.release_id}; an export may have broken off: wait for a "
            "better one, "
            "or take it in with `lakehouse refresh --accept-shrink` (how much a table may lose is "
            f"LAKEHOUSE_MAX_SHRINK, now {most:g})"
        )


# --- the files


@dataclass(slots=True)
class _Meter:
    """Counts, hashes and checks the stored bytes of one file as they pass."""

    file: TableFile
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    check: EtagCheck | None = None

    def __post_init__(self) -> None:
        check = EtagCheck(self.file.etag, self.file.size)
        self.check = check if self.file.digest and check.possible else None

    def pass_on(self, pieces: Iterator[bytes], progress: Task) -> Iterator[bytes]:
        for piece in pieces:
            self.size += len(piece)
            self.digest.update(piece)
            if self.check:
                self.check.update(piece)
            progress.advance(len(piece))
            yield piece

    def verdict(self, where: str) -> str:
        """How the ETag was checked; raises SourceError if these are not the bytes that were announced."""
        if self.size != self.file.size:
            raise SourceError(f"{where}: {self.size} bytes were read of {self.file.size}; run it again")
        verdict = self.check.verdict() if self.check else "unverifiable"
        if verdict == "wrong":
            raise SourceError(
                f"{where}: the bytes that came are not those of its ETag {self.file.etag}; they were "
                "damaged on the "
                "way or at the source: run it again, and if that does not help, take a dated archive"
            )
        return verdict


class _Reading:
    """The tables of a release as they come: file by file, or out of the archive."""

    def __init__(self, source: Source, release: Release) -> None:
        self._source, self._release = source, release
        self.archive: ArchiveReport | None = None

    def streams(self) -> Iterator[TableStream]:
        """Each known table, to be read before the next one."""
        if not isinstance(self._source, ArchiveSource):
            for file in self._release.tables:
                if file.name in RAW_TABLES:
                    yield TableStream(file, self._source.read_table(file))
            return
        (file,) = self._release.tables
        where = f"{file.key} of source {self._source.name}"
        meter = _Meter(file)
        with task("Reading the archive", file.size, "bytes") as progress:
            yield from self._source.members(meter.pass_on(self._source.read_table(file), progress))
        self.archive = ArchiveReport(
            key=file.key,
            etag=file.etag,
            size=file.size,
            etag_check=meter.verdict(where),
            sha256=meter.digest.hexdigest(),
        )


# --- one table


class _UnknownHeaderError(SourceError):
    """The first line of a table is not one that is known."""


def _ingest_table(lake: Lake, source: Source, release_id: str, stream: TableStream) -> RawTableReport:
    file = stream.file
    table = RAW_TABLES[file.name]
    where = f"{file.key} of source {source.name}"
    meter = _Meter(file)
    with (
        task(f"Reading {file.name}", file.size, "bytes") as progress,
        ThreadPoolExecutor(_PARSERS, "parse") as parsers,
    ):
        spare: deque[bytearray] = deque()
        chunks = chunked(inflate(meter.pass_on(stream.pieces, progress), where), where, spare=spare)
        header, chunk = _header(next(chunks, None), table, where)
        parser = Parser(table, header)

        def parse(chunk: Chunk) -> Parsed:
            part = parser.parse(chunk)
            if part.lines == part.rows.num_rows:
                spare.append(chunk.data)
            return part

        with _quick_turns(), _in_order(parse, chain([chunk], chunks), parsers) as parsed:
            counts = _write(lake, source.name, release_id, file, parsed, where)
    verdict = meter.verdict(where)
    if counts.rows == 0 and not table.optional:
        raise SourceError(
            f"{where} has no rows ({counts.rejected} lines rejected); wait for a complete export"
        )
    return RawTableReport(
        name=file.name,
        key=file.key,
        etag=file.etag,
        size=file.size,
        sha256=meter.digest.hexdigest(),
        etag_check=verdict if file.etag else "archive",
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
        raise _UnknownHeaderError(
            f"{where}: line 1 is {shown!r}, expected the header {expected}; "
            f"check that this is the table {table.name}"
        )
    return found, Chunk(rest, chunk.terminated or not rest)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Let no thread keep Python's lock for longer than it takes to read a little: the one that inflates needs
    it for a moment only, and all others wait for what it brings."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _in_order(
    work: Callable[[Chunk], Parsed], chunks: Iterator[Chunk], pool: ThreadPoolExecutor
) -> Iterator[Iterator[Parsed]]:
    """What `work` makes of each chunk, in order: a thread reads them, `pool` works on some at a time."""
    waiting: Queue[Future[Parsed] | None] = Queue(_AHEAD)
    left = Event()

    def hand_on(future: Future[Parsed] | None) -> bool:
        while not left.is_set():
            with suppress(Full):
                waiting.put(future, timeout=0.1)
                return True
        return False

    def read() -> None:
        for chunk in chunks:
            if not hand_on(pool.submit(work, chunk)):
                return

    def results(reading: Future[None]) -> Iterator[Parsed]:
        while (future := waiting.get()) is not None:
            yield future.result()
        reading.result()

    with ThreadPoolExecutor(1, "read") as reader:
        reading = reader.submit(read)
        reading.add_done_callback(lambda _: hand_on(None))
        try:
            yield results(reading)
        finally:
            left.set()


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    rejected: int = 0
    blank: int = 0


def _write(
    lake: Lake, source_name: str, release_id: str, file: TableFile, parsed: Iterator[Parsed], where: str
) -> _Counts:
    table, counts, line = RAW_TABLES[file.name], _Counts(), 2  # the first is the header's
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
                rejects.write_table(rejects_table(file.key, line, part.rejects))
            if counts.rejected > max(counts.rows, _TOLERATED):
                last = part.rejects[-1] if part.rejects else None
                example = f", for example line {line + last.line}: {last.rule}" if last else ""
                raise SourceError(
                    f"{where}: {counts.rejected:,} lines break a rule, only {counts.rows:,} do not{example}; "
                    f"check that this is the table {file.name}"
                )
            line += part.lines
    return counts


def _append(writer: pq.ParquetWriter, part: Parsed) -> None:
    if part.rows.num_rows:
        writer.write_table(part.rows, row_group_size=part.rows.num_rows)
