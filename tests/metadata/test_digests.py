from __future__ import annotations

import uuid
from datetime import date, timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.metadata.digests import digest_table, row_digests
from lakehouse.metadata.schema import DIGESTS, PHOTOS

ROW = {
    "photo_id": 7,
    "lft": 30,
    "taxon_id": 3,
    "observation_uuid": uuid.UUID(int=9),
    "observer_id": 4,
    "extension": "jpg",
    "license": "CC0",
    "width": 640,
    "height": 480,
    "position": 0,
    "latitude": 10.5,
    "longitude": -3.25,
    "positional_accuracy": 12,
    "quality_grade": "research",
    "observed_on": date(2020, 1, 31),
    "other_observations": None,
    "taxa_disagree": False,
}


GOLDEN = 3993588017310215689


def table(*rows: dict[str, object]) -> pa.Table:
    columns = []
    for field in PHOTOS:
        values = [row[field.name] for row in rows]
        if field.type == pa.uuid():
            values = [value.bytes for value in values]  # type: ignore[attr-defined]
            storage = pa.array(values, pa.binary(16))
            columns.append(pa.ExtensionArray.from_storage(pa.uuid(), storage))
        elif field.name == "other_observations":
            raw = pa.array(
                [value and [one.bytes for one in value] for value in values],  # type: ignore[attr-defined]
                pa.list_(pa.binary(16)),
            )
            ids = pa.ExtensionArray.from_storage(pa.uuid(), raw.values)
            columns.append(pa.ListArray.from_arrays(raw.offsets, ids, mask=raw.is_null()))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=PHOTOS)


def test_every_column_but_the_label_changes_the_digest() -> None:
    other = {
        "photo_id": 8,
        "taxon_id": 4,
        "observation_uuid": uuid.UUID(int=1 << 100),
        "extension": "JPG",
        "license": None,
        "latitude": 11.5,
        "longitude": None,
        "quality_grade": "casual",
        "observed_on": date(2020, 2, 1),
        "other_observations": [uuid.UUID(int=1)],
        "taxa_disagree": True,
        **dict.fromkeys(("observer_id", "width", "height", "position", "positional_accuracy")),
    }
    assert set(other) == set(PHOTOS.names) - {"lft"}
    rows = [ROW, *({**ROW, name: value} for name, value in other.items())]
    digests = row_digests(table(*rows)).tolist()
    assert len(set(digests)) == len(rows)
    assert row_digests(table({**ROW, "lft": 99})).tolist() == digests[:1]


def test_digests_are_the_same_everywhere_and_in_any_company() -> None:
    # A change of this number makes every photo of every release look changed.
    assert row_digests(table(ROW)).tolist() == [GOLDEN]
    several = table(*({**ROW, "photo_id": number} for number in range(20_000)))
    whole = row_digests(several)
    assert whole[7] == GOLDEN
    assert row_digests(several.slice(5, 9000)).tolist() == whole[5:9005].tolist()
    assert digest_table(several).schema == DIGESTS


def test_rows_that_swap_a_value_change_the_sum() -> None:
    def total(*licences: str | None) -> int:
        rows = ({**ROW, "photo_id": number, "license": one} for number, one in enumerate(licences))
        return sum(row_digests(table(*rows)).tolist()) % (1 << 64)

    assert total("CC0", None, "CC-BY") != total(None, "CC0", "CC-BY") != total("CC0", "CC-BY", None)


def test_columns_with_codes_have_the_digests_of_their_values() -> None:
    whole = table(ROW, {**ROW, "license": None, "taxon_id": 9}, ROW)
    coded = whole
    for name in ("lft", "taxon_id", "extension", "license", "quality_grade"):
        column = whole[name].combine_chunks().dictionary_encode()
        coded = coded.set_column(coded.column_names.index(name), name, column)
    assert row_digests(coded).tolist() == row_digests(whole).tolist()


def test_minus_zero_is_zero() -> None:
    one, other = row_digests(table({**ROW, "latitude": 0.0}, {**ROW, "latitude": -0.0}))
    assert one == other


@settings(deadline=None, max_examples=30)
@given(st.sets(st.tuples(st.integers(-180, 180), st.integers(-360, 360), st.integers(0, 5)), min_size=2))
def test_round_numbers_do_not_meet(places: set[tuple[int, int, int]]) -> None:
    day = date(2020, 1, 1)
    rows = [
        {**ROW, "latitude": y / 2, "longitude": x / 2, "observed_on": day + timedelta(days)}
        for y, x, days in places
    ]
    assert len(set(row_digests(table(*rows)).tolist())) == len(rows)
