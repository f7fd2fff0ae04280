"""A snapshot's parts as one table: the SQL that joins labels, records, shard indexes and taxa into the
manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from lakehouse.lake import ROW_GROUP, Lake
from lakehouse.licences import LICENCES
from lakehouse.metadata.engine import files_sql, quoted
from lakehouse.snapshots.model import Root
from lakehouse.snapshots.schema import MANIFEST

OBSERVATION_URL = "https://www.inaturalist.org/observations/"

# Column of the manifest -> its expression over labels l, records r, index i, taxa t, licences c.
_COLUMNS = {
    "photo_id": "l.photo_id",
    "file_name": "i.file_name",
    "split": "l.split",
    "label_id": "l.label_id",
    "label": "t.label",
    "taxon_rank": "t.taxon_rank",
    **{rank: f't."{rank}"' for rank in ("kingdom", "phylum", "class", "order", "family", "genus")},
    "taxon_id": "l.taxon_id",
    "license": "l.license",
    "license_url": "c.url",
    "creator": "r.creator",
    "attribution": "replace(c.attribution, '{creator}', r.creator)",
    "photo_url": "$photos || r.photo_id || '/' || $size || '.' || r.extension",
    "observation_url": "$observations || r.observation_uuid::VARCHAR",
    "observation_uuid": "r.observation_uuid::VARCHAR",
    "quality_grade": "r.quality_grade",
    "observed_on": "r.observed_on",
    "latitude": "r.latitude",
    "longitude": "r.longitude",
    "positional_accuracy": "r.positional_accuracy",
    "width": "i.width",
    "height": "i.height",
    "format": "i.format",
    "sha256": "lower(hex(i.sha256))",
    "dhash": "lpad(to_hex(i.dhash), 16, '0')",
    "shard": "r.shard",
    "offset": 'i."offset"',
    "size": "i.size",
}
_SQL_TYPES = {
    pl.Int64(): "BIGINT",
    pl.Int32(): "INTEGER",
    pl.Float64(): "DOUBLE",
    pl.Date(): "DATE",
    pl.String(): "VARCHAR",
}
assert list(_COLUMNS) == list(MANIFEST), "the manifest's SQL and its schema must name the same columns"


def rows(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    root: Root,
    columns: Sequence[str] | None = None,
    where: str = "true",
    order_by: str = "photo_id",
    placement: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """The manifest's rows in batches of at most one row group, memory bounded by the connection's limit.

    Parameters
    ----------
    columns
        Manifest columns wanted; all of them if None.
    where, order_by
        SQL over manifest columns (never text from outside).
    placement
        A local Parquet file that says of each photo where an export put it: file_name, shard, offset.
    """
    chosen = list(columns) if columns is not None else list(MANIFEST)
    if not root.partitions:
        return
    listed = ", ".join(f'"{name}"' for name in chosen)
    source = f"({manifest_sql(lake, root)})"
    if placement is not None:
        moved = 'p.file_name AS file_name, p.shard AS shard, p."offset" AS "offset"'
        places = files_sql([str(placement)])
        source = f"(SELECT m.* REPLACE ({moved}) FROM {source} m JOIN {places} p USING (photo_id))"
    sql = f"SELECT {listed} FROM {source} WHERE {where} ORDER BY {order_by}"
    yield from batches(connection, sql)


def batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    """The rows of a query in batches of at most one row group, streamed."""
    reader = connection.sql(query).to_arrow_reader(ROW_GROUP)
    yield from reader


def manifest_sql(lake: Lake, root: Root) -> str:
    """A query that yields the whole manifest, unordered; every literal in it is quoted here."""
    if not root.partitions:  # all photos were taken back
        nothing = ", ".join(f'NULL::{_SQL_TYPES[kind]} AS "{name}"' for name, kind in MANIFEST.items())
        return f"SELECT {nothing} WHERE false"
    labels = [lake.uri(parts.labels.key) for parts in root.partitions]
    records = [lake.uri(parts.records.key) for parts in root.partitions]
    indexes = [lake.uri(shard.index.key) for shard in root.shards]
    licences = ", ".join(
        f"({quoted(licence.code)}, {quoted(licence.url)}, {quoted(licence.attribution)})"
        for licence in LICENCES.values()
    )
    values = {
        "$photos": quoted(root.inputs.reference_url.rstrip("/") + "/photos/"),
        "$size": quoted(str(root.parameters["image"]).split("-")[0]),
        "$observations": quoted(OBSERVATION_URL),
    }
    columns = ", ".join(f'{_filled(expression, values)} AS "{name}"' for name, expression in _COLUMNS.items())
    return f"""
        SELECT {columns}
        FROM {files_sql(labels)} l
        JOIN {files_sql(records)} r USING (photo_id)
        JOIN (SELECT *, parse_filename(filename)[:64] AS shard
              FROM {files_sql(indexes)[:-1]}, filename = true)) i
          ON i.photo_id = l.photo_id AND i.shard = r.shard
        JOIN {files_sql([lake.uri(root.taxa.key)])} t USING (label_id)
        JOIN (VALUES {licences}) c(code, url, attribution) ON c.code = l.license
    """


def _filled(expression: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression
