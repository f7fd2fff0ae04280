"""The tree behind the ancestry paths of a dump: parents, depths, ancestors by rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_PATH = r"^[0-9]{1,18}(/[0-9]{1,18})*$"
# Characters at the end of a path that are sure to hold its last part.
_LONGEST = 19
# Numbers up to so many times as many as the ids are looked up in a table, others are searched for.
_DENSE = 16


@dataclass(frozen=True, slots=True)
class Tree:
    """Taxa in the order of their ids, linked.

    Attributes
    ----------
    taxon_ids
        int64, rising, without repetition.
    parents
        int64, the index of each taxon's parent, -1 for a root.
    levels
        The indices of the taxa of each depth, sorted by parent and id; depth counts parents, not path
        components.
    orphans, ungrafted, stale, circular
        Taxa whose direct parent is not among them; whose path is blank or unreadable; whose path differs from
        their parent's; whose path leads back to themselves.
    """

    taxon_ids: Ints
    parents: Ints
    levels: tuple[Ints, ...]
    orphans: Bools
    ungrafted: Bools
    stale: Bools
    circular: Bools

    @property
    def depths(self) -> Ints:
        """int64, 0 for a root."""
        depths = np.zeros(len(self.parents), np.int64)
        for depth, level in enumerate(self.levels):
            depths[level] = depth
        return depths


def build_tree(taxon_ids: Ints, ancestry: pl.Series) -> Tree:
    """The tree of taxa, each below the nearest ancestor of its path that exists.

    Parameters
    ----------
    taxon_ids
        Rising and without repetition.
    ancestry
        Strings of ids from the root down to the parent, separated by `/`; null where there is none.
    """
    readable = ancestry.str.contains(_PATH).fill_null(False)
    last = ancestry.str.tail(_LONGEST).str.split("/").list.last()
    ungrafted = ~readable.to_numpy()
    parents = positions(taxon_ids, last.cast(pl.Int64, strict=False).fill_null(0).to_numpy())
    itself = (parents == np.arange(len(parents))) & ~ungrafted
    orphans = ((parents < 0) | itself) & ~ungrafted
    parents[ungrafted] = -1
    for index in np.flatnonzero(orphans):
        parents[index] = _nearest(taxon_ids, int(index), ancestry[int(index)])
    levels, circular = _levels(parents)
    stale = _stale(ancestry, last, parents) & ~orphans
    return Tree(taxon_ids, parents, levels, orphans, ungrafted, stale, circular | itself)


class IdTable:
    """A table of where each id is, for ids that many are looked up of.

    Parameters
    ----------
    sorted_ids
        Rising and without repetition.
    """

    def __init__(self, sorted_ids: Ints) -> None:
        self._sorted_ids = sorted_ids
        self._first = int(sorted_ids[0]) if len(sorted_ids) else 0
        dense = sorted_ids[: np.searchsorted(sorted_ids, self._first + _DENSE * len(sorted_ids))]
        self._table = np.full(int(dense[-1]) - self._first + 1 if len(dense) else 0, -1, np.int32)
        self._table[dense - self._first] = np.arange(len(dense), dtype=np.int32)

    def positions(self, wanted: npt.NDArray[np.integer]) -> Ints:
        """As `positions` says."""
        place = wanted.astype(np.int64) - self._first
        inside = (place >= 0) & (place < len(self._table))
        if inside.all():
            return self._table[place].astype(np.int64)
        found = np.full(len(wanted), -1, np.int64)
        found[inside] = self._table[place[inside]]
        found[~inside] = _searched(self._sorted_ids, wanted[~inside])
        return found


def positions(sorted_ids: Ints, wanted: npt.NDArray[np.integer]) -> Ints:
    """The index in `sorted_ids` of each id of `wanted`, -1 where it is absent."""
    if len(wanted) > len(sorted_ids) // 8:
        # A table of all ids between costs less than a search for each.
        return IdTable(sorted_ids).positions(wanted)
    return _searched(sorted_ids, wanted)


def _searched(sorted_ids: Ints, wanted: npt.NDArray[np.integer]) -> Ints:
    if not len(sorted_ids):
        return np.full(len(wanted), -1, np.int64)
    found = np.searchsorted(sorted_ids, wanted)
    found[found == len(sorted_ids)] = 0
    return np.where(sorted_ids[found] == wanted, found, -1).astype(np.int64)


def stable_order(values: Ints) -> Ints:
    """The order of values, equal ones as they are."""
    if not len(values):
        return np.empty(0, np.int64)
    least, rows = int(values.min()), len(values)
    if (int(values.max()) - least + 1) * rows >= 1 << 63:
        return np.argsort(values, kind="stable")
    # One number for value and row is sorted in a fraction of the time.
    return np.sort((values - least) * rows + np.arange(rows)) % rows


def firsts(values: npt.NDArray[np.integer]) -> Ints:
    """Where in `values` each run of equal ones begins."""
    return np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: len(values)])


def nearest_with(marked: Bools, parents: Ints, levels: tuple[Ints, ...]) -> Ints:
    """For each taxon the index of the nearest ancestor-or-self that is `marked`, -1 where there is none."""
    nearest = np.where(marked, np.arange(len(marked)), -1)
    for level in levels[1:]:
        open_ones = level[nearest[level] < 0]
        nearest[open_ones] = nearest[parents[open_ones]]
    return nearest


def by_depth(parents: Ints, depths: Ints) -> tuple[Ints, ...]:
    """The indices of each depth, sorted by parent and index."""
    order = stable_order(parents)
    # Depths are few, and small numbers are sorted in one pass.
    small = depths.astype(np.min_scalar_type(int(depths.max(initial=0))))
    order = order[np.argsort(small[order], kind="stable")]
    bounds = np.searchsorted(depths[order], np.arange(1, depths.max(initial=0) + 1))
    return tuple(np.split(order, bounds))


def _nearest(taxon_ids: Ints, index: int, path: str) -> int:
    above = positions(taxon_ids, np.array([int(part) for part in reversed(path.split("/"))]))
    return next((int(position) for position in above if position >= 0 and position != index), -1)


def _levels(parents: Ints) -> tuple[tuple[Ints, ...], Bools]:
    """Indices by depth; a circle is opened at its lowest taxon, made a root (in `parents`, too)."""
    depths = np.where(parents < 0, 0, -1)
    circular = np.zeros(len(parents), np.bool_)
    waiting = np.flatnonzero(parents >= 0)
    while waiting.size:
        above = depths[parents[waiting]]
        ready = above >= 0
        if ready.any():
            depths[waiting[ready]] = above[ready] + 1
            waiting = waiting[~ready]
            continue
        circle = _circle(parents, int(waiting[0]))
        circular[circle] = True
        parents[min(circle)], depths[min(circle)] = -1, 0
        waiting = waiting[waiting != min(circle)]
    return by_depth(parents, depths), circular


def _circle(parents: Ints, start: int) -> list[int]:
    seen: dict[int, int] = {}
    walk: list[int] = []
    while start not in seen:
        seen[start] = len(walk)
        walk.append(start)
        start = int(parents[start])
    return walk[seen[start] :]


def _stale(ancestry: pl.Series, last: pl.Series, parents: Ints) -> Bools:
    """Which taxa have a path that is not their parent's path with the parent, the `last` part of theirs."""
    above = pl.Series(np.where(parents < 0, 0, parents))
    paths = pl.DataFrame({"path": ancestry, "last": last, "above": ancestry.fill_null("").gather(above)})
    path, tip, start = pl.col("path"), pl.col("last"), pl.col("above")
    length = start.str.len_bytes() + (start != "") + tip.str.len_bytes()
    same = path.str.starts_with(start) & (path.str.len_bytes() == length)
    # An id with a leading zero is the same id, but not the same path.
    same &= (tip == "0") | ~tip.str.starts_with("0")
    return (parents >= 0) & ~paths.select(same.fill_null(False)).to_series().to_numpy()
