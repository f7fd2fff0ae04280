"""Rows in taxon order, in pieces on disk: what was sorted bucket by bucket is merged range by range."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from lakehouse.metadata.records import Records, taken
from lakehouse.metadata.tree import Ints

# Rows of a range: what is merged at once. One row in so many is known of every run, to find its parts by.
RANGE_ROWS = 262_144
SAMPLE_ROWS = 256

# A place in taxon order: the row of the taxon, then the photo.
Place = tuple[int, int]
# Bytes written at once: for larger pieces the kernel takes new memory, not that of files that are gone.
_WRITTEN = 1 << 16
_FIRST_PHOTO = -(1 << 63)


def taxon_order(taxa: Ints, photo_ids: Ints) -> Ints:
    """The order of rows by taxon, then photo."""
    if not len(taxa):
        return np.empty(0, np.int64)
    least, most = int(photo_ids.min()), int(photo_ids.max())
    if (int(taxa.max()) + 1) * (most - least + 1) < 1 << 63:
        # One number for both is sorted in a sixth of the time.
        return np.argsort(taxa * (most - least + 1) + (photo_ids - least))
    return np.lexsort((photo_ids, taxa))


@dataclass(frozen=True, slots=True)
class Rows:
    """Photos, and the observation of each."""

    photos: Records
    observations: Records

    def __len__(self) -> int:
        return len(self.photos)

    @classmethod
    def room(cls, rows: int, photo: np.dtype, observation: np.dtype) -> Self:
        """Space for so many rows."""
        return cls(np.empty(rows, photo), np.empty(rows, observation))

    def at(self, rows: Ints) -> Rows:
        """The rows of these numbers."""
        return Rows(taken(self.photos, rows), taken(self.observations, rows))

    def slice(self, first: int, last: int) -> Rows:
        """The rows from `first` to before `last`, in the same memory."""
        return Rows(self.photos[first:last], self.observations[first:last])

    def fill(self, rows: Rows) -> None:
        """Copy as many rows into this space."""
        for space, records in ((self.photos, rows.photos), (self.observations, rows.observations)):
            # As bytes: NumPy would copy field by field.
            space.view(np.uint8)[:] = records.view(np.uint8)

    def rows_before(self, place: Place) -> int:
        """How many of them, which are in taxon order, lie before a place."""
        return _before(self.observations["taxon_row"], self.photos["photo_id"], place)

    def count_before(self, place: Place) -> int:
        """How many of them, in whatever order they are, lie before a place."""
        taxa = self.observations["taxon_row"]
        return int(np.sum((taxa < place[0]) | ((taxa == place[0]) & (self.photos["photo_id"] < place[1]))))

    def order(self) -> Ints:
        """Their taxon order."""
        return taxon_order(self.observations["taxon_row"].astype(np.int64), self.photos["photo_id"])


class Run:
    """Rows in taxon order, in a file that stays open."""

    def __init__(self, path: Path, rows: Rows) -> None:
        self._length = len(rows)
        self._dtypes = rows.photos.dtype, rows.observations.dtype
        self._file = path.open("w+b", buffering=0)
        for records in (rows.photos, rows.observations):
            data = records.view(np.uint8).data
            for first in range(0, len(data), _WRITTEN):
                self._file.write(data[first : first + _WRITTEN])
        self._taxa = rows.observations["taxon_row"][::SAMPLE_ROWS].copy()
        self._photo_ids = rows.photos["photo_id"][::SAMPLE_ROWS].copy()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def samples(self) -> tuple[Ints, Ints]:
        """Taxon and photo of one row in `SAMPLE_ROWS`."""
        return self._taxa, self._photo_ids

    def rows_about(self, place: Place) -> int:
        """A number of rows among which are all that lie before a place, and few others."""
        return min(_before(self._taxa, self._photo_ids, place) * SAMPLE_ROWS, self._length)

    def rows_before(self, place: Place) -> int:
        """How many of its rows lie before a place."""
        last = self.rows_about(place)
        # The first ones up to the last sample surely do.
        first = max(0, last - 1) // SAMPLE_ROWS * SAMPLE_ROWS
        near = Rows.room(last - first, *self._dtypes)
        self.read(first, near)
        return first + near.rows_before(place)

    def read(self, first: int, space: Rows) -> None:
        """Fill `space` with the rows that begin at `first`."""
        photo, observation = (dtype.itemsize for dtype in self._dtypes)
        self._read(space.photos, first * photo)
        self._read(space.observations, self._length * photo + first * observation)

    def _read(self, records: Records, offset: int) -> None:
        left = records.view(np.uint8).data
        while left:
            # Threads that read one file must not move each other's position.
            count = os.preadv(self._file.fileno(), [left], offset)
            if not count:
                raise EOFError(f"{self._file.name} ends before byte {offset + len(left)}")
            left, offset = left[count:], offset + count


def merged(runs: Sequence[Run], further: Rows, taxa: range, size: int) -> Iterator[tuple[Rows, Ints]]:
    """The rows of a range of taxa and `further` ones, in taxon order, `size` at a time and at last what is
    left; with each row its number among the further ones (else -1)."""
    bounds = [*_bounds(runs, taxa), (taxa.stop, _FIRST_PHOTO)]
    starts = [run.rows_before((taxa.start, _FIRST_PHOTO)) for run in runs]
    stops = [run.rows_before(bounds[-1]) for run in runs]
    dtypes = further.photos.dtype, further.observations.dtype
    space, numbers, held, done = Rows.room(0, *dtypes), np.empty(0, np.int64), 0, 0
    for high in bounds:
        ends = [min(run.rows_about(high), stop) for run, stop in zip(runs, stops, strict=True)]
        more = further.slice(done, further.rows_before(high))
        length = held + sum(ends) - sum(starts) + len(more)
        if length > len(space):
            # A little more, as the next range may be a little larger.
            wider = Rows.room(length + length // 8, *dtypes)
            wider.slice(0, held).fill(space.slice(0, held))
            space, numbers = wider, np.r_[numbers[:held], np.empty(len(wider) - held, np.int64)]
        at = held
        for run, first, last in zip(runs, starts, ends, strict=True):
            run.read(first, space.slice(at, at + last - first))
            at += last - first
        numbers[held:at] = -1
        space.slice(at, length).fill(more)
        numbers[at:length] = np.arange(done, done + len(more))
        starts, done = ends, done + len(more)
        found = space.slice(0, length)
        order = found.order()
        whole = found.count_before(high)
        if high != bounds[-1]:
            whole -= whole % size
        for first in range(0, whole, size):
            chosen = order[first : min(first + size, whole)]
            yield space.at(chosen), numbers[chosen]
        rest, held = order[whole:], length - whole
        kept, kept_numbers = space.at(rest), numbers[rest]
        space.slice(0, held).fill(kept)
        numbers[:held] = kept_numbers


def _before(taxa: np.ndarray, photo_ids: Ints, place: Place) -> int:
    first, last = (int(np.searchsorted(taxa, place[0], side=side)) for side in ("left", "right"))
    return first + int(np.searchsorted(photo_ids[first:last], place[1]))


def _bounds(runs: Iterable[Run], taxa: range) -> list[Place]:
    """Places inside, about `RANGE_ROWS` rows apart."""
    samples = [run.samples() for run in runs]
    if not samples:
        return []
    rows, photo_ids = (np.concatenate(column) for column in zip(*samples, strict=True))
    inside = (rows >= taxa.start) & (rows < taxa.stop)
    rows, photo_ids = rows[inside], photo_ids[inside]
    step = max(1, RANGE_ROWS // SAMPLE_ROWS)
    chosen = taxon_order(rows.astype(np.int64), photo_ids)[step::step]
    return list(zip(rows[chosen].tolist(), photo_ids[chosen].tolist(), strict=True))
