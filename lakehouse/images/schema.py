"""The tables of the image floor: columns and types, beside the code that writes and reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.metadata.schema import parquet_encoding

_HELD = 1000
_CODE = pa.dictionary(pa.int32(), pa.string())

# What a shard holds: one row per image, sorted by photo_id. `width`, `height` and `dhash` describe the pixels
# as they are stored; a reader that applies the EXIF orientation turns them. `dhash` is null where the image
# was not decoded (LAKEHOUSE_CHECK=header).
INDEX = pa.schema(
    [
        pa.field("photo_id", pa.int64(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # of the image's bytes in the tar
        pa.field("size", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
        pa.field("dhash", pa.uint64()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("format", _CODE, nullable=False),
        pa.field("mode", _CODE, nullable=False),
        pa.field("orientation", pa.uint8()),  # EXIF 1-8, null where the file says nothing
        pa.field("gps", pa.bool_(), nullable=False),
        pa.field("animated", pa.bool_(), nullable=False),
    ]
)

INDEX_ENCODING = parquet_encoding(
    ["width", "height", "format", "mode", "orientation"], ["photo_id", "offset"]
)

# What became of every photo ever asked for: one row per attempt at (source, photo_id, rendition),
# append-only. `attempts` counts from `first_at` on; `sha256`, `size`, `shard` are null unless it is stored.
LEDGER = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("photo_id", pa.int64(), nullable=False),
        pa.field("rendition", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("http_status", pa.int32()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("first_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("last_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("sha256", pa.binary()),
        pa.field("shard", pa.string()),  # sha256 of the tar that holds it
        pa.field("size", pa.int64()),
    ]
)


def polars_schema(schema: pa.Schema) -> pl.Schema:
    """The same columns as Polars calls them; a code is plain text there."""
    return pl.Schema({field.name: _polars_type(field.type) for field in schema})


class Rows:
    """Rows of a table that come one by one; no more than a thousand are Python objects at a time, which take
    ten times the memory of columns and are gone through by every garbage collection.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema, self._kinds = schema, polars_schema(schema)
        self._held: list[tuple[Any, ...]] = []
        self._pieces = [_arrow(pl.DataFrame(schema=self._kinds))]

    def append(self, row: tuple[Any, ...]) -> None:
        """Take in a row: its values in the order of the schema."""
        self._held.append(row)
        if len(self._held) == _HELD:
            self._set_columns()

    def __len__(self) -> int:
        return len(self._held) + sum(map(len, self._pieces))

    def table(self, *order: str) -> pa.Table:
        """The rows so far, sorted by the columns `order`."""
        self._set_columns()
        found = pa.concat_tables(self._pieces).combine_chunks().cast(self._schema)
        if not order:
            return found
        return found.take(pc.sort_indices(found, sort_keys=[(name, "ascending") for name in order]))

    def _set_columns(self) -> None:
        """By way of Polars: Arrow, given Python values, imports pandas if it is installed, and that is a
        tenth of the memory that a process may take."""
        if not self._held:
            return
        columns = zip(*self._held, strict=True)
        series = [
            pl.Series(name, _plain(values, kind), kind)
            for (name, kind), values in zip(self._kinds.items(), columns, strict=True)
        ]
        self._pieces.append(_arrow(pl.DataFrame(series)))
        self._held.clear()


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _plain(values: Sequence[Any], kind: pl.DataType) -> Sequence[Any]:
    """Moments as numbers, which Polars takes ten times as fast."""
    return [(value - _EPOCH) // _TICK for value in values] if isinstance(kind, pl.Datetime) else values


def _polars_type(kind: pa.DataType) -> pl.DataType:
    if pa.types.is_dictionary(kind):
        return pl.String()
    if pa.types.is_fixed_size_binary(kind):
        return pl.Binary()
    return _POLARS[kind]


_EPOCH, _TICK = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_POLARS: dict[pa.DataType, pl.DataType] = {
    pa.string(): pl.String(),
    pa.binary(): pl.Binary(),
    pa.bool_(): pl.Boolean(),
    pa.uint8(): pl.UInt8(),
    pa.int32(): pl.Int32(),
    pa.int64(): pl.Int64(),
    pa.uint64(): pl.UInt64(),
    pa.timestamp("us", tz="UTC"): pl.Datetime("us", "UTC"),
}
