from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import LakeError
from lakehouse.metadata import buckets
from lakehouse.metadata.buckets import Buckets, Members, allow_open_files, find, repeated, spread

IDS = st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 50), max_size=40)


def array(ids: list[int]) -> np.ndarray:
    return np.array(ids, np.int64)


def divided(folder: Path, ids: list[int], count: int) -> Buckets:
    files = Buckets(folder, "ids", np.int64, count)
    with files:
        for at in range(0, len(ids), 7):
            some = array(ids[at : at + 7])
            files.append(files.divided(some, spread(some)))
    return files


def test_more_files_may_be_open_where_the_system_begins_with_few() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_open_files(600)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 600
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_each_row_is_in_one_bucket_in_order(tmp_path: Path) -> None:
    ids = list(range(100, 0, -1))
    files = divided(tmp_path, ids, 3)
    counts = [files.rows(number) for number in range(3)]
    found = [files.read(number).tolist() for number in range(3)]
    assert sorted(chain(*found)) == sorted(ids) and all(counts) and counts == [len(part) for part in found]
    assert all(part == sorted(part, reverse=True) for part in found)
    assert not list(tmp_path.iterdir())


def test_repeated_ids_are_found(tmp_path: Path) -> None:
    several = repeated(divided(tmp_path, [5, 6, 7, 5, 8, 7, 7, -1], 3), "photos", 2)
    assert several.among(array([4, 5, 6, 7, 8, -1])).tolist() == [False, True, False, True, False, False]


def test_many_repeated_ids_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_MOST_REPEATED", 2)
    with pytest.raises(LakeError, match="more than 2 photos of photos have several rows"):
        repeated(divided(tmp_path, [1, 1, 2, 2, 3, 3], 1), "photos", 1)
    monkeypatch.setattr(buckets, "IDS", 2)
    with pytest.raises(LakeError, match="more than 2 photos of photos have several rows"):
        repeated(divided(tmp_path, [1] * 6, 1), "photos", 1)


@given(IDS, IDS)
def test_members_are_told_from_others(members: list[int], ids: list[int]) -> None:
    assert Members(array(members)).among(array(ids)).tolist() == [one in members for one in ids]


@given(st.sets(st.integers(0, (1 << 128) - 1) | st.integers(0, 20)), st.lists(st.integers(0, 40)))
def test_uuids_are_found_where_they_are(known: set[int], wanted: list[int]) -> None:
    order = list(known)

    def pairs(numbers: list[int]) -> np.ndarray:
        data = b"".join(number.to_bytes(16, "big") for number in numbers)
        return np.frombuffer(data, np.uint64).reshape(len(numbers), 2)

    asked = [*wanted, *order]
    found = find(pairs(order), pairs(asked)).tolist()
    assert found == [order.index(one) if one in known else -1 for one in asked]
