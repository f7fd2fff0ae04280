"""From a photograph of a snapshot back to where it came from: rows of the dump, selection, every attempt to
fetch it, and the place of its bytes, which are read and held against their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import polars as pl

from lakehouse.errors import LakeError, NotFoundError
from lakehouse.images.ledger import Ledger
from lakehouse.lake import Lake
from lakehouse.metadata.engine import files_sql, quoted, session
from lakehouse.metadata.ingest import load_raw_release, raw_rejects_key, raw_table_key
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import Root
from lakehouse.snapshots.tables import rows

_COLUMNS = (
    "photo_id",
    "file_name",
    "split",
    "label_id",
    "label",
    "taxon_id",
    "license",
    "creator",
    "attribution",
    "observation_uuid",
    "photo_url",
    "sha256",
    "shard",
    "offset",
    "size",
)


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row of a dump's table: its number in the lake's Parquet file (from 0), the line of the dump's own
    file (from 1, the header's; None where blank lines make that unknown), and what it says."""

    table: str
    file: str
    row: int
    line: int | None
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """Where one photograph of a snapshot came from.

    `row` is its row of the manifest, `partition` the key of the partition that selected it, `sources` maps
    the dump's tables to the ETag and sha256 of the file each was read from, `raw` holds their rows on the
    photo, `attempts` the ledger's rows, oldest first. `verified`: the bytes at `offset` in the shard have the
    digest that the snapshot names.
    """

    version: str
    snapshot_id: str
    content_id: str
    source: str
    reference_url: str
    release: str
    sources: dict[str, dict[str, str]]
    raw: tuple[RawRow, ...]
    partition: str
    row: dict[str, Any]
    attempts: tuple[dict[str, Any], ...]
    shard: str
    verified: bool

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def trace(lake: Lake, ref: str, photo_id: int) -> Trace:
    """Follow one photograph of a version back.

    Raises
    ------
    NotFoundError
        The version does not hold the photograph.
    LakeError
        Its bytes are not there, or their digest is not the one recorded.
    """
    version = refs.resolve(lake, ref)
    root = refs.read_root(lake, version.snapshot_id)
    with lake.connect() as connection:
        batches = rows(connection, lake, root, _COLUMNS, where=f"photo_id = {int(photo_id)}")
        found = [row for batch in batches for row in batch.to_pylist()]
        if not found:
            raise NotFoundError(
                f"{version.ref} has no photo {photo_id}; lakehouse sql tells what became of it"
            )
        [row] = found
        partition = _partition(connection, lake, root, photo_id)
        sources, raw = _raw_rows(connection, lake, root, row)
    rendition = str(root.parameters["image"])
    return Trace(
        version=version.ref,
        snapshot_id=version.snapshot_id,
        content_id=root.content_id,
        source=root.inputs.source,
        reference_url=root.inputs.reference_url,
        release=root.inputs.release,
        sources=sources,
        raw=tuple(raw),
        partition=partition,
        row=row,
        attempts=tuple(_attempts(lake, root.inputs.source, rendition, photo_id)),
        shard=_verified(lake, root, row),
        verified=True,
    )


def _verified(lake: Lake, root: Root, row: dict[str, Any]) -> str:
    """The URI of the shard that holds the photograph, whose bytes are what the snapshot says."""
    key = next(shard.tar.key for shard in root.shards if shard.tar.sha256 == row["shard"])
    found = hashlib.sha256(lake.get_range(key, row["offset"], row["size"])).hexdigest()
    if found != row["sha256"]:
        raise LakeError(
            f"{lake.uri(key)} is damaged: at {row['offset']:,} photo {row['photo_id']} has sha256 {found}, "
            f"not {row['sha256']}; run lakehouse verify"
        )
    return lake.uri(key)


def _partition(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root, photo_id: int) -> str:
    """The key of the partition whose part names the photo."""
    files = {lake.uri(parts.labels.key): parts.partition for parts in root.partitions}
    source = f"{files_sql([*files])[:-1]}, filename = true)"
    with session(lake, connection) as cursor:
        [(name,)] = cursor.execute(
            f"SELECT filename FROM {source} WHERE photo_id = {int(photo_id)}"
        ).fetchall()
    return next(key for file, key in files.items() if file.endswith(str(name).rpartition("/")[2]))


def _raw_rows(
    connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root, row: dict[str, Any]
) -> tuple[dict[str, dict[str, str]], list[RawRow]]:
    """What the dump's tables say of the photo, its observation and its taxon; nothing if the release is not
    in the lake any more."""
    source, release = root.inputs.source, root.inputs.release
    try:
        marker = load_raw_release(lake, source, release)
    except NotFoundError:
        return {}, []
    conditions = {
        "photos": f"photo_id = {int(row['photo_id'])}",
        "observations": f"observation_uuid = {quoted(row['observation_uuid'])}::UUID",
        "taxa": f"taxon_id = {int(row['taxon_id'])}",
    }
    found = []
    with session(lake, connection) as cursor:
        for table, condition in conditions.items():
            file = lake.uri(raw_table_key(source, release, table))
            numbered = f"{files_sql([file])[:-1]}, file_row_number = true)"
            result = cursor.execute(f"SELECT * FROM {numbered} WHERE {condition} ORDER BY file_row_number")
            names = [column[0] for column in result.description or []]
            for values in result.fetchall():
                told = {name: str(value) for name, value in zip(names, values, strict=True)}
                number = int(told.pop("file_row_number"))
                report = marker.table(table)
                line = None
                if not report.blank and not report.taken_back:
                    line = _line(cursor, lake.uri(raw_rejects_key(source, release, table)), number)
                found.append(RawRow(table, file, number, line, told))
    sources = {
        table.name: {"file": table.key, "etag": table.etag, "sha256": table.sha256}
        for table in marker.tables
        if table.name in root.inputs.tables
    }
    return sources, found


def _line(cursor: duckdb.DuckDBPyConnection, rejects: str, row: int) -> int:
    """The line of the dump's file that became row number `row`: every line after the header is a row or was
    set aside."""
    line = row + 2
    for (rejected,) in cursor.execute(
        f"SELECT DISTINCT line FROM {files_sql([rejects])} ORDER BY line"
    ).fetchall():
        if rejected > line:
            break
        line += 1
    return line


def _attempts(lake: Lake, source: str, rendition: str, photo_id: int) -> Sequence[dict[str, Any]]:
    history = Ledger(lake).history(source, rendition, photo_id)
    return history.with_columns(
        pl.col("sha256").bin.encode("hex"), pl.col("first_at", "last_at").dt.to_string("iso:strict")
    ).to_dicts()
