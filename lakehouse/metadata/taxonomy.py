"""The tree of life of one release: built from the raw taxa, flattened by rank, numbered, and looked up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from lakehouse.campaign import Taxon
from lakehouse.errors import CampaignError, NotFoundError
from lakehouse.lake import ROW_GROUP, Lake
from lakehouse.metadata.ingest import list_releases, raw_table_key
from lakehouse.metadata.intervals import Interval, Labels, assign_intervals
from lakehouse.metadata.schema import TAXA_COLUMNS, parquet_encoding, rank_columns, taxa_schema
from lakehouse.metadata.spelling import close_names
from lakehouse.metadata.tree import (
    Ints,
    Tree,
    build_tree,
    by_depth,
    firsts,
    nearest_with,
    positions,
    stable_order,
)

# The one taxon that is a root by right; any other without a path is not grafted to the tree.
_ROOT_RANK = "stateofmatter"
_FACTS = ["name", "rank", "rank_level", "active"]


class TaxaReport(BaseModel):
    """What the taxa of a release are like, `taxa.json`.

    `orphans` name a parent that is not there, `ungrafted` none at all; `stale` have a path other than their
    parent's, `circular` one that leads back to them; `homonyms` are names that several active taxa have;
    `repeated` rows were dropped for their id was taken; `moved` counts taxa whose interval is not that of
    the release before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    release_id: str
    taxa: int
    active: int
    inactive: int
    orphans: int
    ungrafted: int
    stale: int
    circular: int
    homonyms: int
    repeated: int
    moved: int
    ranks: tuple[str, ...]


def taxa_key(source_name: str, release_id: str) -> str:
    """The key of a release's taxa table."""
    return f"tables/{source_name}/{release_id}/taxa.parquet"


def load_taxa_report(lake: Lake, source_name: str, release_id: str) -> TaxaReport:
    """The report of a taxa table that is complete; raises NotFoundError."""
    return TaxaReport.model_validate_json(lake.get(_report_key(source_name, release_id)))


def build_taxa(lake: Lake, source_name: str, release_id: str) -> TaxaReport:
    """Write `taxa.parquet` (schema `taxa_schema`) of a release; done once, its report is returned."""
    try:
        return load_taxa_report(lake, source_name, release_id)
    except NotFoundError:
        key = raw_table_key(source_name, release_id, "taxa")
        raw = lake.read_table(key, ["taxon_id", "ancestry", *_FACTS], repeated=["rank"]).combine_chunks()
    all_ids = raw["taxon_id"].to_numpy().astype(np.int64)
    rows = stable_order(all_ids)
    rows = rows[firsts(all_ids[rows])]
    taxon_ids = all_ids[rows]
    in_order = len(rows) == len(all_ids) and bool((rows[1:] > rows[:-1]).all())
    ancestry = pl.Series(raw["ancestry"])
    tree = build_tree(taxon_ids, ancestry if in_order else ancestry.gather(rows))
    previous = _previous_labels(lake, source_name, release_id)
    lft, rgt = assign_intervals(tree, previous)
    order = np.argsort(lft)
    facts = raw.select(_FACTS).take(pa.array(rows[order])).combine_chunks()
    ranks = rank_columns(rank for rank in pc.unique(facts["rank"]).to_pylist() if rank)
    of_rank = _of_ranks(facts["rank"])
    ordered = _Ordered.of(tree, lft, rgt, order)
    _write(lake, taxa_key(source_name, release_id), facts, ordered, {rank: of_rank[rank] for rank in ranks})
    active = facts["active"].to_numpy()
    is_root = np.zeros(len(facts), np.bool_)
    is_root[of_rank.get(_ROOT_RANK, [])] = True
    report = TaxaReport(
        source=source_name,
        release_id=release_id,
        taxa=len(taxon_ids),
        active=int(active.sum()),
        inactive=int((~active).sum()),
        orphans=int(tree.orphans.sum()),
        ungrafted=int((tree.ungrafted[order] & ~is_root).sum()),
        stale=int(tree.stale.sum()),
        circular=int(tree.circular.sum()),
        homonyms=_homonyms(facts["name"].filter(facts["active"])),
        repeated=len(all_ids) - len(taxon_ids),
        moved=_moved(tree, lft, rgt, previous),
        ranks=tuple(ranks),
    )
    lake.put(_report_key(source_name, release_id), report.model_dump_json(indent=1).encode())
    return report


