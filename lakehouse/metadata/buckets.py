"""Tables cut into pieces on disk, so that each piece can be worked on in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from lakehouse.metadata.ahead import in_order
from lakehouse.metadata.records import RecordForm, Records, Uuids, taken
from lakehouse.metadata.tree import Bools, Ints

# Rows of a raw table that are read and cut together.
CUT_ROWS = 250_000
# Photo ids that are looked at together, and those of several rows that are believed: they are held in memory.
IDS = 4_000_000
_MOST_REPEATED = 20_000_000
_OPEN_OTHERWISE = 256


def allow_open_files(count: int) -> None:
    """Let this process have so many files open beside those it has, where the system lets it decide (macOS
    begins with 256)."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OPEN_OTHERWISE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Buckets:
    """Rows divided among files in a folder; open for writing inside a `with` block."""

    def __init__(self, folder: Path, name: str, dtype: npt.DTypeLike, count: int) -> None:
        self._dtype, self.count = np.dtype(dtype), count
        self._paths = [folder / f"{name}-{number}" for number in range(count)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._files = [stack.enter_context(path.open("wb", buffering=0)) for path in self._paths]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def divided(self, rows: np.ndarray, numbers: npt.NDArray[np.uint64]) -> list[np.ndarray]:
        """The rows for each file: the one whose number has the same remainder."""
        # Small numbers are sorted in one pass.
        bucket = (numbers % np.uint64(self.count)).astype(np.uint16)
        ends = np.cumsum(np.bincount(bucket, minlength=self.count))
        return np.split(taken(rows, np.argsort(bucket, kind="stable")), ends[:-1])

    def append(self, divided: list[np.ndarray]) -> None:
        """Write rows to their files."""
        for file, rows in zip(self._files, divided, strict=True):
            if len(rows):
                rows.tofile(file)

    def rows(self, number: int) -> int:
        """How many rows a file has."""
        return self._paths[number].stat().st_size // self._dtype.itemsize

    def read(self, number: int) -> np.ndarray:
        """The rows of a file, which is removed."""
        rows = np.fromfile(self._paths[number], self._dtype)
        self._paths[number].unlink()
        return rows


def pieces(
    lake: Lake,
    key: str,
    columns: list[str],
    form: RecordForm,
    work: Callable[[pa.Table], list[list[np.ndarray]]],
    workers: int,
) -> Iterator[list[list[np.ndarray]]]:
    """What `work` makes of each piece of a raw table, words as dictionaries, in order."""
    footer = pq.read_metadata(lake.reader(key))

    def made(groups: list[int]) -> list[list[np.ndarray]]:
        with pq.ParquetFile(lake.reader(key), metadata=footer, read_dictionary=form.words) as file:
            return work(file.read_row_groups(groups, columns, use_threads=False))

    return in_order(made, _together(footer), workers)


def _together(footer: pq.FileMetaData) -> Iterator[list[int]]:
    groups: list[int] = []
    rows = 0
    for number in range(footer.num_row_groups):
        groups.append(number)
        rows += footer.row_group(number).num_rows
        if rows >= CUT_ROWS or number == footer.num_row_groups - 1:
            yield groups
            groups, rows = [], 0


# --- photo ids


class Members:
    """A set of few ids that many are held against."""

    def __init__(self, ids: Ints) -> None:
        self._ids = np.sort(ids)
        # Nearly all that are not in the set are told by their last bits.
        self._mask = (1 << min(24, (16 * len(ids)).bit_length())) - 1
        self._ends = np.zeros(self._mask + 1, np.bool_)
        self._ends[ids & self._mask] = True

    def among(self, ids: Ints) -> Bools:
        """Which of `ids` are in the set."""
        found = self._ends[ids & self._mask]
        rows = np.flatnonzero(found)
        if len(rows):
            at = np.searchsorted(self._ids, ids[rows])
            found[rows] = self._ids[at.clip(max=len(self._ids) - 1)] == ids[rows]
        return found


def id_buckets(folder: Path, rows: int) -> Buckets:
    """Files for the ids of so many photos, each id in one of them."""
    return Buckets(folder, "ids", np.int64, max(1, -(-rows // IDS)))


def spread(ids: Ints) -> npt.NDArray[np.uint64]:
    """Numbers that are spread evenly, whatever the ids are."""
    return ids.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)


def repeated(ids: Buckets, where: str, workers: int) -> Members:
    """The ids that are there several times, few of all.

    Raises LakeError, naming the table `where`, if they are many.
    """

    def of(number: int) -> Ints:
        if ids.rows(number) > IDS + _MOST_REPEATED:
            raise _too_many(where)
        found = ids.read(number)
        found.sort()
        return np.unique(found[1:][found[1:] == found[:-1]])

    found: list[Ints] = []
    for some in in_order(of, range(ids.count), workers):
        found.append(some)
        if sum(map(len, found)) > _MOST_REPEATED:
            raise _too_many(where)
    return Members(np.concatenate(found))


def _too_many(where: str) -> LakeError:
    return LakeError(
        f"more than {_MOST_REPEATED:,} photos of {where} have several rows, ordinarily one in a thousand; "
        "check the dump"
    )


# --- observations by their UUIDs


def mixed(keys: Uuids, turn: int = 0) -> npt.NDArray[np.uint64]:
    """One uint64 of each UUID, another one in each `turn`."""
    odd = np.uint64((0x9E3779B97F4A7C15 + 2 * turn * 0x632BE59BD9B4E019) % (1 << 64) | 1)
    one = (keys[:, 0] ^ (keys[:, 1] >> np.uint64(29))) * odd + keys[:, 1]
    return one ^ (one >> np.uint64(31))


def find(keys: Uuids, wanted: Uuids) -> Ints:
    """The index in `keys`, which are distinct, of each one wanted, -1 where it is absent."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    for turn in range(1, 100):
        numbers = mixed(keys, turn)
        order = np.argsort(numbers)
        known = numbers[order]
        if not (known[1:] == known[:-1]).any():
            break
    else:
        raise LakeError("observation UUIDs cannot be told apart; report this as a fault")
    looked = mixed(wanted, turn)
    # Sorted, so that neighbours are looked for one after the other.
    by = np.argsort(looked)
    at = np.searchsorted(known, looked[by]).clip(max=len(known) - 1)
    found = np.empty(len(wanted), np.int64)
    found[by] = order[at]
    same = (keys[found, 0] == wanted[:, 0]) & (keys[found, 1] == wanted[:, 1])
    return np.where(same, found, -1)


def once(observations: Records, form: RecordForm) -> Records:
    """Each observation once. Of a repeated one a row is kept; where its rows name different taxa it has none,
    for none can be trusted."""
    keys = observations["observation_uuid"]
    numbers = np.sort(mixed(keys, 1))
    if not (numbers[1:] == numbers[:-1]).any():
        return observations
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    in_order = keys[order]
    same = (in_order[1:] == in_order[:-1]).all(axis=1)
    if not same.any():
        return observations
    group = np.cumsum(np.r_[0, ~same])
    several = np.r_[same, False] | np.r_[False, same]
    columns = form.unpack(taken(observations, order[several]))
    names = [name for name in columns if name != "observation_uuid"]
    words = {name: columns[name].cast(pa.string()) for name in form.words}
    rows = pl.DataFrame(pa.table({name: words.get(name, columns[name]) for name in names}))
    rows = rows.with_columns(row=pl.Series(order[several]), group=pl.Series(group[several]))
    rows = rows.sort("group", "taxon_id", *(name for name in names if name != "taxon_id"), nulls_last=True)
    kept = rows.group_by("group", maintain_order=True).agg(
        pl.col("row").first(), taxa=pl.col("taxon_id").drop_nulls().n_unique()
    )
    distrusted = kept.filter(pl.col("taxa") != 1)["row"].to_numpy()
    observations["taxon_row"][distrusted] = -1
    form.make_null(observations, "taxon_id", distrusted)
    return taken(observations, np.sort(np.r_[order[~several], kept["row"].to_numpy()]))
