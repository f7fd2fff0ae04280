"""Two snapshots compared row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from lakehouse.lake import Lake
from lakehouse.snapshots.model import Root
from lakehouse.snapshots.tables import batches, manifest_sql

# A photo that changed in two ways counts, and is listed, under both.
KINDS = {
    "added": "a.photo_id IS NULL",
    "removed": "b.photo_id IS NULL",
    "relabelled": "a.label_id <> b.label_id OR a.label <> b.label",
    "relicensed": "a.license <> b.license",
    "resplit": "a.split <> b.split",
    "replaced": "a.sha256 <> b.sha256",
}


@dataclass(frozen=True, slots=True)
class LabelChanges:
    """What changed for one label; a photo that was relabelled counts for its old and its new label."""

    label: str
    added: int
    removed: int
    relabelled: int
    relicensed: int


@dataclass(frozen=True, slots=True)
class Diff:
    """The differences from one snapshot to another: totals by kind, photographs in both, changes by label."""

    totals: dict[str, int]
    unchanged: int
    labels: tuple[LabelChanges, ...]


def diff(connection: duckdb.DuckDBPyConnection, lake: Lake, old: Root | None, new: Root) -> Diff:
    """Compare two snapshots; `old` None compares with an empty one."""
    with _changes(connection, lake, old, new):
        totals = dict(connection.execute("SELECT change, count(*) FROM changes GROUP BY ALL").fetchall())
        changed = connection.execute(
            "SELECT count(DISTINCT photo_id) FROM changes WHERE change <> 'added'"
        ).fetchone()
        labels = connection.execute("""
            SELECT label, count(*) FILTER (change = 'added'), count(*) FILTER (change = 'removed'),
                   count(*) FILTER (change = 'relabelled'), count(*) FILTER (change = 'relicensed')
            FROM (SELECT change, old_label AS label FROM changes WHERE change <> 'added'
                  UNION ALL
                  SELECT change, new_label FROM changes WHERE change = 'added' OR change = 'relabelled')
            GROUP BY label ORDER BY count(*) DESC, label
        """).fetchall()
    before = old.counts.photos if old else 0
    return Diff(
        totals={kind: totals.get(kind, 0) for kind in KINDS},
        unchanged=before - (changed[0] if changed else 0),
        labels=tuple(LabelChanges(*row) for row in labels),
    )


def count_changes(
    connection: duckdb.DuckDBPyConnection, lake: Lake, old: Root | None, new: Root
) -> dict[str, int]:
    """The totals of `diff` alone."""
    if old is None:
        return {kind: new.counts.photos if kind == "added" else 0 for kind in KINDS}
    return diff(connection, lake, old, new).totals


def changed_rows(
    connection: duckdb.DuckDBPyConnection, lake: Lake, old: Root | None, new: Root
) -> Iterator[pa.RecordBatch]:
    """Every change in photo order: photo_id, change, old_label, new_label, old_license, new_license."""
    with _changes(connection, lake, old, new):
        yield from batches(connection, "SELECT * FROM changes ORDER BY photo_id, change")


@contextmanager
def _changes(
    connection: duckdb.DuckDBPyConnection, lake: Lake, old: Root | None, new: Root
) -> Iterator[None]:
    """A temporary table `changes` with one row per photo and kind of change."""
    columns = "photo_id, label_id, label, license, split, sha256"
    after = f"SELECT {columns} FROM ({manifest_sql(lake, new)})"
    before = f"SELECT {columns} FROM ({manifest_sql(lake, old or new)})" + ("" if old else " WHERE false")
    kinds = ", ".join(f"CASE WHEN {rule} THEN '{kind}' END" for kind, rule in KINDS.items())
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE changes AS
        SELECT photo_id, unnest(kinds) AS change, old_label, new_label, old_license, new_license FROM (
            SELECT photo_id, list_filter([{kinds}], lambda kind: kind IS NOT NULL) AS kinds,
                   a.label AS old_label, b.label AS new_label,
                   a.license AS old_license, b.license AS new_license
            FROM ({before}) a FULL JOIN ({after}) b USING (photo_id)
        ) WHERE len(kinds) > 0
    """)
    try:
        yield
    finally:
        connection.execute("DROP TABLE changes")