def _report_key(source_name: str, release_id: str) -> str:
    return f"tables/{source_name}/{release_id}/taxa.json"


def _previous_labels(lake: Lake, source_name: str, release_id: str) -> Labels | None:
    """The numbering of the newest other release that has one."""
    for earlier in reversed(list_releases(lake, source_name)):
        if earlier != release_id and lake.exists(_report_key(source_name, earlier)):
            columns = ["taxon_id", "parent_id", "lft", "rgt"]
            table = lake.read_table(taxa_key(source_name, earlier), columns)
            ids, parents = table["taxon_id"], pc.fill_null(table["parent_id"], -1)
            order = np.argsort(ids.to_numpy())
            arrays = (values.to_numpy()[order] for values in (ids, parents, table["lft"], table["rgt"]))
            return Labels(*(values.astype(np.int64) for values in arrays))
    return None


def _moved(tree: Tree, lft: Ints, rgt: Ints, previous: Labels | None) -> int:
    if previous is None:
        return 0
    at = positions(previous.taxon_ids, tree.taxon_ids)
    same = (previous.lft[at] == lft) & (previous.rgt[at] == rgt)
    return int(((at >= 0) & ~same).sum())


def _homonyms(names: pa.ChunkedArray) -> int:
    # Arrow takes twice the time to count words that are nearly all different.
    counts = pl.Series("name", names).to_frame().group_by("name").len()
    return counts.filter(pl.col("len") > 1).height


