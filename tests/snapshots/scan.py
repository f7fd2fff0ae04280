"""A look at every byte of a lake, and every value of its tables, for something that must not be there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.lake import Lake


def everything(lake: Lake) -> list[str]:
    """The key of every object in the lake."""
    return sorted(str(entry["path"]) for batch in lake.store.list() for entry in batch)


def traces(lake: Lake, numbers: Iterable[int], texts: Iterable[str], blobs: Iterable[bytes]) -> list[str]:
    """The objects in which one of the values occurs: as bytes, as text of a number, or in a Parquet column or
    its statistics, however encoded."""
    numbers, texts = list(numbers), list(texts)
    words = [str(number).encode() for number in numbers] + [text.encode() for text in texts]
    patterns = [re.compile(rb"(?<![0-9])" + re.escape(word) + rb"(?![0-9])") for word in words]
    needles = [*blobs, *(blob.hex().encode() for blob in blobs if len(blob) == 32)]
    found = []
    for entry in everything(lake):
        data = lake.get(entry)
        if (
            any(pattern.search(data) for pattern in patterns)
            or any(needle in data for needle in needles)
            or (entry.endswith(".parquet") and any(_values(data, set(numbers), words, needles)))
        ):
            found.append(entry)
    return found


def _values(data: bytes, numbers: set[int], words: list[bytes], blobs: list[bytes]) -> Iterator[bool]:
    file = pq.ParquetFile(pa.BufferReader(data))
    for group in range(file.metadata.num_row_groups):
        for column in range(file.metadata.num_columns):
            statistics = file.metadata.row_group(group).column(column).statistics
            if statistics and statistics.has_min_max:
                yield bool(
                    {statistics.min, statistics.max} & numbers if isinstance(statistics.min, int) else 0
                )
    table = file.read()
    for column in table.columns:
        yield from _in_column(column.combine_chunks(), numbers, words, blobs)


def _in_column(column: pa.Array, numbers: set[int], words: list[bytes], blobs: list[bytes]) -> Iterator[bool]:
    if pa.types.is_nested(column.type):
        yield any(word.decode() in str(value) for value in column.to_pylist() for word in words)
    elif pa.types.is_integer(column.type):
        yield bool(
            pc.any(pc.is_in(column.cast(pa.int64(), safe=False), pa.array(list(numbers), pa.int64()))).as_py()
        )
    else:
        for value in column.to_pylist():
            data = value if isinstance(value, bytes) else str(value).encode()
            yield any(word in data for word in words) or any(blob == data for blob in blobs)
