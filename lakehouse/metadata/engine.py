"""How this floor uses DuckDB: a session on a lake's tables, streamed results, exact row groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import ROW_GROUP, Lake


@contextmanager
def session(lake: Lake, connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A cursor of `connection` that reads the lake; its temporary tables and settings end with the block."""
    lake.attach(connection)
    with connection.cursor() as cursor:
        # UUIDs as UUIDs; without it they become text.
        cursor.execute("SET SESSION arrow_lossless_conversion = true")
        yield cursor


def batches(cursor: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a query as tables of `schema`, streamed."""
    for batch in cursor.sql(query).to_arrow_reader(ROW_GROUP):
        yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


def scalars(cursor: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row of a query."""
    # fetchall, because a result that is not read to its end keeps the connection busy.
    (row,) = cursor.execute(query).fetchall()
    return tuple(row)


def files_sql(paths: list[str]) -> str:
    """A `read_parquet(...)` of these files."""
    return f"read_parquet([{', '.join(quoted(path) for path in paths)}])"


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


class RowGroups:
    """Appends tables to a Parquet writer in full row groups of `size` rows: equal rows give equal bytes."""

    def __init__(self, writer: pq.ParquetWriter, size: int = ROW_GROUP) -> None:
        self._writer, self._size = writer, size
        self._pending: list[pa.Table] = []
        self._rows = 0

    def append(self, table: pa.Table) -> None:
        """Take in `table`; what does not fill a row group yet is kept."""
        self._pending.append(table)
        self._rows += table.num_rows
        if self._rows >= self._size:
            whole = pa.concat_tables(self._pending).combine_chunks()
            full = self._rows - self._rows % self._size
            self._writer.write_table(whole.slice(0, full), row_group_size=self._size)
            self._pending, self._rows = [whole.slice(full)], self._rows - full

    def finish(self) -> None:
        """Write what is left."""
        if self._rows:
            self._writer.write_table(
                pa.concat_tables(self._pending).combine_chunks(), row_group_size=self._size
            )
        self._pending, self._rows = [], 0