def _of_ranks(ranks: pa.ChunkedArray) -> dict[str, Ints]:
    """The rows of each rank."""
    coded = ranks.combine_chunks()
    codes = coded.indices.fill_null(-1).to_numpy()
    return {rank: np.flatnonzero(codes == code) for code, rank in enumerate(coded.dictionary.to_pylist())}


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A numbered tree in pre-order: all arrays are over the rows of `taxa.parquet`.

    `parents` are rows, -1 for a root; `ends` the row behind each taxon's subtree.
    """

    taxon_ids: Ints
    parents: Ints
    depths: Ints
    lft: Ints
    rgt: Ints
    ends: Ints

    @classmethod
    def of(cls, tree: Tree, lft: Ints, rgt: Ints, order: Ints) -> _Ordered:
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        parents = tree.parents[order]
        lft, rgt = lft[order], rgt[order]
        ends = np.arange(1, len(order) + 1)
        # Nearly all have nothing below them.
        is_inner = np.zeros(len(order), np.bool_)
        is_inner[parents[parents >= 0]] = True
        inner = place[is_inner]
        ends[inner] = np.searchsorted(lft, rgt[inner])
        return cls(
            tree.taxon_ids[order],
            np.where(parents >= 0, place[parents], -1),
            tree.depths[order],
            lft,
            rgt,
            ends,
        )


@dataclass(frozen=True, slots=True)
class _Runs:
    """The ancestors-or-self of one rank, as runs of rows: where each starts, and the ancestor (-1: none)."""

    starts: Ints
    above: Ints

    @classmethod
    def of(cls, marked: Ints, tree: _Ordered) -> _Runs:
        """Those of the rank whose taxa are the rows `marked`."""
        ends = tree.ends[marked]
        if (marked[1:] < ends[:-1]).any():
            # One lies below another of its rank: the nearest counts.
            is_marked = np.zeros(len(tree.parents), np.bool_)
            is_marked[marked] = True
            nearest = nearest_with(is_marked, tree.parents, by_depth(tree.parents, tree.depths))
            starts = firsts(nearest)
            return cls(starts, nearest[starts])
        starts = np.r_[0, np.stack([marked, ends], axis=1).ravel()]
        above = np.r_[-1, np.stack([marked, np.full(len(marked), -1)], axis=1).ravel()]
        some = np.r_[starts[1:], len(tree.parents)] > starts
        return cls(starts[some], above[some])

    def between(self, first: int, last: int) -> tuple[Ints, Ints]:
        """The ancestors of the runs in the rows from `first` to `last`, and how many rows each has there."""
        low = np.searchsorted(self.starts, first, side="right") - 1
        high = np.searchsorted(self.starts, last)
        starts = self.starts[low:high].clip(first)
        return self.above[low:high], np.diff(np.r_[starts, last])


def _write(lake: Lake, key: str, facts: pa.Table, tree: _Ordered, ranks: dict[str, Ints]) -> None:
    """Write the taxa, with the names of their ranks, by row groups.

    Parameters
    ----------
    facts
        The columns `_FACTS` in the order of `tree`, `rank` as a dictionary.
    ranks
        The ranks that get columns, and the rows of each.
    """
    schema = taxa_schema(ranks)
    names = facts["name"].combine_chunks()
    runs = {rank: _Runs.of(rows, tree) for rank, rows in ranks.items()}
    # Names of ranks are long runs in this order: coded here, they need not be hashed one by one.
    coded = pa.schema(
        pa.field(field.name, pa.dictionary(pa.int32(), pa.string()))
        if field.name in {"rank", *ranks}
        else field
        for field in schema
    )
    encoding = parquet_encoding(["rank", "rank_level", *ranks], ["lft", "rgt"])
    with lake.parquet_writer(key, coded, **encoding, write_statistics=["taxon_id", "lft", "rgt"]) as writer:
        for first in range(0, len(facts), ROW_GROUP):
            last = min(first + ROW_GROUP, len(facts))
            columns = {
                "taxon_id": pa.array(tree.taxon_ids[first:last], pa.int32()),
                "parent_id": _ids(tree.taxon_ids, tree.parents[first:last]),
                **{name: facts[name].slice(first, last - first) for name in _FACTS},
                "depth": pa.array(tree.depths[first:last], pa.int32()),
                "lft": pa.array(tree.lft[first:last]),
                "rgt": pa.array(tree.rgt[first:last]),
            }
            for rank in ranks:
                above, lengths = runs[rank].between(first, last)
                columns[rank], columns[f"{rank}_id"] = _of_rank(names, tree.taxon_ids, above, lengths)
            writer.write_table(pa.table(columns, schema=coded))


def _of_rank(names: pa.Array, taxon_ids: Ints, above: Ints, lengths: Ints) -> tuple[pa.Array, pa.Array]:
    """The names (as codes) and ids of runs of rows, null where there is no ancestor."""
    there = above >= 0
    rows = int(lengths.sum())
    # Several taxa may have one name, and a dictionary has each once.
    words = pc.dictionary_encode(names.take(pa.array(above[there])))
    nulls = None
    if not there.all():
        nulls = pa.py_buffer(np.packbits(np.repeat(there, lengths), bitorder="little"))

    def each(values: Ints) -> pa.Array:
        of_runs = np.zeros(len(above), np.int32)
        of_runs[there] = values
        return pa.Array.from_buffers(pa.int32(), rows, [nulls, pa.py_buffer(np.repeat(of_runs, lengths))])

    coded = pa.DictionaryArray.from_arrays(each(words.indices.to_numpy()), words.dictionary)
    return coded, each(taxon_ids[above[there]])


def _ids(taxon_ids: Ints, rows: Ints) -> pa.Array:
    """The ids of rows as int32, null where the row is -1."""
    return pa.array(taxon_ids[rows].astype(np.int32), mask=rows < 0)


# --- looking up


@dataclass(frozen=True, slots=True)
class TaxonRow:
    """One taxon: `parent_id` is None for a root, `[lft, rgt)` its subtree's labels."""

    taxon_id: int
    parent_id: int | None
    name: str
    rank: str | None
    active: bool
    lft: int
    rgt: int

    @property
    def interval(self) -> Interval:
        """The labels of the taxon and of everything below it."""
        return self.lft, self.rgt


