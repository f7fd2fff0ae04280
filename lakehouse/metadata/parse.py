"""From the text of a table to typed rows, setting aside exactly the lines that break a rule.

One judge decides: `_strict`, a strict parse by pyarrow without quoting. Most chunks pass it whole. In one
that does not, lines are sifted until those that fail alone are found.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from lakehouse.metadata.chunks import Chunk
from lakehouse.metadata.schema import REJECTS, RawTable

_UUID_TEXT = pa.binary(36)
_UUID_PATTERN = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# The digits between the hyphens of a UUID, as numbers: a number is copied faster than so many characters.
_DIGITS = {"names": list("abcdef"), "formats": ["u8", "u4", "u4", "u4", "u4", "u8"]}
_IN_TEXT = np.dtype({**_DIGITS, "offsets": [0, 9, 14, 19, 24, 28], "itemsize": 36})  # type: ignore[call-overload]
_TOGETHER = np.dtype(_DIGITS)  # type: ignore[call-overload]
_HYPHENS = (8, 13, 18, 23)
_BOM = b"\xef\xbb\xbf"
# Groups this small are looked at line by line before they are halved further.
_SMALL = 64
_TEXT_LIMIT = 4096
# UUIDs that are decoded together: their text stays in the processor's cache.
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Reject:
    """One line set aside: its number in the chunk (from 0), the `column` (None: the line as such), the `rule`
    that it breaks, its bytes."""

    line: int
    column: str | None
    rule: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a chunk held: typed `rows`, `rejects` in order, and how many lines were `blank`."""

    rows: pa.Table
    rejects: tuple[Reject, ...]
    blank: int

    @property
    def lines(self) -> int:
        """All lines of the chunk."""
        return self.rows.num_rows + len(self.rejects) + self.blank


@dataclass(slots=True)
class _Found:
    """What was found in a chunk so far, in order."""

    tables: list[pa.Table]
    rejects: list[Reject]


class _Refused(ValueError):
    """A rule that the CSV reader does not know is broken."""


