"""Two snapshots compared row by row.

Files that both name are not read: where a partition has the same parts in both, its rows differ only if the
taxonomy of their labels does, and images are compared only where a photo is in another shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from lakehouse.lake import Lake
from lakehouse.metadata.engine import files_sql
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import FileRef, PartitionParts, Root, Version
from lakehouse.snapshots.tables import batches

# A photo that changed in two ways counts, and is listed, under both.
KINDS = ("added", "removed", "relabelled", "moved", "relicensed", "resplit", "replaced")
# Why a photo is not there any more, by what the build recorded; whatever is not listed is the filter's doing.
CLASSES = ("gone", "licence", "filter", "legal", "unknown")
_CLASS_OF = {
    "gone": "gone",
    "licence": "licence",
    "unknown_licence": "licence",
    "taken_back": "legal",
    "unknown": "unknown",
}
_RANKS = ("taxon_rank", "kingdom", "phylum", "class", "order", "family", "genus")


@dataclass(frozen=True, slots=True)
class LabelChanges:
    """What changed for one label, which had `before` photos and has `after`; a photo that was relabelled
    counts for its old and its new label."""

    label: str
    before: int
    after: int
    added: int
    removed: int
    relabelled: int
    moved: int
    relicensed: int


@dataclass(frozen=True, slots=True)
class Diff:
    """The differences from one snapshot to another: totals by kind, photographs in both without any change,
    changes by label, and the removed photographs by class of reason (`CLASSES`) and by reason."""

    totals: dict[str, int]
    unchanged: int
    labels: tuple[LabelChanges, ...]
    removed: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


def class_of(reason: str) -> str:
    """The class of a reason for which a photo is not there any more."""
    return _CLASS_OF.get(reason, "filter")


def removal_lists(lake: Lake, before: Version, after: Version) -> list[FileRef]:
    """What the versions from one to a later one of the same campaign recorded of removed photos, oldest
    first; nothing where they do not follow each other."""
    if before.campaign != after.campaign or before.version > after.version:
        return []
    return [
        version.removed
        for version in refs.versions(lake, after.campaign)
        if before.version < version.version <= after.version and version.removed
    ]


def diff(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    old: Root | None,
    new: Root,
    lists: Sequence[FileRef] = (),
) -> Diff:
    """Compare two snapshots; `old` None compares with an empty one, `lists` are those of `removal_lists`."""
    with _changes(connection, lake, old, new, lists) as cursor:
        found = dict(cursor.execute("SELECT change, count(*) FROM changes GROUP BY ALL").fetchall())
        (changed,) = cursor.execute(
            "SELECT count(DISTINCT photo_id) FROM changes WHERE change <> 'added'"
        ).fetchone() or (0,)
        reasons = dict(
            cursor.execute(
                "SELECT reason, count(*) FROM changes WHERE change = 'removed' GROUP BY 1 ORDER BY 2 DESC, 1"
            ).fetchall()
        )
        labels = cursor.execute(f"""
            WITH sums AS (
                SELECT label_id, arg_max(label, side) AS label,
                       {", ".join(f"count(*) FILTER (change = '{kind}') AS {kind}" for kind in KINDS)}
                FROM (SELECT change, old_id AS label_id, old_label AS label, 0 AS side FROM changes
                      WHERE change <> 'added'
                      UNION ALL
                      SELECT change, new_id, new_label, 1 FROM changes
                      WHERE change = 'added' OR (change = 'relabelled'))
                GROUP BY label_id
            )
            SELECT label, coalesce(b.photos, 0), coalesce(a.photos, 0),
                   added, removed, relabelled, moved, relicensed
            FROM sums LEFT JOIN ({_per_label(lake, old)}) b USING (label_id)
                      LEFT JOIN ({_per_label(lake, new)}) a USING (label_id)
            ORDER BY added + removed + relabelled + moved + relicensed DESC, label
        """).fetchall()
    classes = dict.fromkeys(CLASSES, 0)
    for reason, count in reasons.items():
        classes[class_of(reason)] += count
    return Diff(
        totals={kind: found.get(kind, 0) for kind in KINDS},
        unchanged=(old.counts.photos if old else 0) - changed,
        labels=tuple(LabelChanges(*row) for row in labels),
        removed=classes,
        reasons=reasons,
    )


def count_changes(
    connection: duckdb.DuckDBPyConnection, lake: Lake, old: Root | None, new: Root
) -> dict[str, int]:
    """The totals of `diff` alone."""
    if old is None:
        return {kind: new.counts.photos if kind == "added" else 0 for kind in KINDS}
    with _changes(connection, lake, old, new) as cursor:
        found = dict(cursor.execute("SELECT change, count(*) FROM changes GROUP BY ALL").fetchall())
    return {kind: found.get(kind, 0) for kind in KINDS}


def changed_rows(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    old: Root | None,
    new: Root,
    lists: Sequence[FileRef] = (),
) -> Iterator[pa.RecordBatch]:
    """Every change in photo order: photo_id, change, reason (of a removed one), old_label, new_label,
    old_license, new_license."""
    with _changes(connection, lake, old, new, lists) as cursor:
        yield from batches(
            cursor,
            "SELECT photo_id, change, reason, old_label, new_label, old_license, new_license "
            "FROM changes ORDER BY photo_id, change",
        )


def removed_rows(connection: duckdb.DuckDBPyConnection, lake: Lake, old: Root, new: Root) -> pa.Table:
    """The photos of `old` that are not in `new`: photo_id and the label_id they had."""
    with _changes(connection, lake, old, new) as cursor:
        return cursor.sql(
            "SELECT photo_id, old_id AS label_id FROM changes WHERE change = 'removed' ORDER BY photo_id"
        ).to_arrow_table()


@contextmanager
def _changes(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    old: Root | None,
    new: Root,
    lists: Sequence[FileRef] = (),
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session with the table `changes`: one row per photo and kind of change."""
    lake.attach(connection)
    same = set(old.partitions) & set(new.partitions) if old else set()
    taxa = [_taxa(lake, root) for root in (old, new)]
    # Where the records are the same, so is the shard of every photo that is in both.
    records = {parts.records.key for parts in old.partitions} if old else set()
    records &= {parts.records.key for parts in new.partitions}
    sides = [_rows(lake, root, same, records) for root in (old, new)]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE old_taxa AS {taxa[0]}")
        cursor.execute(f"CREATE TEMP TABLE new_taxa AS {taxa[1]}")
        cursor.execute("""
            CREATE TEMP TABLE renamed AS
            SELECT label_id FROM old_taxa a JOIN new_taxa b USING (label_id)
            WHERE a.label IS DISTINCT FROM b.label OR a.place IS DISTINCT FROM b.place""")
        # Numbers are compared for all rows, names only looked up for those that differ.
        cursor.execute(f"""
            CREATE TEMP TABLE differing AS
            SELECT d.*, o.label AS old_label, n.label AS new_label,
                   o.place IS DISTINCT FROM n.place AS displaced
            FROM (
                SELECT photo_id, a.label_id AS old_id, b.label_id AS new_id, a.license AS old_license,
                       b.license AS new_license, a.split AS old_split, b.split AS new_split,
                       a.shard AS old_shard, b.shard AS new_shard
                FROM ({sides[0]}) a FULL JOIN ({sides[1]}) b USING (photo_id)
                WHERE a.label_id IS DISTINCT FROM b.label_id OR a.license IS DISTINCT FROM b.license
                   OR a.split IS DISTINCT FROM b.split OR a.shard IS DISTINCT FROM b.shard
                   OR a.label_id IN (SELECT label_id FROM renamed)
            ) d LEFT JOIN old_taxa o ON o.label_id = old_id LEFT JOIN new_taxa n ON n.label_id = new_id""")
        kinds = {
            "added": "old_id IS NULL",
            "removed": "new_id IS NULL",
            "relabelled": "old_id <> new_id OR old_label <> new_label",
            "moved": "old_id = new_id AND displaced",
            "relicensed": "old_license <> new_license",
            "resplit": "old_split <> new_split",
            "replaced": "replaced",
        }
        listed = ", ".join(f"CASE WHEN {rule} THEN '{kind}' END" for kind, rule in kinds.items())
        reasons = "SELECT NULL::BIGINT AS photo_id, NULL::VARCHAR AS reason WHERE false"
        if lists:
            told = " UNION ALL ".join(
                f"SELECT photo_id, reason, {place} AS place FROM {files_sql([lake.uri(file.key)])}"
                for place, file in enumerate(lists)
            )
            reasons = f"SELECT photo_id, arg_max(reason, place) AS reason FROM ({told}) GROUP BY 1"
        cursor.execute(f"""
            CREATE TEMP TABLE changes AS
            SELECT photo_id, change,
                   CASE WHEN change = 'removed' THEN coalesce(reason, 'unknown') END AS reason,
                   old_id, new_id, old_label, new_label, old_license, new_license
            FROM (
                SELECT * EXCLUDE (kinds), unnest(kinds) AS change FROM (
                    SELECT *, list_filter([{listed}], lambda kind: kind IS NOT NULL) AS kinds
                    FROM differing LEFT JOIN ({_replaced(cursor, lake, old, new)}) USING (photo_id)
                )
            ) LEFT JOIN ({reasons}) USING (photo_id)""")
        yield cursor