class Taxonomy:
    """The taxa of a release in memory, in pre-order: what is below a row follows it directly.

    Attributes
    ----------
    taxon_ids, lft, rgt, parents
        int64 arrays over the rows; `parents` holds rows, -1 for a root.
    names, active
        Strings and booleans over the rows.
    """

    def __init__(self, table: pa.Table) -> None:
        table = table.select(TAXA_COLUMNS).combine_chunks()
        self.names = table["name"].combine_chunks()
        self._ranks = table["rank"].combine_chunks()
        self.active = table["active"].to_numpy()
        self._depths = table["depth"].to_numpy().astype(np.int64)
        self.taxon_ids: Ints = table["taxon_id"].to_numpy().astype(np.int64)
        self.lft: Ints = table["lft"].to_numpy()
        self.rgt: Ints = table["rgt"].to_numpy()
        self._by_id = np.argsort(self.taxon_ids)
        self._sorted_ids = self.taxon_ids[self._by_id]
        self.parents = self.rows(pc.fill_null(table["parent_id"], -1).to_numpy().astype(np.int64))

    @classmethod
    def load(cls, lake: Lake, source_name: str, release_id: str) -> Taxonomy:
        """Read the taxa of a release; raises NotFoundError if they are not built."""
        return cls(lake.read_table(taxa_key(source_name, release_id), TAXA_COLUMNS))

    def __len__(self) -> int:
        return len(self.taxon_ids)

    def rows(self, taxon_ids: Ints) -> Ints:
        """The row of each id, -1 where there is none."""
        at = positions(self._sorted_ids, taxon_ids)
        return np.where(at >= 0, self._by_id[at], -1).astype(np.int64)

    def row(self, taxon_id: int) -> int | None:
        """The row of one id, None if there is none."""
        found = int(self.rows(np.array([taxon_id], np.int64))[0])
        return found if found >= 0 else None

    def at(self, row: int) -> TaxonRow:
        """The taxon of a row."""
        parent = int(self.parents[row])
        return TaxonRow(
            taxon_id=int(self.taxon_ids[row]),
            parent_id=int(self.taxon_ids[parent]) if parent >= 0 else None,
            name=self.names[row].as_py(),
            rank=self._ranks[row].as_py(),
            active=bool(self.active[row]),
            lft=int(self.lft[row]),
            rgt=int(self.rgt[row]),
        )

    def is_active(self, row: int) -> bool:
        """Whether the taxon of a row is in use."""
        return bool(self.active[row])

    def rows_between(self, low: int, high: int) -> tuple[int, int]:
        """The rows whose labels are in `[low, high)`, as a range of rows."""
        first, last = np.searchsorted(self.lft, [low, high])
        return int(first), int(last)

    def ancestors(self, row: int) -> list[TaxonRow]:
        """What is above a row, the nearest first."""
        found = []
        while (row := int(self.parents[row])) >= 0:
            found.append(self.at(row))
        return found

    def children(self, row: int) -> Ints:
        """The rows directly below a row."""
        first, last = np.searchsorted(self._children_of, [row, row + 1])
        return self._children[first:last]

    def label_of(self, rank: str) -> Ints:
        """For every row that of its ancestor-or-self of this rank (by name, not level), -1 for none."""
        marked = pc.fill_null(pc.equal(self._ranks, rank), False).to_numpy(zero_copy_only=False)
        return nearest_with(marked, self.parents, by_depth(self.parents, self._depths))

    def names_of(self, rows: Ints) -> pa.Array:
        """The names of rows, null for row -1."""
        return self.names.take(pa.array(rows, mask=rows < 0))

    def resolve(self, taxon: Taxon) -> TaxonRow:
        """The active taxon with that id or exact name.

        Raises
        ------
        CampaignError
            There is none, it is inactive, or several active taxa share the name; the message lists
            candidates.
        """
        if isinstance(taxon, int) or taxon.isdigit():
            row = self.row(int(taxon)) if int(taxon) < 1 << 31 else None
            rows = [] if row is None else [row]
        else:
            rows = np.flatnonzero(pc.equal(self.names, taxon).to_numpy(zero_copy_only=False)).tolist()
        active = [row for row in rows if self.active[row]]
        if len(active) == 1:
            return self.at(active[0])
        if active:
            found = "; ".join(self.described(row) for row in active)
            raise CampaignError(
                f"taxon {taxon!r} names {len(active)} active taxa: {found}; give the id of the one you mean"
            )
        if rows:
            found = "; ".join(self.described(row) for row in rows)
            raise CampaignError(
                f"taxon {taxon!r} is inactive: {found}; find its current name on inaturalist.org"
            )
        close = [] if isinstance(taxon, int) else self._close(taxon)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else "check the id or the spelling on inaturalist.org"
        )
        raise CampaignError(f"taxon {taxon!r} is not in the source's taxa; {hint}")

    def described(self, row: int) -> str:
        """A taxon in words: name, rank, id, and the kingdom it is in."""
        taxon, above = self.at(row), self.ancestors(row)
        place = next((one for one in above if one.rank == "kingdom"), above[-1] if above else None)
        return f"{taxon.name} ({taxon.rank or 'no rank'}, id {taxon.taxon_id}" + (
            f", in {place.name})" if place else ")"
        )

    def _close(self, name: str) -> list[str]:
        """Up to three active names like `name`."""
        rows = close_names(self.names, self.active, [name]).get(name, [])
        return list(dict.fromkeys(repr(self.names[row].as_py()) for row in rows))

    @cached_property
    def _children(self) -> Ints:
        return stable_order(self.parents)

    @cached_property
    def _children_of(self) -> Ints:
        return self.parents[self._children]
