"""Pictures that are in a snapshot more than once: the same bytes (exact), or hashes that nearly agree (near).

Near copies are sought among pictures of different bytes, so that a picture is told as what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from lakehouse.lake import Lake
from lakehouse.snapshots.model import Root
from lakehouse.snapshots.near import DISTANCE, LEAST_BITS, MOST_BITS, near_values
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.tables import manifest_sql

# One row per photo and kind of copy, sorted by kind, group and photo_id.
DUPLICATES = pl.Schema(
    {
        "kind": pl.String,  # exact or near
        "group": pl.Int64,  # the lowest photo id of the copies that this one is told with
        "photo_id": pl.Int64,
        "distance": pl.Int8,  # bits by which its hash differs from the nearest other picture's
        "nearest": pl.Int64,  # that picture; the lowest id of several
        "copies": pl.Int64,  # pictures that are copies of this one
        "cross_split": pl.Boolean,  # one of them is in another split
        "cross_label": pl.Boolean,  # one of them has another label
        "same_observation": pl.Boolean,  # all of them are of its own observation
        "label_id": pl.Int32,
        "label": pl.String,
        "split": pl.String,
        "observation_uuid": pl.String,
        "sha256": pl.String,
        "dhash": pl.String,
        "shard": pl.String,
        "offset": pl.Int64,
        "size": pl.Int64,
    }
)
FLAGS = ("cross_split", "cross_label")


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The copies in a snapshot: `table` (schema `DUPLICATES`) and the distance up to which they are near."""

    table: pl.DataFrame
    distance: int

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """By kind: groups, photos, and photos that have a copy in another split or under another label."""
        return {
            kind: {
                "groups": (rows := self.table.filter(pl.col("kind") == kind))["group"].n_unique(),
                "photos": rows.height,
                **{flag: int(rows[flag].sum()) for flag in FLAGS},
            }
            for kind in ("exact", "near")
        }

    def flagged(self, flag: str, kind: str = "exact") -> pl.DataFrame:
        """The rows of one kind that have a copy across splits (`cross_split`) or labels (`cross_label`)."""
        return self.table.filter((pl.col("kind") == kind) & pl.col(flag))


def duplicates(
    connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root, *, distance: int = DISTANCE
) -> Duplicates:
    """Find the copies in a snapshot, memory bounded by the connection's limit.

    Parameters
    ----------
    distance
        Bits of 64 by which the difference hashes of near copies may differ, 0 to 8.
    """
    lake.attach(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"""
            CREATE TEMP TABLE pictures AS
            SELECT photo_id, split, label_id, observation_uuid, sha256,
                   CASE WHEN dhash IS NOT NULL THEN ('0x' || dhash)::UBIGINT END AS dhash
            FROM ({manifest_sql(lake, root)})""")
        cursor.execute(f"""
            CREATE TEMP TABLE copies AS
            {_EXACT}""")
        near_values(cursor, "SELECT dhash FROM pictures", distance)
        cursor.execute(f"INSERT INTO copies {_NEAR}")
        found = cursor.sql(f"""
            SELECT kind, "group", c.photo_id, distance, nearest, copies, cross_split, cross_label,
                   same_observation, m.label_id, m.label, m.split, m.observation_uuid, m.sha256, m.dhash,
                   m.shard, m."offset", m.size
            FROM copies c JOIN ({manifest_sql(lake, root)}) m USING (photo_id)
            ORDER BY kind, "group", c.photo_id""").to_arrow_table()
    return Duplicates(pl.DataFrame(found).cast(DUPLICATES), distance)


_EXACT = """
    SELECT 'exact' AS kind, stays AS "group", photo_id, 0 AS distance,
           CASE WHEN photo_id = stays THEN second ELSE stays END AS nearest, photos - 1 AS copies,
           splits > 1 AS cross_split, labels > 1 AS cross_label, observations = 1 AS same_observation
    FROM pictures JOIN (
        SELECT sha256, min(photo_id) AS stays, min(photo_id, 2)[2] AS second, count(*) AS photos,
               count(DISTINCT split) AS splits, count(DISTINCT label_id) AS labels,
               count(DISTINCT observation_uuid) AS observations
        FROM pictures GROUP BY sha256 HAVING count(*) > 1
    ) USING (sha256)
"""

# Hashes are compared, not pictures: any number of pictures may have one and the same hash. What lies around a
# hash (itself included) is summed up, and each picture of the hash is held against the sum.
_NEAR = f"""
    WITH first AS (SELECT sha256, min(photo_id) AS photo_id FROM pictures GROUP BY sha256),
    looks AS (
        SELECT dhash, count(*) AS pictures, min(photo_id) AS lowest, min(photo_id, 2) AS lows,
               list_distinct(list(split)) AS splits, min(label_id) AS low_label, max(label_id) AS high_label,
               min(observation_uuid) AS low_observation, max(observation_uuid) AS high_observation
        FROM pictures SEMI JOIN first USING (photo_id)
        WHERE bit_count(dhash) BETWEEN {LEAST_BITS} AND {MOST_BITS} GROUP BY dhash
    ),
    around AS (
        SELECT one AS dhash, other, distance FROM near_values
        UNION ALL SELECT other, one, distance FROM near_values
        UNION ALL SELECT dhash, dhash, 0 FROM looks
    ),
    sums AS (
        SELECT a.dhash, sum(l.pictures) AS pictures, min(l.lowest) AS lowest,
               min(CASE WHEN a.other <> a.dhash THEN a.distance END) AS near_distance,
               arg_min(l.lowest, (a.distance, l.lowest)) FILTER (a.other <> a.dhash) AS near_lowest,
               list_distinct(flatten(list(l.splits))) AS splits,
               min(l.low_label) AS low_label, max(l.high_label) AS high_label,
               min(l.low_observation) AS low_observation, max(l.high_observation) AS high_observation
        FROM around a JOIN looks l ON l.dhash = a.other GROUP BY a.dhash HAVING sum(l.pictures) > 1
    )
    SELECT 'near', s.lowest, p.photo_id,
           CASE WHEN o.pictures > 1 THEN 0 ELSE s.near_distance END,
           CASE WHEN o.pictures = 1 THEN s.near_lowest
                WHEN p.photo_id = o.lows[1] THEN o.lows[2] ELSE o.lows[1] END,
           s.pictures - 1, len(s.splits) > 1, s.low_label <> s.high_label,
           s.low_observation = s.high_observation
    FROM pictures p SEMI JOIN first USING (photo_id)
    JOIN sums s USING (dhash) JOIN looks o USING (dhash)
"""


def examples(snapshot: Snapshot, rows: pl.DataFrame, most: int = 6) -> Sequence[tuple[bytes, str]]:
    """Up to `most` pictures of a table of copies, group by group, each with a caption: what a failed check
    shows."""
    shown = rows.sort("group", "photo_id").head(most)
    return [
        (
            snapshot.image(row["shard"], row["offset"], row["size"]),
            f"{row['photo_id']} {row['label']} {row['split']}",
        )
        for row in shown.iter_rows(named=True)
    ]