def _taxa(lake: Lake, root: Root | None) -> str:
    """The labels of a root with all the ranks above them as one value."""
    if root is None:
        return "SELECT NULL::INTEGER AS label_id, NULL::VARCHAR AS label, NULL::VARCHAR AS place WHERE false"
    place = ", ".join(f"coalesce(\"{rank}\", '')" for rank in _RANKS)
    file = files_sql([lake.uri(root.taxa.key)])
    return f"SELECT label_id, label, concat_ws('|', {place}) AS place FROM {file}"


def _rows(lake: Lake, root: Root | None, same: set[PartitionParts], records: set[str]) -> str:
    """The rows of a root that may differ: photo_id, label_id, license, split, and the shard unless the
    partition has its `records` in both; of partitions that are the `same` in both, those of the labels in
    `renamed`."""
    sides = ["SELECT NULL::BIGINT, NULL::INTEGER, NULL::VARCHAR, NULL::VARCHAR, NULL::VARCHAR WHERE false"]
    partitions = root.partitions if root else ()
    for parts, where in (
        (
            [parts for parts in partitions if parts in same],
            "WHERE label_id IN (SELECT label_id FROM renamed)",
        ),
        ([parts for parts in partitions if parts not in same and parts.records.key in records], ""),
    ):
        if parts:
            labels = files_sql([lake.uri(one.labels.key) for one in parts])
            sides.append(f"SELECT photo_id, label_id, license, split, NULL FROM {labels} {where}")
    others = [parts for parts in partitions if parts.records.key not in records]
    if others:
        labels = files_sql([lake.uri(one.labels.key) for one in others])
        shards = files_sql([lake.uri(one.records.key) for one in others])
        sides.append(
            f"SELECT photo_id, label_id, license, split, shard FROM {labels} "
            f"JOIN (SELECT photo_id, shard FROM {shards}) USING (photo_id)"
        )
    query = " UNION ALL ".join(sides)
    return f"SELECT * FROM ({query}) r(photo_id, label_id, license, split, shard)"


