"""What changed from one release to another: which photos, and which partitions are touched at all.

A photo is *added* or *removed*; *relabelled* if its taxon is another one; *relicensed* if only its
licence is; anything else that differs is *other*. A taxon that was renamed or moved in the tree changes
no photo: `taxon_changes` tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.ahead import in_order
from lakehouse.metadata.digests import digest_table
from lakehouse.metadata.engine import RowGroups, batches, session
from lakehouse.metadata.intervals import Interval
from lakehouse.metadata.partitions import Plan
from lakehouse.metadata.photos import digests_key, load_photos_report, photo_keys
from lakehouse.metadata.schema import CHANGES, CHANGES_ENCODING, DIGESTS, PHOTOS
from lakehouse.metadata.tree import Bools, Ints, firsts
from lakehouse.progress import Task, task

KINDS = ("added", "removed", "relabelled", "relicensed", "other")
_EVERYTHING: tuple[Interval, ...] = ((-(1 << 62), 1 << 62),)
# Row groups that are read together, and pieces that are compared at the same time.
_GROUPS = 8
_WORKERS = 2
# Rows that are handed to the database together.
_HELD = 1_000_000
_WORDS = [field.name for field in DIGESTS if field.type == pa.string()]


class ChangesReport(BaseModel):
    """How many photos changed from release `before` to `after`, by kind; `unchanged` completes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    before: str
    after: str
    counts: dict[str, int]
    unchanged: int


def changes_key(source_name: str, before: str, after: str) -> str:
    """The key of the photos that changed between two releases."""
    return f"tables/{source_name}/{after}/changes/{before}.parquet"


def _report_key(source_name: str, before: str, after: str) -> str:
    return f"tables/{source_name}/{after}/changes/{before}.json"


def diff_photos(
    lake: Lake, source_name: str, before: str, after: str, connection: duckdb.DuckDBPyConnection
) -> ChangesReport:
    """Write the photos that changed between two releases (schema `CHANGES`); done once, its report is
    returned.

    Raises NotFoundError if a release has no photo table.
    """
    try:
        return ChangesReport.model_validate_json(lake.get(_report_key(source_name, before, after)))
    except NotFoundError:
        _, new = (load_photos_report(lake, source_name, release) for release in (before, after))
    counts = dict.fromkeys(KINDS, 0)
    with (
        session(lake, connection) as cursor,
        lake.parquet_writer(changes_key(source_name, before, after), CHANGES, **CHANGES_ENCODING) as writer,
        task("Comparing photos", new.photos, "rows") as progress,
    ):
        cursor.register("differing", DIGESTS.empty_table())
        for side in ("was", "now"):
            cursor.execute(f"CREATE TEMP TABLE {side} AS FROM differing")
        pieces = _pieces(_digests(lake, source_name, before), _digests(lake, source_name, after))
        for was, now in _gathered(in_order(_differing, pieces, _WORKERS), progress):
            for side, table in (("was", was), ("now", now)):
                cursor.register("differing", table)
                cursor.execute(f"INSERT INTO {side} FROM differing")
        cursor.unregister("differing")
        groups = RowGroups(writer)
        for table in batches(cursor, _DIFFER, CHANGES):
            for kind, count in _tally(table["change"]):
                counts[kind] += count
            groups.append(table)
        groups.finish()
    report = ChangesReport(
        source=source_name,
        before=before,
        after=after,
        counts=counts,
        unchanged=new.photos - sum(counts.values()) + counts["removed"],
    )
    lake.put(_report_key(source_name, before, after), report.model_dump_json(indent=1).encode())
    return report


def _tally(kinds: pa.ChunkedArray) -> Iterator[tuple[str, int]]:
    for entry in kinds.value_counts().to_pylist():
        yield entry["values"], entry["counts"]


# Photos of which no equal row was found at the same place. One that is at another place has two such rows.
_DIFFER = """
    SELECT coalesce(o.photo_id, n.photo_id) AS photo_id,
           CASE WHEN o.photo_id IS NULL THEN 'added' WHEN n.photo_id IS NULL THEN 'removed'
                WHEN o.taxon_id <> n.taxon_id THEN 'relabelled'
                WHEN o.license IS DISTINCT FROM n.license THEN 'relicensed' ELSE 'other' END AS change,
           o.taxon_id AS taxon_id_before, n.taxon_id AS taxon_id_after,
           o.license AS license_before, n.license AS license_after
    FROM was o FULL JOIN now n ON o.photo_id = n.photo_id
    WHERE o.photo_id IS NULL OR n.photo_id IS NULL OR o.digest <> n.digest"""


# --- comparing in taxon order


def _digests(
    lake: Lake, source_name: str, release: str, intervals: Iterable[Interval] = _EVERYTHING
) -> Iterator[pa.Table]:
    """The digests (schema `DIGESTS`, words as codes) of the files that hold these labels, in their order."""
    for part in photo_keys(lake, source_name, release, intervals):
        key = digests_key(part)
        made = not lake.exists(key)
        words = None if made else _WORDS
        with pq.ParquetFile(lake.reader(part if made else key), read_dictionary=words) as file:
            groups = range(file.num_row_groups)
            together = (groups[first : first + _GROUPS] for first in groups[::_GROUPS])
            # One thread, for a file is read by one at a time.
            yield from in_order(partial(_read, file, made), together, 1)


def _read(file: pq.ParquetFile, made: bool, groups: range) -> pa.Table:
    table = file.read_row_groups([*groups], use_threads=False)
    # A table of an earlier version has no digests beside it.
    return (digest_table(table.cast(PHOTOS)) if made else table).combine_chunks()


