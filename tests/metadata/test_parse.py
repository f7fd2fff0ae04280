from __future__ import annotations

import uuid

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.metadata.chunks import Chunk
from lakehouse.metadata.parse import Parsed, Parser, rejects_table
from lakehouse.metadata.schema import RAW, RAW_TABLES, REJECTS

UUID = "9b5ca6f4-fb23-47ff-b581-5fe3f9d068aa"
GOOD = f"{UUID}\t35\t{UUID}\t5\tjpg\tCC-BY\t2048\t1356\t0".encode()
PHOTOS = RAW_TABLES["photos"]
TAXA = RAW_TABLES["taxa"]


def parse(data: bytes, table: str = "photos", columns: int | None = None) -> Parsed:
    raw = RAW_TABLES[table]
    return Parser(raw, raw.schema.names[:columns]).parse(
        Chunk(bytearray(data), not data or data.endswith(b"\n"))
    )


def with_value(column: str, value: bytes) -> bytes:
    cells = GOOD.split(b"\t")
    cells[RAW["photos"].get_field_index(column)] = value
    return b"\t".join(cells)


def test_a_row_is_typed() -> None:
    (row,) = parse(GOOD + b"\n").rows.to_pylist()
    assert row == {
        "photo_uuid": uuid.UUID(UUID),
        "photo_id": 35,
        "observation_uuid": uuid.UUID(UUID),
        "observer_id": 5,
        "extension": "jpg",
        "license": "CC-BY",
        "width": 2048,
        "height": 1356,
        "position": 0,
    }


def test_quotes_are_letters_like_any_other() -> None:
    lines = ['1\t\t10\tspecies\tAmanita "sp', '2\t\t10\tspecies\t"both"', "3\t\t10\tspecies\tO'Hara's"]
    rows = parse("".join(f"{line}\ttrue\n" for line in lines).encode(), "taxa").rows
    assert rows["name"].to_pylist() == ['Amanita "sp', '"both"', "O'Hara's"]


def test_empty_values_are_null() -> None:
    line = f"{UUID}\t\t\t\t\t\tcasual\t\t\n".encode()
    (row,) = parse(line, "observations").rows.to_pylist()
    assert [name for name, value in row.items() if value is not None] == ["observation_uuid", "quality_grade"]


def test_columns_that_an_older_header_lacks_are_null() -> None:
    line = f"{UUID}\t1\t2.5\t3.5\t\t7\tresearch\t2020-01-31\n".encode()
    parsed = parse(line, "observations", columns=8)
    assert parsed.rows.schema == RAW["observations"]
    assert parsed.rows["anomaly_score"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("bad", "column", "rule"),
    [
        (GOOD + b"\textra", None, "field count 10, expected 9"),
        (b"cut", None, "field count 1, expected 9"),
        (with_value("photo_uuid", b"9b5ca6f4"), "photo_uuid", "photo_uuid is not a UUID"),
        (with_value("observation_uuid", b"x" * 36), "observation_uuid", "observation_uuid is not a UUID"),
        (with_value("photo_uuid", UUID.replace("-", "f").encode()), "photo_uuid", "photo_uuid is not a UUID"),
        (with_value("photo_id", b""), "photo_id", "photo_id is empty"),
        (with_value("photo_id", b"12.5"), "photo_id", "photo_id is not a whole number"),
        (with_value("photo_id", b"9" * 19), "photo_id", "photo_id is out of range"),
        (with_value("observer_id", b"2147483648"), "observer_id", "observer_id is out of range"),
        (with_value("license", b"CC-\xff"), "license", "not UTF-8"),
        (with_value("license", b"CC\rBY"), "license", "carriage return inside the line"),
        (GOOD + b"\r", "position", "carriage return inside the line"),
        (b" ", None, "field count 1, expected 9"),
    ],
)
def test_a_bad_line_is_set_aside_alone(bad: bytes, column: str | None, rule: str) -> None:
    parsed = parse(b"\n".join([GOOD] * 70 + [bad] + [GOOD] * 70) + b"\n")
    assert parsed.rows.num_rows == 140
    (reject,) = parsed.rejects
    assert (reject.line, reject.column, reject.rule, reject.text) == (70, column, rule, bad)


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("latitude", b"north", "latitude is not a number"),
        ("longitude", b"nan", "longitude is not a finite number"),
        ("anomaly_score", b"1e999", "anomaly_score is not a finite number"),
        ("observed_on", b"2020-02-30", "observed_on is not a date such as 2020-01-31"),
        ("observed_on", b"30.02.2020", "observed_on is not a date such as 2020-01-31"),
    ],
)
def test_numbers_and_dates_must_be_such(column: str, value: bytes, rule: str) -> None:
    cells = f"{UUID}\t1\t2.5\t3.5\t\t7\tresearch\t2020-01-31\t".encode().split(b"\t")
    cells[RAW["observations"].get_field_index(column)] = value
    (reject,) = parse(b"\t".join(cells) + b"\n", "observations").rejects
    assert reject.rule == rule