class Parser:
    """Parses chunks of one table.

    Parameters
    ----------
    table
        The table's schema.
    header
        The names of the columns that the file has, a prefix of the schema's.
    """

    def __init__(self, table: RawTable, header: Sequence[str]) -> None:
        self._schema = table.schema
        self._header = tuple(header)
        self._fields = [table.schema.field(name) for name in header]
        self._kinds = {
            field.name: _UUID_TEXT if field.type == pa.uuid() else field.type for field in self._fields
        }

    def parse(self, chunk: Chunk) -> Parsed:
        """Typed rows of `chunk`, its rejects, and its count of blank lines: each line is one of these."""
        data = chunk.data if chunk.terminated or not chunk.data else chunk.data + b"\n"
        rows = self._whole(data)
        if rows is not None:
            return Parsed(rows, (), 0)
        found, lines = _Found([], []), data.count(b"\n")
        self._sift(data, 0, lines, found)
        rejects = found.rejects
        if not chunk.terminated and rejects and rejects[-1].line == lines - 1:
            rejects[-1] = Reject(lines - 1, None, "last row cut short", rejects[-1].text)
        rows = pa.concat_tables([self._schema.empty_table(), *found.tables])
        return Parsed(rows, tuple(rejects), lines - rows.num_rows - len(rejects))

    def _whole(self, data: bytes | bytearray) -> pa.Table | None:
        """The rows of `data`, one for each of its lines; None if some line is no row."""
        # The reader would take a carriage return for the end of a line.
        if b"\r" in data:
            return None
        try:
            return self._strict(data)
        except (pa.ArrowInvalid, _Refused):
            return None

    def _strict(self, data: bytes | bytearray) -> pa.Table:
        """The rows of `data`; raises ArrowInvalid or _Refused if a line breaks a rule or is blank."""
        if not data:
            return self._schema.empty_table()
        if data.startswith(_BOM):
            # The reader would skip it, but only here and not in the middle of a chunk.
            data = b"\n" + data
        rows = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                column_names=self._header, use_threads=False, block_size=len(data) + 1
            ),
            parse_options=csv.ParseOptions(
                delimiter="\t", quote_char=False, newlines_in_values=False, ignore_empty_lines=False
            ),
            convert_options=csv.ConvertOptions(
                column_types=self._kinds,
                null_values=[""],
                strings_can_be_null=True,
                true_values=["true"],
                false_values=["false"],
            ),
        )
        columns = []
        for field in self._schema:
            if field.name not in self._kinds:
                columns.append(pa.nulls(rows.num_rows, field.type))
                continue
            values = rows.column(field.name).combine_chunks()
            if not field.nullable and values.null_count:
                raise _Refused(f"{field.name} is empty")
            if field.type == pa.uuid():
                values = _uuids(values)
            elif field.type == pa.float64() and not pc.all(pc.is_finite(values), min_count=0).as_py():
                raise _Refused(f"{field.name} is not finite")
            columns.append(values)
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _sift(self, data: bytes | bytearray, first_line: int, lines: int, found: _Found) -> None:
        """Add the rows and rejects of whole lines to `found`, halving them until the bad ones are alone."""
        rows = self._whole(data)
        if rows is not None:
            found.tables.append(rows)
            return
        if lines <= _SMALL:
            self._one_by_one(data, first_line, found)
            return
        cut = data.find(b"\n", len(data) // 2) + 1
        if cut == len(data):
            cut = data.rfind(b"\n", 0, len(data) // 2) + 1
        head = data[:cut]
        above = head.count(b"\n")
        self._sift(head, first_line, above, found)
        self._sift(data[cut:], first_line + above, lines - above, found)

    def _one_by_one(self, data: bytes | bytearray, first_line: int, found: _Found) -> None:
        """Add the rows and rejects of a few lines to `found`."""
        good: list[bytes] = []
        rejects: list[Reject] = []
        for number, line in enumerate(bytes(data).split(b"\n")[:-1], start=first_line):
            reject = self._malformed(number, line) if line else None
            if line and reject is None:
                reject = self._refused(number, line)
            if reject:
                rejects.append(reject)
            elif line:
                good.append(line)
        found.rejects += rejects
        if good:
            found.tables.append(self._strict(b"\n".join(good) + b"\n"))

    def _refused(self, number: int, line: bytes) -> Reject | None:
        """What is wrong with the values of a line, None if nothing is."""
        explained = self._explained(number, line)
        if explained:
            return explained
        try:
            self._strict(line + b"\n")
        except (pa.ArrowInvalid, _Refused) as error:
            return self._unexplained(number, line, error)
        return None

    def _malformed(self, number: int, line: bytes) -> Reject | None:
        """What is wrong with a line as such, before its values are read."""
        fields = line.count(b"\t") + 1
        if fields != len(self._header):
            return Reject(number, None, f"field count {fields}, expected {len(self._header)}", line)
        if b"\r" in line:
            # The reader would take it for the end of a line.
            return Reject(
                number,
                self._first(line, lambda value: b"\r" in value),
                "carriage return inside the line",
                line,
            )
        try:
            line.decode()
        except UnicodeDecodeError:
            return Reject(number, self._first(line, _undecodable), "not UTF-8", line)
        return None

    def _first(self, line: bytes, test: Callable[[bytes], bool]) -> str | None:
        return next(
            (name for name, value in zip(self._header, line.split(b"\t"), strict=True) if test(value)), None
        )

    def _explained(self, number: int, line: bytes) -> Reject | None:
        """The first value of `line` that surely is refused by `_strict`, and why."""
        for field, value in zip(self._fields, line.split(b"\t"), strict=True):
            rule = _broken(field, value)
            if rule:
                return Reject(number, field.name, f"{field.name} {rule}", line)
        return None

    def _unexplained(self, number: int, line: bytes, error: Exception) -> Reject:
        found = re.search(r"CSV column #(\d+)", str(error))
        column = self._header[int(found[1])] if found else None
        return Reject(number, column, f"{column or 'the line'} cannot be read", line)


def rejects_table(file: str, first_line: int, rejects: Sequence[Reject]) -> pa.Table:
    """The rows (schema `REJECTS`) of `rejects` of a chunk that begins at `first_line` of `file`."""
    texts = [reject.text.decode("utf-8", "backslashreplace") for reject in rejects]
    return pa.table(
        {
            "file": [file] * len(rejects),
            "line": [first_line + reject.line for reject in rejects],
            "column": [reject.column for reject in rejects],
            "rule": [reject.rule for reject in rejects],
            "text": [text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…" for text in texts],
        },
        schema=REJECTS,
    )


def _uuids(texts: pa.Array) -> pa.Array:
    """UUIDs from their 36-character text; raises _Refused if one is not a UUID."""
    count = len(texts)
    raw = np.frombuffer(texts.buffers()[1], dtype=np.uint8, count=36 * count, offset=36 * texts.offset)
    characters, in_text = raw.reshape(count, 36), raw.view(_IN_TEXT)
    digits = np.empty(min(count, _BLOCK), _TOGETHER)
    found = []
    for first in range(0, count, _BLOCK):
        if not all((characters[first : first + _BLOCK, at] == ord("-")).all() for at in _HYPHENS):
            raise _Refused("not a UUID")
        block = in_text[first : first + _BLOCK]
        together = digits[: len(block)]
        for name in _TOGETHER.names or ():
            together[name] = block[name]
        try:
            found.append(binascii.unhexlify(together.view(np.uint8).data))
        except binascii.Error:
            raise _Refused("not a UUID") from None
    data = pa.py_buffer(b"".join(found))
    return pa.ExtensionArray.from_storage(
        pa.uuid(), pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, data])
    )


def _undecodable(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False


def _broken(field: pa.Field, value: bytes) -> str | None:
    """Why `value` cannot be one of `field`, None if it can or if only the reader knows."""
    kind = field.type
    if not value:
        return None if field.nullable else "is empty"
    if kind == pa.uuid():
        return None if _UUID_PATTERN.fullmatch(value) else "is not a UUID"
    text = value.strip()
    if pa.types.is_integer(kind):
        if re.fullmatch(rb"-?[0-9]+", text):
            return None if _fits(int(text), kind.bit_width) else "is out of range"
        # The reader takes hexadecimal numbers, too.
        return None if re.match(rb"-?0[xX]", text) else "is not a whole number"
    if kind == pa.float64():
        try:
            return None if np.isfinite(float(text)) else "is not a finite number"
        except ValueError:
            return None if re.match(rb"[-+]?(nan|inf)", text, re.IGNORECASE) else "is not a number"
    if kind == pa.bool_():
        return None if text in (b"true", b"false") else "is neither true nor false"
    if kind == pa.date32():
        return None if _is_date(text) else "is not a date such as 2020-01-31"
    return None


def _fits(number: int, bits: int) -> bool:
    return -(1 << (bits - 1)) <= number < 1 << (bits - 1)


def _is_date(text: bytes) -> bool:
    if not re.fullmatch(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    if text.startswith(b"0000"):
        # Not a year in Python; the reader decides.
        return True
    try:
        date.fromisoformat(text.decode())
    except ValueError:
        return False
    return True
