"""The ledger: what became of every photo this lake ever asked for, so that none is asked for twice.

A Delta table that only grows: one commit per slice of photos, the latest row of a photo counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import LakeError
from lakehouse.images.answers import Outcome
from lakehouse.images.schema import LEDGER, Rows, polars_schema
from lakehouse.lake import Lake

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

_KEY = "ledger"
# Unless told otherwise, Delta drops log entries after 30 days at a checkpoint, and versions with them.
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
# Nothing is kept for readers of earlier versions; only while the table is purged.
_FORGETFUL = {
    "delta.logRetentionDuration": "interval 0 seconds",
    "delta.deletedFileRetentionDuration": "interval 0 seconds",
}
_ATTEMPTS = 10
_NAMED = 1000  # values in one predicate


class _Opened(threading.local):
    """The ledgers that a thread has open.

    To open one takes the longer the more commits it has, and a run over many partitions asks all the time.
    """

    def __init__(self) -> None:
        self.tables: WeakKeyDictionary[Lake, DeltaTable] = WeakKeyDictionary()


_OPENED = _Opened()


class LedgerRow(NamedTuple):
    """One attempt's outcome; the columns are those of `schema.LEDGER`."""

    source: str
    photo_id: int
    rendition: str
    outcome: Outcome
    reason: str
    http_status: int | None
    attempts: int
    first_at: datetime
    last_at: datetime
    etag: str | None = None
    last_modified: str | None = None
    sha256: bytes | None = None
    shard: str | None = None
    size: int | None = None


