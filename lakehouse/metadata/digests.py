"""A digest of each photo's row, kept beside the photo table: what two releases are compared by."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.metadata.records import uuid_pairs
from lakehouse.metadata.schema import DIGESTS, PHOTOS

Digests = npt.NDArray[np.uint64]

# The label is the place of the taxon among others; it may move although nothing was said about the photo.
_CONTENT = tuple(name for name in PHOTOS.names if name != "lft")
# Rows that are mixed together: they stay in the processor's cache.
_BLOCK = 8192
_NULL = 0x6E756C6C6E756C6C
# Of each word, and of the whole (SplitMix64).
_FACTOR, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_FINAL = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)


def digest_table(photos: pa.Table) -> pa.Table:
    """Rows of the photo table (schema `PHOTOS`) as rows of its digests (schema `DIGESTS`)."""
    columns = [photos[name] for name in DIGESTS.names[:-1]]
    return pa.table([*columns, pa.array(row_digests(photos))], schema=DIGESTS)


def row_digests(photos: pa.Table) -> Digests:
    """A uint64 for each row of a table of schema `PHOTOS`: equal rows have equal ones, on any machine.

    Rows that differ in one word never have the same; others do once in 2^64. The words are mixed in one after
    the other, and not in a linear way: what two rows swap shows in the sum of their digests. It is no
    cryptographic digest.
    """
    words = [word for name in _CONTENT for word in _words(photos[name].combine_chunks())]
    mixed = np.zeros(len(photos), np.uint64)
    scratch = np.empty(_BLOCK, np.uint64)
    for first in range(0, len(photos), _BLOCK):
        block = mixed[first : first + _BLOCK]
        shifted = scratch[: len(block)]
        for word in words:
            block ^= word[first : first + _BLOCK]
            block *= _FACTOR
            np.right_shift(block, _SHIFT, out=shifted)
            block ^= shifted
        _finish(block, shifted)
    return mixed


def _finish(block: Digests, scratch: Digests) -> None:
    """Let every bit depend on every other (the finaliser of SplitMix64)."""
    for shift, factor in _FINAL:
        np.right_shift(block, shift, out=scratch)
        block ^= scratch
        block *= factor


def _words(column: pa.Array) -> list[Digests]:
    """The values of a column as one or two uint64 each."""
    kind = column.type
    if isinstance(column, pa.ChunkedArray):
        column = pa.array([], kind) if not column.num_chunks else column.chunk(0)
    if pa.types.is_string(kind):
        column = column.dictionary_encode()
    if isinstance(column, pa.DictionaryArray):
        known, codes = column.dictionary, column.indices.fill_null(len(column.dictionary)).to_numpy()
        if pa.types.is_string(known.type):
            words = np.array([_hashed(word.encode()) for word in known.to_pylist()], np.uint64)
        else:
            (words,) = _words(known)
        return [np.append(words, np.uint64(_NULL))[codes]]
    if pa.types.is_list(kind):
        return [_lists(column)]
    if kind == pa.uuid():
        pairs = uuid_pairs(column)
        return [pairs[:, 0], pairs[:, 1]]
    if kind == pa.float64():
        # 0 is added, because -0 is the same number.
        values = (column.fill_null(0.0).to_numpy() + 0.0).view(np.uint64)
    else:
        whole = column.cast(pa.int32()) if kind in (pa.date32(), pa.bool_()) else column
        values = whole.fill_null(0).to_numpy().astype(np.int64).view(np.uint64)
    if column.null_count:
        values = np.where(column.is_null().to_numpy(zero_copy_only=False), np.uint64(_NULL), values)
    return [values]


def _lists(column: pa.Array) -> Digests:
    """Nearly all are null."""
    words = np.full(len(column), _NULL, np.uint64)
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    lists = column.take(pa.array(rows))
    data, ends = b"".join(value.as_py().bytes for value in pc.list_flatten(lists)), 0
    for row, length in zip(rows.tolist(), pc.list_value_length(lists).to_pylist(), strict=True):
        words[row] = _hashed(data[16 * ends : 16 * (ends + length)])
        ends += length
    return words


def _hashed(value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little")
