"""Half-open ranges of taxon labels: numbering a tree so that every subtree is one range, and sets of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lakehouse.metadata.tree import Ints, Tree, firsts, positions

Interval = tuple[int, int]

# Room for growth at each level: the first that keeps all labels below _LIMIT is taken (the deeper, the less).
_SLACKS = (2.0, 1.5, 1.25, 1.1, 1.0)
_LIMIT = 1 << 61


@dataclass(frozen=True, slots=True)
class Labels:
    """An earlier numbering, int64: rising `taxon_ids`, `parent_ids` (-1: a root), `lft`, `rgt`."""

    taxon_ids: Ints
    parent_ids: Ints
    lft: Ints
    rgt: Ints


def assign_intervals(tree: Tree, previous: Labels | None = None) -> tuple[Ints, Ints]:
    """Number a tree in pre-order with gaps: `[lft, rgt)` of a taxon holds those of everything below it.

    A taxon keeps its previous interval where its parent kept its own, is still its parent, and its subtree
    still fits; new taxa go behind their siblings. A month's growth so moves few labels; dense ones would
    nearly all move.

    Returns
    -------
    lft, rgt
        int64 in the order of `tree.taxon_ids`.
    """
    sizes = _widths(tree, 1.0)
    wished = next(widths for slack in _SLACKS if _fits(widths := _widths(tree, slack), tree))
    old_lft, old_rgt, stays = _previous(tree, sizes, previous)
    lft, rgt = np.zeros_like(sizes), np.zeros_like(sizes)
    kept = np.zeros(len(sizes), np.bool_)
    for depth, level in enumerate(tree.levels):
        above = tree.parents[level]
        if depth == 0:
            low, high = np.full(len(level), -1), np.full(len(level), 1 << 62)
            candidates = stays[level]
        else:
            low, high = lft[above], rgt[above]
            candidates = stays[level] & kept[above] & (old_lft[level] > low) & (old_rgt[level] <= high)
        lft[level], rgt[level], kept[level] = _place(
            above, low + 1, high, candidates, (old_lft[level], old_rgt[level]), sizes[level], wished[level]
        )
    return lft, rgt


def _widths(tree: Tree, slack: float) -> Ints:
    """Width of each interval where every level adds `slack`; 1 gives the number of taxa in the subtree."""
    inside = np.ones(len(tree.parents))
    for level in reversed(tree.levels[1:]):
        above = tree.parents[level]
        first = firsts(above)
        inside[above[first]] += np.add.reduceat(np.ceil(inside[level] * slack), first)
    widths = np.ceil(inside * slack)
    # Too wide for int64 is too wide for any use; _fits refuses it.
    return np.minimum(widths, 2.0 * _LIMIT).astype(np.int64)


def _fits(widths: Ints, tree: Tree) -> bool:
    return bool(widths[tree.levels[0]].astype(float).sum() < _LIMIT)


def _previous(tree: Tree, sizes: Ints, previous: Labels | None) -> tuple[Ints, Ints, np.ndarray]:
    """Earlier `lft` and `rgt` of each taxon, and whether it could keep them for its own part."""
    if previous is None or not len(previous.taxon_ids):
        return np.zeros_like(sizes), np.zeros_like(sizes), np.zeros(len(sizes), np.bool_)
    at = positions(previous.taxon_ids, tree.taxon_ids)
    known = at >= 0
    lft, rgt = previous.lft[at], previous.rgt[at]
    parent_ids = np.where(tree.parents >= 0, tree.taxon_ids[tree.parents], -1)
    return lft, rgt, known & (previous.parent_ids[at] == parent_ids) & (rgt - lft >= sizes)


def _place(
    groups: Ints, low: Ints, high: Ints, kept: np.ndarray, old: tuple[Ints, Ints], sizes: Ints, wished: Ints
) -> tuple[Ints, Ints, np.ndarray]:
    """Intervals for siblings inside `[low, high)` of their parents, which `groups` (sorted) names."""
    first = firsts(groups)
    group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(groups)]))
    low, high = low[first], high[first]

    def tails(kept: np.ndarray) -> tuple[Ints, Ints]:
        tail = np.maximum(low, np.maximum.reduceat(np.where(kept, old[1], 0), first))
        return tail, np.add.reduceat(np.where(kept, 0, sizes), first)

    tail, need = tails(kept)
    crowded = need > high - tail
    if crowded.any():
        kept = kept & ~crowded[group]
        tail, need = tails(kept)
    wish = np.add.reduceat(np.where(kept, 0, wished - sizes).astype(float), first)
    room = (high - tail - need).astype(float)
    # Rounded down a little, so that what is handed out never exceeds the room.
    share = np.where(wish <= room, 1.0, room / np.maximum(wish, 1.0) * (1 - 1e-9))
    extra = np.where(wish <= room, 1, 0)[group] * (wished - sizes)
    scarce = np.floor((wished - sizes) * share[group]).astype(np.int64)
    widths = np.where(kept, 0, sizes + np.where(wish[group] <= room[group], extra, scarce))
    before = np.cumsum(widths) - widths
    start = tail[group] + before - before[first][group]
    return np.where(kept, old[0], start), np.where(kept, old[1], start + widths), kept


# --- sets of intervals: sorted, disjoint, not touching


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The set that `intervals` cover."""
    merged: list[Interval] = []
    for low, high in sorted(interval for interval in intervals if interval[0] < interval[1]):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def subtract(intervals: Iterable[Interval], removed: Iterable[Interval]) -> list[Interval]:
    """The part of `intervals` (a set) outside `removed`."""
    left: list[Interval] = []
    holes = union(removed)
    at = 0
    for low, high in intervals:
        while at < len(holes) and holes[at][1] <= low:
            at += 1
        k = at
        while k < len(holes) and holes[k][0] < high:
            if low < holes[k][0]:
                left.append((low, holes[k][0]))
            low = max(low, holes[k][1])
            k += 1
        if low < high:
            left.append((low, high))
    return left


def intersect(intervals: Sequence[Interval], bound: Interval) -> list[Interval]:
    """The part of `intervals` (a set) inside `bound`."""
    found = []
    # The one that begins before the bound may reach into it.
    for at in range(max(0, bisect_left(intervals, bound) - 1), len(intervals)):
        low, high = max(intervals[at][0], bound[0]), min(intervals[at][1], bound[1])
        if intervals[at][0] >= bound[1]:
            break
        if low < high:
            found.append((low, high))
    return found


def cover(intervals: Sequence[Interval], most: int) -> list[Interval]:
    """At most `most` intervals that cover a set and little else: the smallest gaps are closed."""
    gaps = sorted(range(1, len(intervals)), key=lambda at: intervals[at - 1][1] - intervals[at][0])
    cuts = [0, *sorted(gaps[: most - 1]), len(intervals)]
    return [(intervals[first][0], intervals[last - 1][1]) for first, last in pairwise(cuts)]
