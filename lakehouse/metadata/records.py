"""Rows of a table as records of fixed width: a whole row is moved at once, and read back from a plain file.

Words become numbers in the order of their first appearance, so that records are of use only beside the
`RecordForm` that made them.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib.recfunctions import repack_fields

from lakehouse.errors import LakeError
from lakehouse.metadata.tree import Bools, Ints

Records = npt.NDArray[np.void]
# Pairs.
Uuids = npt.NDArray[np.uint64]

_NO_WORD = (1 << 16) - 1
_KINDS: dict[pa.DataType, str] = {
    pa.int64(): "i8",
    pa.float64(): "f8",
    pa.int32(): "i4",
    pa.date32(): "i4",
    pa.string(): "u2",
}
_MISSING = "_missing"


class RecordForm:
    """How rows with certain columns are packed into records and unpacked.

    Parameters
    ----------
    fields
        The columns: UUIDs, numbers, dates and strings.

    Attributes
    ----------
    dtype
        That of the records; a UUID is a pair of uint64.
    """

    def __init__(self, fields: Iterable[pa.Field]) -> None:
        self.schema = pa.schema(list(fields))
        self.words = [field.name for field in self.schema if field.type == pa.string()]
        self._codes: dict[str, dict[str, int]] = {name: {} for name in self.words}
        self._lock = Lock()
        self._nullable = [
            field.name
            for field in self.schema
            if field.nullable and field.type not in (pa.string(), pa.uuid())
        ]
        columns = [
            (field.name, "u8", 2) if field.type == pa.uuid() else (field.name, _KINDS[field.type])
            for field in self.schema
        ]
        # The widest first, so that nothing lies across a boundary.
        columns.sort(key=lambda column: -np.dtype(column[1]).itemsize)
        self.dtype = np.dtype([*columns, (_MISSING, "u2")], align=True)

    def pack(self, table: pa.Table) -> Records:
        """Rows of `table` as records.

        Raises LakeError if a column has more distinct words than there are numbers for them.
        """
        records = np.empty(len(table), self.dtype)
        records[_MISSING] = 0
        for field in self.schema:
            first = 0
            for chunk in table[field.name].chunks:
                part = records[first : first + len(chunk)]
                first += len(chunk)
                if field.type == pa.uuid():
                    part[field.name] = uuid_pairs(chunk)
                elif field.name in self._codes:
                    part[field.name] = self._coded(field.name, chunk)
                else:
                    if chunk.null_count:
                        missing = chunk.is_null().to_numpy(zero_copy_only=False)
                        part[_MISSING] |= missing * self._bit(field.name)
                        chunk = chunk.fill_null(0)
                    numbers = chunk.view(pa.int32()) if field.type == pa.date32() else chunk
                    part[field.name] = numbers.to_numpy()
        return records

    def unpack(self, records: Records) -> dict[str, pa.Array]:
        """The columns of records; words as dictionaries that hold those that occur, in alphabetical order."""
        missing = records[_MISSING]
        some = np.bitwise_or.reduce(missing)
        columns = {}
        for field in self.schema:
            if field.name not in (records.dtype.names or ()):
                continue
            values = np.ascontiguousarray(records[field.name])
            if field.type == pa.uuid():
                columns[field.name] = _uuids(values)
            elif field.name in self._codes:
                columns[field.name] = self._decoded(field.name, values)
            else:
                valid = None
                if field.name in self._nullable:
                    bit = self._bit(field.name)
                    valid = missing & bit == 0 if some & bit else None
                columns[field.name] = array_of(field.type, values, valid)
        return columns

    def without_uuids(self, records: Records) -> Records:
        """The records without their UUIDs; they unpack to the other columns."""
        uuids = {field.name for field in self.schema if field.type == pa.uuid()}
        return repack_fields(
            records[[name for name in self.dtype.names or () if name not in uuids]], align=True
        )

    def blank(self) -> Records:
        """One record of nulls, and of zeros where no null is allowed."""
        record = np.zeros(1, self.dtype)
        record[_MISSING] = (1 << len(self._nullable)) - 1
        for name in self.words:
            record[name] = _NO_WORD
        return record

    def is_null(self, records: Records, name: str) -> Bools:
        """Where a number or date is null."""
        return records[_MISSING] & self._bit(name) != 0

    def make_null(self, records: Records, name: str, rows: Ints) -> None:
        """Let a number or date be null in some rows."""
        records[_MISSING][rows] |= self._bit(name)

    def _bit(self, name: str) -> np.uint16:
        return np.uint16(1 << self._nullable.index(name))

    def _coded(self, name: str, chunk: pa.Array) -> npt.NDArray[np.uint16]:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        known = self._codes[name]
        with self._lock:
            codes = [known.setdefault(word, len(known)) for word in coded.dictionary.to_pylist()]
        if len(known) > _NO_WORD:
            raise LakeError(
                f"the column {name} has more than {_NO_WORD:,} different values, ordinarily a few; "
                "check the dump"
            )
        return np.array([*codes, _NO_WORD], np.uint16)[coded.indices.fill_null(len(codes)).to_numpy()]

    def _decoded(self, name: str, codes: npt.NDArray[np.uint16]) -> pa.DictionaryArray:
        words = list(self._codes[name])
        # Null is the number behind the last.
        codes = np.minimum(codes, len(words))
        used = np.flatnonzero(np.bincount(codes, minlength=len(words) + 1)).tolist()
        present = sorted((words[code], code) for code in used if code < len(words))
        place = np.zeros(len(words) + 1, np.int32)
        for at, (_, code) in enumerate(present):
            place[code] = at
        valid = codes < len(words) if len(words) in used else None
        indices = array_of(pa.int32(), place[codes], valid)
        return pa.DictionaryArray.from_arrays(indices, pa.array([word for word, _ in present], pa.string()))


def taken(records: Records, rows: npt.NDArray[np.integer]) -> Records:
    """The records at `rows`; -1 is the last one."""
    # Moved as bytes: NumPy would copy field by field.
    return records.view(f"V{records.itemsize}").take(rows).view(records.dtype)


def uuid_pairs(values: pa.Array) -> Uuids:
    """UUIDs as pairs of uint64."""
    storage = values.storage if isinstance(values, pa.ExtensionArray) else values
    data = np.frombuffer(storage.buffers()[1], np.uint64, 2 * len(storage), 16 * storage.offset)
    return data.reshape(len(storage), 2)


def array_of(kind: pa.DataType, values: np.ndarray, valid: Bools | None = None) -> pa.Array:
    """An array of a type of fixed width over the memory of `values`, null where they are not `valid`."""
    nulls = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [nulls, pa.py_buffer(values)])


def _uuids(pairs: Uuids) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), array_of(pa.binary(16), pairs))
