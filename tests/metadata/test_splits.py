from __future__ import annotations

import uuid

import duckdb
import pyarrow as pa
import pytest

from lakehouse.metadata.splits import split_of, split_sql

SHARES = [
    {"train": 0.8, "val": 0.1, "test": 0.1},
    {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3},
    {"train": 1.0},
    {"test": 0.0001, "train": 0.9999},
]


@pytest.mark.parametrize("splits", SHARES)
def test_python_and_sql_agree(splits: dict[str, float]) -> None:
    uuids = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(10_000)]
    with duckdb.connect() as connection:
        connection.register("observations", pa.table({"id": uuids}))
        query = f"SELECT id, {split_sql('id::UUID', splits)} FROM observations"
        found = dict(connection.execute(query).fetchall())
    assert found == {one: split_of(one, splits) for one in uuids}
    for name, share in splits.items():
        assert list(found.values()).count(name) / 10_000 == pytest.approx(share, abs=0.02)


def test_a_split_is_fixed_forever() -> None:
    found = [split_of(str(uuid.UUID(int=number)), SHARES[0]) for number in range(8)]
    assert found == ["train", "train", "train", "val", "train", "train", "val", "test"]


def test_another_salt_gives_another_split() -> None:
    one = [split_of(str(uuid.UUID(int=number)), SHARES[0], "a") for number in range(100)]
    assert one != [split_of(str(uuid.UUID(int=number)), SHARES[0], "b") for number in range(100)]