def _replaced(cursor: duckdb.DuckDBPyConnection, lake: Lake, old: Root | None, new: Root) -> str:
    """A query of the photos in both whose images differ (photo_id, replaced); only other shards are looked
    into."""
    moved = cursor.execute("""
        SELECT DISTINCT old_shard, new_shard FROM differing
        WHERE old_id IS NOT NULL AND new_id IS NOT NULL AND old_shard <> new_shard""").fetchall()
    if old is None or not moved:
        return "SELECT NULL::BIGINT AS photo_id, false AS replaced WHERE false"
    sides = []
    for root, shards in ((old, {row[0] for row in moved}), (new, {row[1] for row in moved})):
        files = [lake.uri(one.index.key) for one in root.shards if one.tar.sha256 in shards]
        sides.append(
            "SELECT photo_id, sha256, parse_filename(filename)[:64] AS shard "
            f"FROM {files_sql(files)[:-1]}, filename = true)"
        )
    return f"""
        SELECT d.photo_id, true AS replaced FROM differing d
        JOIN ({sides[0]}) a ON a.photo_id = d.photo_id AND a.shard = d.old_shard
        JOIN ({sides[1]}) b ON b.photo_id = d.photo_id AND b.shard = d.new_shard
        WHERE a.sha256 <> b.sha256"""


def _per_label(lake: Lake, root: Root | None) -> str:
    if root is None or not root.partitions:
        return "SELECT NULL::INTEGER AS label_id, 0 AS photos WHERE false"
    labels = files_sql([lake.uri(parts.labels.key) for parts in root.partitions])
    return f"SELECT label_id, count(*) AS photos FROM {labels} GROUP BY 1"
