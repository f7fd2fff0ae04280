from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.metadata import runs
from lakehouse.metadata.runs import Rows, Run, merged, taxon_order

PHOTO = np.dtype([("photo_id", "i8")])
OBSERVATION = np.dtype([("taxon_row", "i4")])
Pairs = list[tuple[int, int]]
FAR = 1 << 62


def rows(pairs: Pairs) -> Rows:
    space = Rows.room(len(pairs), PHOTO, OBSERVATION)
    space.observations["taxon_row"] = [taxon for taxon, _ in pairs]
    space.photos["photo_id"] = [photo for _, photo in pairs]
    return space


def pairs(found: Rows) -> Pairs:
    taxa, photos = found.observations["taxon_row"].tolist(), found.photos["photo_id"].tolist()
    return list(zip(taxa, photos, strict=True))


PLACES = st.sets(
    st.tuples(st.integers(0, 4), st.integers(-5, 30) | st.sampled_from([-FAR, FAR])), max_size=60
)


@settings(deadline=None, max_examples=80)
@given(PLACES, st.integers(1, 4), st.integers(1, 9), st.integers(0, 4), st.data())
def test_runs_are_merged_in_order(
    places: set[tuple[int, int]], count: int, size: int, first: int, data: st.DataObject
) -> None:
    owner = {place: data.draw(st.integers(0, count)) for place in sorted(places)}
    parts = [[place for place in sorted(places) if owner[place] == number] for number in range(count + 1)]
    taxa = range(first, 5)
    wanted = [place for place in sorted(places) if place[0] in taxa]
    further = [place for place in parts[count] if place[0] in taxa]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "RANGE_ROWS", 6)
        patch.setattr(runs, "SAMPLE_ROWS", 2)
        written = [Run(Path(folder, str(number)), rows(part)) for number, part in enumerate(parts[:count])]
        found = list(merged(written, rows(further), taxa, size))
        for run in written:
            run.close()
    assert [place for part, _ in found for place in pairs(part)] == wanted
    assert all(len(part) == size for part, _ in found[:-1])
    numbers = [number for _, some in found for number in some.tolist()]
    assert [further[number] for number in numbers if number >= 0] == further
    assert [place for place, number in zip(wanted, numbers, strict=True) if number >= 0] == further


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(-FAR, FAR) | st.integers(0, 9)), unique=True))
def test_taxon_order_is_by_taxon_then_photo(places: Pairs) -> None:
    taxa, photos = (np.array([place[at] for place in places], np.int64) for at in (0, 1))
    assert [places[at] for at in taxon_order(taxa, photos).tolist()] == sorted(places)


def test_a_run_that_was_cut_short_is_noticed(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", rows([(0, 1), (0, 2)]))
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(EOFError, match="ends before byte"):
        run.read(0, Rows.room(2, PHOTO, OBSERVATION))
    run.close()
