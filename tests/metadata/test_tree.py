from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.metadata.intervals import Labels, assign_intervals, cover, intersect, subtract, union
from lakehouse.metadata.tree import IdTable, Ints, Tree, build_tree, nearest_with, positions, stable_order


def tree_of(paths: dict[int, str | None]) -> Tree:
    ids = np.array(sorted(paths), np.int64)
    return build_tree(ids, pl.Series([paths[int(taxon_id)] for taxon_id in ids], dtype=pl.String))


def parents_of(tree: Tree) -> dict[int, int | None]:
    return {
        int(taxon_id): int(tree.taxon_ids[parent]) if parent >= 0 else None
        for taxon_id, parent in zip(tree.taxon_ids, tree.parents, strict=True)
    }


def below(tree: Tree, lft: Ints, rgt: Ints, taxon_id: int) -> set[int]:
    at = int(np.flatnonzero(tree.taxon_ids == taxon_id)[0])
    return set(tree.taxon_ids[(lft >= lft[at]) & (lft < rgt[at])].tolist())


def test_a_subtree_is_the_taxon_and_what_is_below_it_and_nothing_else() -> None:
    above = "48460/1/2/355675"
    tree = tree_of(
        {
            48460: None,
            1: "48460",
            2: "48460/1",
            355675: "48460/1/2",
            20978: above,
            5: f"{above}/20978",
            6: f"{above}/20978/5",
            209785: above,
            7: f"{above}/209785",
            999: above,
            209781: f"{above}/999",
        }
    )
    lft, rgt = assign_intervals(tree)
    assert below(tree, lft, rgt, 20978) == {20978, 5, 6}
    assert below(tree, lft, rgt, 48460) == set(tree.taxon_ids.tolist())


def test_an_orphan_hangs_below_its_nearest_ancestor_that_exists() -> None:
    tree = tree_of({1: None, 2: "1", 9: "1/2/777/778", 10: "555/556"})
    assert parents_of(tree) == {1: None, 2: 1, 9: 2, 10: None}
    assert tree.orphans.tolist() == [False, False, True, True]


def test_depth_counts_parents_and_not_path_components() -> None:
    tree = tree_of({1: None, 9: "1/777/778", 10: "1/777/778/9"})
    assert tree.depths.tolist() == [0, 1, 2]


def test_blank_and_unreadable_paths_make_roots() -> None:
    tree = tree_of({1: None, 2: "", 3: "a/b", 4: "1\\2", 5: "1//2", 6: "1/"})
    assert set(parents_of(tree).values()) == {None}
    assert tree.ungrafted.all()


def test_a_path_with_the_taxon_itself_is_reported_and_no_circle() -> None:
    tree = tree_of({1: None, 2: "1/2", 3: "3"})
    assert parents_of(tree) == {1: None, 2: 1, 3: None}
    assert tree.circular.tolist() == [False, True, True]


def test_a_circle_is_opened_at_its_lowest_taxon() -> None:
    tree = tree_of({1: None, 5: "7", 6: "5", 7: "6", 8: "7"})
    assert parents_of(tree) == {1: None, 5: None, 6: 5, 7: 6, 8: 7}
    assert tree.circular.tolist() == [False, True, True, True, False]


def test_a_path_other_than_the_parents_is_stale() -> None:
    tree = tree_of({1: None, 2: "1", 3: "1/2", 4: "2"})
    assert tree.stale.tolist() == [False, False, False, True]


def test_nearest_with_is_the_taxon_itself_or_an_ancestor() -> None:
    tree = tree_of({1: None, 2: "1", 3: "1/2", 4: "1/2/3"})
    marked = np.array([False, True, False, True])
    assert nearest_with(marked, tree.parents, tree.levels).tolist() == [-1, 1, 1, 3]


@st.composite
def forests(draw: st.DrawFn) -> dict[int, str | None]:
    paths: dict[int, str | None] = {}
    for taxon_id in range(1, draw(st.integers(2, 40))):
        parent = draw(st.sampled_from([None, *paths])) if paths else None
        paths[taxon_id] = None if parent is None else "/".join(filter(None, [paths[parent], str(parent)]))
    return paths


