"""The ledger: what became of every photo this lake ever asked for, so that none is asked for twice.

A Delta table that only grows: one commit per slice of photos, the latest row of a photo counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from lakehouse.errors import LakeError
from lakehouse.images.answers import Outcome
from lakehouse.images.schema import LEDGER, polars_schema, table
from lakehouse.lake import Lake

if TYPE_CHECKING:
    # Imported where it is used: a code location that only declares assets loads without it.
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

_KEY = "ledger"
# Unless told otherwise, Delta drops log entries after 30 days at a checkpoint, and versions with them.
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class LedgerRow:
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

    def record(self, rows: Sequence[LedgerRow], shard: str | None = None) -> None:
        """Append rows in one commit; raises LakeError if the table cannot be written.

        `shard` is where the images of those rows are that have a digest and name no shard themselves.
        """
        from deltalake.exceptions import DeltaError

        if not rows:
            return
        ordered = sorted(rows, key=lambda row: (row.source, row.rendition, row.photo_id))
        # Delta has no dictionary or enum type; a StrEnum goes in by its value.
        columns = {name: [getattr(row, name) for row in ordered] for name in LEDGER.names}
        columns["outcome"] = [row.outcome.value for row in ordered]
        columns["shard"] = [row.shard or (shard if row.sha256 else None) for row in ordered]
        rows_table = table(columns, LEDGER)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._append(rows_table)
                return
            except DeltaError as error:
                # Only a lost race with another writer is worth another try.
                if not _lost_race(error) or attempt == _ATTEMPTS:
                    raise LakeError(f"cannot record outcomes in {self._uri}: {error}") from error
                time.sleep(0.05 * attempt)

    def _append(self, rows: pa.Table) -> None:
        from deltalake import CommitProperties, DeltaTable, write_deltalake

        if not self._exists():
            DeltaTable.create(
                self._uri,
                LEDGER,
                mode="ignore",
                partition_by=["source", "rendition"],
                configuration=_CONFIGURATION,
                storage_options=self._options,
            )
        write_deltalake(
            self._table(), rows, mode="append", commit_properties=CommitProperties(max_commit_retries=20)
        )

    def _exists(self) -> bool:
        from deltalake import DeltaTable

        return DeltaTable.is_deltatable(self._uri, self._options)

    def _table(self) -> DeltaTable:
        from deltalake import DeltaTable

        return DeltaTable(self._uri, storage_options=self._options)


def _lost_race(error: DeltaError) -> bool:
    from deltalake.exceptions import CommitFailedError

    return isinstance(error, CommitFailedError) or "already exists" in str(error)
