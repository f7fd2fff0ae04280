"""The files of a snapshot written under their digests: equal rows give equal bytes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import LakeError
from lakehouse.images.shard import index_key, shard_key
from lakehouse.lake import ROW_GROUP, Lake
from lakehouse.snapshots.identity import sha256_hex, sha256_of_file
from lakehouse.snapshots.model import FileRef, Root, ShardRef

PARTS = "snapshots/parts"
# Rising numbers; the others have few distinct values in one part.
_RISING = ("photo_id",)
_REPEATED = ("label_id", "taxon_id", "observer_id", "observed_on")
# Texts that are read as codes, which costs half of reading them as texts.
REPEATED_TEXTS = ("shard", "extension", "creator", "license", "split", "quality_grade")


class PartWriter:
    """Writes parts; one that a version names already (`known`) is not written again.

    A part that is there and that no version names is written all the same: it is an orphan of a killed run,
    and housekeeping, which goes by age, might be about to delete it.
    """

    def __init__(self, lake: Lake, known: Root | None = None) -> None:
        self._lake = lake
        self._known = {file.key for file in known.files()} if known else set()

    def store(self, table: pa.Table, schema: pa.Schema, before: FileRef | None = None) -> FileRef:
        """Write a table as a part of `schema`, unless it has the rows of the part `before`.

        Reading a part costs a fraction of writing it, and most parts stay what they were.
        """
        if (
            before
            and before.rows == len(table)
            and before.key in self._known
            and self._equal(table, before, schema)
        ):
            return before
        table = _conform(table, schema)
        with self._lake.scratch() as folder:
            path = folder / "part.parquet"
            codes = [field.name for field in schema if pa.types.is_dictionary(field.type)]
            pq.write_table(
                table,
                path,
                row_group_size=ROW_GROUP,
                compression="zstd",
                compression_level=1,
                store_schema=False,
                use_dictionary=[*codes, *(name for name in _REPEATED if name in schema.names)],
                column_encoding={name: "DELTA_BINARY_PACKED" for name in _RISING if name in schema.names},
            )
            digest, size = sha256_of_file(path), path.stat().st_size
            key = f"{PARTS}/{digest}.parquet"
            if key not in self._known:
                self._lake.publish(path, key)
        return FileRef(key=key, sha256=digest, size=size, rows=len(table))

    def _equal(self, table: pa.Table, before: FileRef, schema: pa.Schema) -> bool:
        old = self._lake.read_table(before.key, repeated=REPEATED_TEXTS)
        return all(_same_values(table[name], old[name]) for name in schema.names)


def _same_values(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Whether two columns have equal values, however they are encoded."""
    sides = [one.combine_chunks(), other.combine_chunks()]
    codes = [pa.types.is_dictionary(side.type) for side in sides]
    if all(codes) and sides[0].dictionary.equals(sides[1].dictionary):
        return bool(sides[0].indices.equals(sides[1].indices))
    one, other = (side.cast(pa.string()) if code else side for side, code in zip(sides, codes, strict=True))
    return bool(one.equals(other))


def shard_ref(lake: Lake, rendition: str, digest: str) -> ShardRef:
    """A reference to a shard that is in the lake; raises LakeError if its archive is not."""
    tar, index = shard_key(rendition, digest), index_key(rendition, digest)
    size, data = lake.size(tar), lake.get(index)
    if size is None:
        raise LakeError(f"{lake.uri(tar)} is missing although the ledger names it; run lakehouse verify")
    rows = pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows
    return ShardRef(
        tar=FileRef(key=tar, sha256=digest, size=size, rows=rows),
        index=FileRef(key=index, sha256=sha256_hex(data), size=len(data), rows=rows),
    )


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    # A dictionary lists just the values that occur, in order, so that equal columns are equal bytes.
    columns = [
        table[field.name].cast(pa.string()).combine_chunks().dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else table[field.name].cast(field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, names=schema.names).cast(schema).combine_chunks()