class Ledger:
    """The ledger of a lake; it comes into being with its first row."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._uri = lake.uri(_KEY)
        self._options = lake.storage_options

    def outcomes(self, source: str, rendition: str, photo_ids: pl.Series | pl.DataFrame) -> pl.DataFrame:
        """The latest row for each of the given photos that was ever tried, in the order of the photo ids.

        Parameters
        ----------
        photo_ids
            A series of ids, or a frame with a column `photo_id`.

        Returns
        -------
        pl.DataFrame
            The columns of `schema.LEDGER`; photos never tried have no row.
        """
        ids = photo_ids["photo_id"] if isinstance(photo_ids, pl.DataFrame) else photo_ids
        wanted = ids.cast(pl.Int64).drop_nulls().unique().rename("photo_id")
        if wanted.is_empty() or not self._exists():
            return pl.DataFrame(schema=polars_schema(LEDGER))
        rows = pl.scan_delta(self._table())
        return (
            rows.filter(
                pl.col("source") == source,
                pl.col("rendition") == rendition,
                pl.col("photo_id").is_between(wanted.min(), wanted.max()),
            )
            .join(wanted.to_frame().lazy(), on="photo_id", how="semi")
            # At one and the same time a stored row counts: what is in the lake does not become less.
            .sort("photo_id", "last_at", pl.col("outcome") == Outcome.STORED.value)
            .unique("photo_id", keep="last", maintain_order=True)
            .select(LEDGER.names)
            .collect()
        )

    def history(self, source: str, rendition: str, photo_id: int) -> pl.DataFrame:
        """Every row on one photo, oldest first, with the columns of `schema.LEDGER`."""
        if not self._exists():
            return pl.DataFrame(schema=polars_schema(LEDGER))
        found = pl.scan_delta(self._table()).filter(
            pl.col("source") == source, pl.col("rendition") == rendition, pl.col("photo_id") == photo_id
        )
        return found.select(LEDGER.names).sort("last_at").collect()

    def stored_bytes(self, source: str, rendition: str) -> tuple[int, int]:
        """How many photos of a source are stored in a rendition, and their bytes together."""
        if not self._exists():
            return 0, 0
        stored = pl.scan_delta(self._table()).filter(
            pl.col("source") == source,
            pl.col("rendition") == rendition,
            pl.col("outcome") == Outcome.STORED.value,
        )
        count, total = stored.select(pl.len(), pl.col("size").sum()).collect(engine="streaming").row(0)
        return count, total or 0

    def record(self, rows: pa.Table) -> None:
        """Append rows (`schema.LEDGER`) in one commit; raises LakeError if the table cannot be written."""
        if not rows.num_rows:
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._append(rows)
                return
            except _delta().exceptions.DeltaError as error:
                # Only a lost race with another writer is worth another try.
                if not _lost_race(error) or attempt == _ATTEMPTS:
                    raise LakeError(f"cannot record outcomes in {self._uri}: {error}") from error
                time.sleep(0.05 * attempt)

    def files(self, source: str, rendition: str) -> list[str]:
        """URIs of the Parquet files that hold the rows of a source in a rendition (without these columns)."""
        if not self._exists():
            return []
        where = [("source", "=", source), ("rendition", "=", rendition)]
        return self._table().file_uris(file_pruning_predicate=where)

    def shards(self) -> set[str]:
        """The digests of all shards that some row names."""
        if not self._exists():
            return set()
        named = pl.scan_delta(self._table()).select(pl.col("shard").drop_nulls().unique())
        return set(named.collect(engine="streaming")["shard"])

    def move(self, shards: Mapping[str, str | None]) -> None:
        """Let rows that name a shard (keys) name the one that took its place (values); raises LakeError."""
        for target in sorted({new or "" for new in shards.values()}):
            old = sorted(digest for digest, new in shards.items() if (new or "") == target)
            for some in _batched(old):
                where = f"shard IN ({', '.join(repr(digest) for digest in some)})"
                value = f"'{target}'" if target else "NULL"
                self._rewrite(partial(_update, where=where, value=value))

    def forget(self, photo_ids: Sequence[int]) -> None:
        """Delete every row of these photos, of whatever source and rendition; raises LakeError."""
        for some in _batched(sorted(photo_ids)):
            where = f"photo_id IN ({', '.join(str(int(photo_id)) for photo_id in some)})"
            self._rewrite(partial(_delete, where=where))

    def purge(self) -> None:
        """Drop what earlier versions of the table held: files, and log entries with their statistics."""
        if not self._exists():
            return
        try:
            table = self._table()
            table.alter.set_table_properties(_FORGETFUL)
            table = self._table()
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
            table.create_checkpoint()
            table.cleanup_metadata()
            self._table().alter.set_table_properties(_CONFIGURATION)
        except _delta().exceptions.DeltaError as error:
            raise LakeError(f"cannot purge {self._uri}: {error}; run it again") from error

    def _rewrite(self, change: Callable[[DeltaTable], object]) -> None:
        """Change rows in one commit, again if another writer was first."""
        if not self._exists():
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                change(self._table())
                return
            except _delta().exceptions.DeltaError as error:
                if not _lost_race(error) or attempt == _ATTEMPTS:
                    raise LakeError(f"cannot change rows of {self._uri}: {error}") from error
                time.sleep(0.05 * attempt)

    def _append(self, rows: pa.Table) -> None:
        if not self._exists():
            _delta().DeltaTable.create(
                self._uri,
                LEDGER,
                mode="ignore",
                partition_by=["source", "rendition"],
                configuration=_CONFIGURATION,
                storage_options=self._options,
            )
        _delta().write_deltalake(
            self._table(),
            rows,
            mode="append",
            commit_properties=_delta().CommitProperties(max_commit_retries=20),
        )

    def _exists(self) -> bool:
        return self._lake in _OPENED.tables or _delta().DeltaTable.is_deltatable(self._uri, self._options)

    def _table(self) -> DeltaTable:
        """The table as it is now."""
        table = _OPENED.tables.get(self._lake)
        if table is not None:
            try:
                table.update_incremental()
                return table
            except _delta().exceptions.DeltaError:
                pass  # its log was purged meanwhile: opened anew, it tells of any real fault
        table = _delta().DeltaTable(self._uri, storage_options=self._options)
        _OPENED.tables[self._lake] = table
        return table


def _batched(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _NAMED):
        yield values[start : start + _NAMED]


def _update(table: DeltaTable, where: str, value: str) -> None:
    table.update(predicate=where, updates={"shard": value})


def _delete(table: DeltaTable, where: str) -> None:
    table.delete(where)


def _lost_race(error: DeltaError) -> bool:
    return isinstance(error, _delta().exceptions.CommitFailedError) or "already exists" in str(error)


def _delta() -> Any:
    """Imported where it is used: a code location that only declares assets loads without it."""
    import deltalake
    import deltalake.exceptions

    return deltalake


def ledger_rows(rows: Iterable[LedgerRow]) -> pa.Table:
    """The rows as a table (`schema.LEDGER`), in the order of the photo ids."""
    found = Rows(LEDGER)
    for row in rows:
        # Delta has no dictionary or enum type; a StrEnum goes in by its value.
        found.append((*row[:3], row.outcome.value, *row[4:]))
    return found.table("source", "rendition", "photo_id")


def in_shard(rows: pa.Table, digest: str) -> pa.Table:
    """The rows (`schema.LEDGER`) with this shard as the one that holds the images of those with a digest."""
    # By way of Polars, as in `Rows`.
    named = pl.repeat(digest, rows.num_rows, dtype=pl.String, eager=True)
    shards = named.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    place = LEDGER.get_field_index("shard")
    there = rows["sha256"].is_valid()
    return rows.set_column(place, LEDGER.field(place), pc.if_else(there, shards, rows["shard"]))