def test_active_is_true_or_false() -> None:
    (reject,) = parse(b"1\t\t10\tspecies\tRana\tyes\n", "taxa").rejects
    assert reject.rule == "active is neither true nor false"


def test_blank_lines_are_counted_apart() -> None:
    parsed = parse(b"\n" + GOOD + b"\n\n" + GOOD + b"\n\n")
    assert (parsed.rows.num_rows, parsed.blank, parsed.rejects) == (2, 3, ())


def test_a_last_row_cut_short_is_set_aside_as_that() -> None:
    parsed = parse(GOOD + b"\n" + GOOD[:50])
    assert parsed.rows.num_rows == 1
    assert [(reject.line, reject.rule) for reject in parsed.rejects] == [(1, "last row cut short")]


def test_a_whole_last_row_without_its_newline_is_kept() -> None:
    assert parse(GOOD + b"\n" + GOOD).rows.num_rows == 2


def test_rejects_keep_bytes_that_are_no_text() -> None:
    table = rejects_table("photos.csv", 2, parse(b"\xffbad\n").rejects)
    assert table.schema == REJECTS
    assert table.to_pylist() == [
        {
            "file": "photos.csv",
            "line": 2,
            "column": None,
            "rule": "field count 1, expected 9",
            "text": "\\xffbad",
        }
    ]


def test_a_chunk_in_which_every_line_is_bad_is_read_in_bearable_time() -> None:
    parsed = parse((with_value("photo_uuid", b"?") + b"\n") * 20_000)
    assert len(parsed.rejects) == 20_000


LINES = st.one_of(
    st.just(GOOD),
    st.just(b""),
    st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")),
    st.builds(
        with_value,
        st.sampled_from(RAW["photos"].names),
        st.one_of(
            st.sampled_from([b"", b" 7", b"0x1f", b"+5", b"\xef\xbb\xbf1", b"\x00", b'"', b"1e3"]),
            st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"").replace(b"\t", b"")),
        ),
    ),
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=30), st.booleans())
def test_every_line_is_a_row_a_reject_or_blank(lines: list[bytes], terminated: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if terminated and lines else b"")
    parsed = parse(data)
    count = data.count(b"\n") + bool(data and not data.endswith(b"\n"))
    assert parsed.rows.num_rows + len(parsed.rejects) + parsed.blank == count
    assert parsed.blank == sum(not line for line in data.split(b"\n")) - 1 * (
        not data or data.endswith(b"\n")
    )


@settings(deadline=None)
@given(st.lists(LINES, max_size=30))
def test_a_line_fares_the_same_whatever_is_around_it(lines: list[bytes]) -> None:
    alone = [parse(line + b"\n") for line in lines]
    together = parse(b"".join(line + b"\n" for line in lines))
    assert together.rows.equals(pa.concat_tables([RAW["photos"].empty_table(), *(one.rows for one in alone)]))
    assert [reject.rule for reject in together.rejects] == [
        reject.rule for one in alone for reject in one.rejects
    ]
