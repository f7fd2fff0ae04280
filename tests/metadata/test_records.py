from __future__ import annotations

import uuid
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import LakeError
from lakehouse.metadata import records
from lakehouse.metadata.records import RecordForm, taken

FIELDS = [
    pa.field("key", pa.uuid(), nullable=False),
    pa.field("number", pa.int64(), nullable=False),
    pa.field("small", pa.int32()),
    pa.field("place", pa.float64()),
    pa.field("day", pa.date32()),
    pa.field("word", pa.string()),
]
ROWS = st.lists(
    st.tuples(
        st.uuids(),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.none() | st.integers(-(1 << 31), (1 << 31) - 1),
        st.none() | st.floats(allow_nan=False),
        st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        st.none() | st.text(max_size=3),
    ),
    max_size=50,
)


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = []
    for at, field in enumerate(FIELDS):
        values = [row[at] for row in rows]
        if field.type == pa.uuid():
            raw = pa.array([value.bytes for value in values], pa.binary(16))  # type: ignore[attr-defined]
            columns.append(pa.ExtensionArray.from_storage(pa.uuid(), raw))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, pa.schema(FIELDS))


def unpacked(form: RecordForm, packed: records.Records) -> list[tuple[object, ...]]:
    columns = form.unpack(packed)
    assert list(columns) == [field.name for field in FIELDS]
    return list(zip(*(column.to_pylist() for column in columns.values()), strict=True))


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(0, 20))
def test_what_is_packed_is_unpacked_as_it_was(rows: list[tuple[object, ...]], first: int) -> None:
    form = RecordForm(FIELDS)
    whole = form.pack(table(rows))
    assert unpacked(form, whole) == rows
    assert unpacked(form, form.pack(table(rows).slice(first))) == rows[first:]
    back = np.arange(len(rows))[::-1]
    assert unpacked(form, taken(whole, back)) == rows[::-1]


def test_words_come_back_as_those_that_occur_in_alphabetical_order() -> None:
    form = RecordForm(FIELDS)
    row = (uuid.UUID(int=1), 1, None, None, None)
    packed = form.pack(table([(*row, word) for word in ("c", "a", "b", "a", None)]))
    assert form.unpack(packed[1:])["word"].dictionary.to_pylist() == ["a", "b"]


def test_records_without_uuids_have_the_other_columns() -> None:
    form = RecordForm(FIELDS)
    packed = form.without_uuids(form.pack(table([(uuid.UUID(int=1), 7, None, 1.5, date(2020, 1, 2), "a")])))
    columns = {name: column.to_pylist() for name, column in form.unpack(packed).items()}
    assert columns == {
        "number": [7],
        "small": [None],
        "place": [1.5],
        "day": [date(2020, 1, 2)],
        "word": ["a"],
    }


def test_a_blank_record_is_null_where_it_may_be() -> None:
    form = RecordForm(FIELDS)
    blank = form.blank()
    assert unpacked(form, blank) == [(uuid.UUID(int=0), 0, None, None, None, None)]
    assert form.is_null(blank, "day").tolist() == [True]


def test_a_number_can_be_made_null() -> None:
    form = RecordForm(FIELDS)
    packed = form.pack(table([(uuid.UUID(int=1), 1, 2, 3.0, None, "a")] * 3))
    form.make_null(packed, "small", np.array([1]))
    assert form.unpack(packed)["small"].to_pylist() == [2, None, 2]


def test_more_words_than_there_are_numbers_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_NO_WORD", 2)
    row = (uuid.UUID(int=1), 1, None, None, None)
    with pytest.raises(LakeError, match="the column word has more than 2 different values"):
        RecordForm(FIELDS).pack(table([(*row, word) for word in "abc"]))