def assert_nested(tree: Tree, lft: Ints, rgt: Ints) -> None:
    inside = tree.parents >= 0
    above = tree.parents[inside]
    assert (lft < rgt).all() and len(set(lft.tolist())) == len(lft)
    assert (lft[inside] > lft[above]).all() and (rgt[inside] <= rgt[above]).all()
    order = np.lexsort((lft, tree.parents))
    same = tree.parents[order][1:] == tree.parents[order][:-1]
    assert (lft[order][1:][same] >= rgt[order][:-1][same]).all()


def labels_of(tree: Tree, lft: Ints, rgt: Ints) -> Labels:
    parents = np.where(tree.parents >= 0, tree.taxon_ids[tree.parents], -1)
    return Labels(tree.taxon_ids, parents, lft, rgt)


@settings(deadline=None)
@given(forests(), forests())
def test_intervals_nest_as_the_tree_does_also_after_any_change(
    earlier: dict[int, str | None], later: dict[int, str | None]
) -> None:
    first = tree_of(earlier)
    labels = assign_intervals(first)
    assert_nested(first, *labels)
    second = tree_of(later)
    assert_nested(second, *assign_intervals(second, labels_of(first, *labels)))


@given(forests())
def test_an_unchanged_tree_keeps_its_labels(paths: dict[int, str | None]) -> None:
    tree = tree_of(paths)
    lft, rgt = assign_intervals(tree)
    again = assign_intervals(tree, labels_of(tree, lft, rgt))
    assert np.array_equal(lft, again[0]) and np.array_equal(rgt, again[1])


def test_a_new_taxon_moves_no_other_while_there_is_room() -> None:
    paths: dict[int, str | None] = {1: None, **dict.fromkeys(range(2, 50), "1")}
    tree = tree_of(paths)
    lft, rgt = assign_intervals(tree)
    grown = tree_of({**paths, 50: "1"})
    new_lft, _ = assign_intervals(grown, labels_of(tree, lft, rgt))
    assert np.array_equal(new_lft[:-1], lft)


def test_a_chain_deeper_than_any_slack_allows_is_still_numbered() -> None:
    paths: dict[int, str | None] = {1: None}
    for taxon_id in range(2, 150):
        paths[taxon_id] = "/".join(str(n) for n in range(1, taxon_id))
    tree = tree_of(paths)
    assert_nested(tree, *assign_intervals(tree))


SETS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


def members(intervals: list[tuple[int, int]]) -> set[int]:
    return {number for low, high in intervals for number in range(low, high)}


@given(SETS, SETS, st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_sets_of_intervals_are_sets(
    one: list[tuple[int, int]], other: list[tuple[int, int]], bound: tuple[int, int]
) -> None:
    whole = union(one)
    assert members(whole) == members(one)
    assert all(first[1] < second[0] for first, second in pairwise(whole))
    assert members(subtract(whole, other)) == members(one) - members(other)
    assert members(intersect(whole, bound)) == members(one) & members([bound])


@given(SETS, st.integers(1, 4))
def test_a_cover_has_few_intervals_and_the_ends_of_the_set(one: list[tuple[int, int]], most: int) -> None:
    whole = union(one)
    covering = cover(whole, most) if whole else []
    assert len(covering) == min(most, len(whole))
    assert members(covering) >= members(whole)
    assert not whole or (covering[0][0], covering[-1][1]) == (whole[0][0], whole[-1][1])


def test_a_cover_closes_the_smallest_gaps() -> None:
    assert cover([(0, 1), (2, 3), (100, 101), (104, 105)], 2) == [(0, 3), (100, 105)]


@given(
    st.lists(st.integers(0, 300) | st.integers(-(1 << 62), 1 << 62), unique=True, max_size=40),
    st.lists(st.integers(-5, 305) | st.integers(-(1 << 62), 1 << 62), max_size=40),
)
def test_ids_are_found_wherever_they_lie(known: list[int], wanted: list[int]) -> None:
    ids = np.array(sorted(known), np.int64)
    expected = [sorted(known).index(one) if one in known else -1 for one in wanted]
    assert IdTable(ids).positions(np.array(wanted, np.int64)).tolist() == expected
    assert positions(ids, np.array(wanted, np.int64)).tolist() == expected


@given(st.lists(st.integers(-3, 3) | st.integers(-(1 << 63), (1 << 63) - 1), max_size=30))
def test_equal_values_keep_their_order(values: list[int]) -> None:
    order = stable_order(np.array(values, np.int64))
    assert order.tolist() == sorted(range(len(values)), key=lambda at: values[at])