# Two runs of rows in one order, cut at the same place.
_Piece = tuple[pa.Table, pa.Table]


def _pieces(before: Iterator[pa.Table], after: Iterator[pa.Table]) -> Iterator[_Piece]:
    """Both tables cut at the same places of their order, a few row groups at a time."""
    sides, held = (before, after), [DIGESTS.empty_table(), DIGESTS.empty_table()]
    done = [False, False]
    while not all(done) or any(map(len, held)):
        for at, side in enumerate(sides):
            if not len(held[at]) and not done[at]:
                held[at] = next(side, DIGESTS.empty_table())
                done[at] = not len(held[at])
        lasts = [_place(held[at], -1) for at in (0, 1) if len(held[at])]
        if not lasts:
            return
        ends = [_rows_to(table, min(lasts)) for table in held]
        yield held[0].slice(0, ends[0]), held[1].slice(0, ends[1])
        held = [table.slice(end) for table, end in zip(held, ends, strict=True)]


def _place(table: pa.Table, row: int) -> tuple[int, int]:
    return table["lft"][row].as_py(), table["photo_id"][row].as_py()


def _rows_to(table: pa.Table, place: tuple[int, int]) -> int:
    """How many rows lie at or before a place."""
    labels = table["lft"].to_numpy()
    first, last = (int(np.searchsorted(labels, place[0], side=side)) for side in ("left", "right"))
    return first + int(np.searchsorted(table["photo_id"].to_numpy()[first:last], place[1], side="right"))


def _gathered(
    found: Iterator[tuple[pa.Table, pa.Table, int]], progress: Task
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows found on either side, many at a time."""
    held: list[tuple[pa.Table, pa.Table]] = []
    for was, now, rows in found:
        progress.advance(rows)
        held.append((was, now))
        if sum(len(one) + len(other) for one, other in held) >= _HELD:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: list[tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    was, now = zip(*held, strict=True)
    return pa.concat_tables(was), pa.concat_tables(now)


def _differing(piece: _Piece) -> tuple[pa.Table, pa.Table, int]:
    """Of a piece the rows of either side without an equal one, and how many rows the second side had."""
    before, after = piece
    if not len(before) or not len(after):
        return _named(before), _named(after), len(after)
    old, new = _keys(before, after)
    at = np.searchsorted(new, old)
    at[at == len(new)] = 0
    digests = [table["digest"].to_numpy() for table in (before, after)]
    same = (new[at] == old) & (digests[1][at] == digests[0])
    is_new = np.ones(len(new), np.bool_)
    is_new[at[same]] = False
    return _named(before, ~same), _named(after, is_new), len(after)


def _keys(before: pa.Table, after: pa.Table) -> tuple[Ints, Ints]:
    """One number for the place of each row, rising on both sides and equal for equal places."""
    labels = [table["lft"].to_numpy() for table in (before, after)]
    photo_ids = [table["photo_id"].to_numpy() for table in (before, after)]
    starts = [firsts(one) for one in labels]
    known = np.union1d(*(one[start] for one, start in zip(labels, starts, strict=True)))
    least = min(int(one.min()) for one in photo_ids)
    span = max(int(one.max()) for one in photo_ids) - least + 1
    if len(known) * span >= 1 << 63:
        # Ids so far apart are numbered, too.
        ids = np.unique(np.concatenate(photo_ids))
        photo_ids, least, span = [np.searchsorted(ids, one) for one in photo_ids], 0, len(ids)
    keys = []
    for one, start, photo_id in zip(labels, starts, photo_ids, strict=True):
        place = np.searchsorted(known, one[start]) * span - least
        keys.append(np.repeat(place, np.diff(np.r_[start, len(one)])) + photo_id)
    return keys[0], keys[1]


def _named(table: pa.Table, chosen: Bools | None = None) -> pa.Table:
    """The chosen rows with words instead of codes (schema `DIGESTS`)."""
    rows = table if chosen is None else table.take(pa.array(np.flatnonzero(chosen)))
    return rows.cast(DIGESTS)


# --- partitions


def fingerprints(lake: Lake, plan: Plan) -> dict[str, str]:
    """What each partition's photos are in the plan's release, as a digest, from one scan.

    Two partitions of one key have equal fingerprints if the same photos with the same columns are in them, in
    whatever order and however the taxa around them were numbered: a partition whose fingerprint did not
    change needs no selection.
    """
    spans = sorted(
        (low, high, number)
        for number, partition in enumerate(plan.partitions)
        for low, high in partition.intervals
    )
    if not spans:
        return {}
    lows, highs, numbers = (np.array(column, np.int64) for column in zip(*spans, strict=True))
    photos = np.zeros(len(plan.partitions), np.int64)
    total, mixed = np.zeros((2, len(plan.partitions)), np.uint64)
    for table in _digests(lake, plan.source, plan.release, [(low, high) for low, high, _ in spans]):
        labels, digests = table["lft"].to_numpy(), table["digest"].to_numpy()
        starts = firsts(labels)
        at = np.searchsorted(lows, labels[starts], side="right") - 1
        inside = (at >= 0) & (labels[starts] < highs[at])
        of = numbers[at[inside]]
        np.add.at(photos, of, np.diff(np.r_[starts, len(labels)])[inside])
        np.add.at(total, of, np.add.reduceat(digests, starts)[inside])
        np.bitwise_xor.at(mixed, of, np.bitwise_xor.reduceat(digests, starts)[inside])
    return {
        partition.key: f"{rows}-{sums:016x}-{xored:016x}"
        for partition, rows, sums, xored in zip(
            plan.partitions, photos.tolist(), total.tolist(), mixed.tolist(), strict=True
        )
        if rows
    }
