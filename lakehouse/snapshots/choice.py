"""Which of the selected photos a snapshot takes: those that are stored, less copies and too small labels.

Everything follows from the photos that are there now, never from an earlier version, so that a snapshot is
the same built from scratch or through many refreshes. Of copies the photo with the lowest id stays: ids only
rise at the source, so a photo that is in is not displaced by one that is uploaded later.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse.campaign import Campaign
from lakehouse.errors import LakeError
from lakehouse.images.ledger import Ledger
from lakehouse.images.shard import index_key
from lakehouse.lake import ROW_GROUP, Lake
from lakehouse.metadata.engine import files_sql, quoted
from lakehouse.metadata.selection import selection_key
from lakehouse.snapshots.near import DISTANCE, LEAST_BITS, MOST_BITS, near_values
from lakehouse.tombstones import load_tombstones

# In the order in which they are asked; the first that holds is why a stored photo is not in the snapshot.
REASONS = (
    "copies_disagree",
    "copy",
    "copy_in_other_split",
    "near_copy",
    "per_label_min",
    "per_label_min_in_split",
)
_KEPT = "SELECT * FROM picked WHERE outcome = 'stored' AND photo_id NOT IN (SELECT photo_id FROM dropped)"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen. `accounting` counts outcomes and `dropped.<reason>`; `label_splits` the labels with a
    photo in each split; `taken_back` the selected photos that were taken back since they were selected.

    The rows are in temporary tables of `cursor`: `picked` (part, photo_id, label_id, split, license, outcome,
    shard, size, sha256, last_at) has every selected photo, `dropped` (photo_id, reason, stays) those that
    gave way.
    """

    cursor: duckdb.DuckDBPyConnection
    accounting: Counter[str]
    label_splits: dict[str, int]
    taken_back: int

    def kept(self) -> Iterator[tuple[int, pa.Table]]:
        """The photos that the snapshot takes, partition by partition (its place in `keys`): photo_id, shard,
        size, in photo order."""
        query = f"SELECT part, photo_id, shard, size FROM ({_KEPT}) ORDER BY part, photo_id"
        part = -1
        pending: list[pa.Table] = []
        for batch in self.cursor.sql(query).to_arrow_reader(ROW_GROUP):
            table = pa.Table.from_batches([batch])
            parts = table["part"].to_numpy()
            edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(parts)]
            for low, high in itertools.pairwise(edges):
                if parts[low] != part and pending:
                    yield part, pa.concat_tables(pending)
                    pending = []
                part = int(parts[low])
                pending.append(table.slice(low, high - low).drop_columns(["part"]))
        if pending:
            yield part, pa.concat_tables(pending)

    def identity_sql(self, taxa: str) -> str:
        """A query of the rows that a content_id covers, for `cursor`; the labels' names are in the Parquet
        file `taxa`."""
        return f"""
            SELECT photo_id, sha256, label_id, label, license, split
            FROM ({_KEPT}) JOIN {files_sql([taxa])} USING (label_id)
            ORDER BY photo_id"""

    def dropped(self) -> pa.Table:
        """The photos that gave way, with the reason and the photo that stays: schema `DROPPED` in plain
        types."""
        return self.cursor.sql("""
            SELECT photo_id, label_id, reason, stays FROM dropped JOIN picked USING (photo_id)
            ORDER BY photo_id
        """).to_arrow_table()


@contextmanager
def chosen_photos(
    lake: Lake,
    campaign: Campaign,
    source_name: str,
    keys: Sequence[str],
    connection: duckdb.DuckDBPyConnection,
) -> Iterator[Choice]:
    """Choose among the selected photos of the partitions `keys`; raises LakeError if one was never tried."""
    lake.attach(connection)
    with connection.cursor() as cursor:
        taken_back = _pick(lake, campaign, source_name, keys, cursor)
        cursor.execute("CREATE TEMP TABLE dropped (photo_id BIGINT, reason VARCHAR, stays BIGINT)")
        _drop_copies(campaign, cursor)
        if campaign.dedupe.rule == "near":
            _drop_near_copies(lake, campaign, cursor)
        _drop_small_labels(campaign, cursor)
        accounting = Counter(
            dict(cursor.execute("SELECT outcome, count(*) FROM picked GROUP BY 1").fetchall())
        )
        reasons = cursor.execute("SELECT reason, count(*) FROM dropped GROUP BY 1 ORDER BY 1").fetchall()
        accounting.update({f"dropped.{reason}": count for reason, count in reasons})
        counts = dict(
            cursor.execute(f"SELECT split, count(DISTINCT label_id) FROM ({_KEPT}) GROUP BY 1").fetchall()
        )
        yield Choice(
            cursor, accounting, {split: counts.get(split, 0) for split in campaign.splits}, taken_back
        )


def _pick(
    lake: Lake,
    campaign: Campaign,
    source_name: str,
    keys: Sequence[str],
    cursor: duckdb.DuckDBPyConnection,
) -> int:
    """The table `picked`; how many photos were left out of it because they were taken back."""
    selections = [lake.uri(selection_key(campaign.name, key)) for key in keys]
    places = ", ".join(f"({quoted(uri)}, {place})" for place, uri in enumerate(selections))
    cursor.execute(f"""
        CREATE TEMP TABLE selected AS
        SELECT p.part, photo_id, label_id, split, license
        FROM (SELECT photo_id, label_id, split, license, filename
              FROM {files_sql(selections)[:-1]}, filename = true))
        JOIN (VALUES {places}) p(uri, part) ON filename = p.uri""")
    tombstones = load_tombstones(lake)
    taken_back = 0
    if tombstones:
        deleted = cursor.execute(f"DELETE FROM selected WHERE {tombstones.sql('photo_id')}").fetchall()
        taken_back = int(deleted[0][0])
    ledger = Ledger(lake).files(source_name, campaign.image.slug)
    rows = (
        files_sql(ledger)
        if ledger
        else (
            "(SELECT NULL::BIGINT AS photo_id, NULL::VARCHAR AS outcome, NULL::VARCHAR AS shard, "
            "NULL::BIGINT AS size, NULL::BLOB AS sha256, NULL::TIMESTAMP AS last_at WHERE false)"
        )
    )
    picked = cursor.execute(f"""
        CREATE TEMP TABLE picked AS
        SELECT part, photo_id, label_id, split, license, outcome, shard, size, sha256, last_at
        FROM selected LEFT JOIN {rows} USING (photo_id)""").fetchall()
    if picked != cursor.execute("SELECT count(*) FROM selected").fetchall():
        # At one and the same time a stored row counts: what is in the lake does not become less.
        cursor.execute("""
            DELETE FROM picked WHERE rowid IN (
                SELECT rowid FROM (
                    SELECT rowid, row_number() OVER (
                        PARTITION BY part, photo_id ORDER BY last_at DESC, outcome = 'stored' DESC) AS place
                    FROM picked
                    WHERE photo_id IN (SELECT photo_id FROM picked GROUP BY photo_id HAVING count(*) > 1)
                ) WHERE place > 1)""")
    cursor.execute("DROP TABLE selected")
    untried = cursor.execute("""
        SELECT part, count(*) FROM picked WHERE outcome IS NULL GROUP BY 1 ORDER BY 1 LIMIT 1""").fetchall()
    for part, count in untried:
        raise LakeError(
            f"{count} photos of partition {keys[part]} of {campaign.name!r} were never tried; "
            "materialize its shards first (lakehouse build does)"
        )
    return taken_back


def _drop_copies(campaign: Campaign, cursor: duckdb.DuckDBPyConnection) -> None:
    """Photos of the same bytes: never in two splits; with `dedupe` once, and not at all under two labels."""
    if campaign.dedupe.rule == "none":
        rule = "CASE WHEN split <> first_split THEN 'copy_in_other_split' END"
    else:
        rule = "CASE WHEN labels > 1 THEN 'copies_disagree' WHEN photo_id <> stays THEN 'copy' END"
    # Numbers are grouped much faster than digests, and few photos are left to look at closely.
    cursor.execute("""
        CREATE TEMP TABLE copies AS
        WITH often AS (
            SELECT hash(sha256) AS short FROM picked WHERE outcome = 'stored' GROUP BY 1 HAVING count(*) > 1
        )
        SELECT photo_id, label_id, split, sha256 FROM picked
        WHERE outcome = 'stored' AND hash(sha256) IN (SELECT short FROM often)""")
    cursor.execute(f"""
        INSERT INTO dropped
        SELECT photo_id, {rule} AS reason, CASE WHEN reason <> 'copies_disagree' THEN stays END
        FROM copies JOIN (
            SELECT sha256, min(photo_id) AS stays, arg_min(split, photo_id) AS first_split,
                   count(DISTINCT label_id) AS labels
            FROM copies GROUP BY sha256 HAVING count(*) > 1
        ) USING (sha256)
        WHERE reason IS NOT NULL""")
    cursor.execute("DROP TABLE copies")


def _drop_near_copies(lake: Lake, campaign: Campaign, cursor: duckdb.DuckDBPyConnection) -> None:
    """Of photos of one label that look alike, each gives way to one with a lower id that stays."""
    shards = [shard for (shard,) in cursor.execute(f"SELECT DISTINCT shard FROM ({_KEPT})").fetchall()]
    if not shards:
        return
    indexes = files_sql([lake.uri(index_key(campaign.image.slug, shard)) for shard in sorted(shards)])
    distance = DISTANCE if campaign.dedupe.distance is None else campaign.dedupe.distance
    cursor.execute(f"""
        CREATE TEMP TABLE looks AS
        SELECT k.photo_id, k.label_id, i.dhash FROM ({_KEPT}) k
        JOIN (SELECT photo_id, dhash, parse_filename(filename)[:64] AS shard
              FROM {indexes[:-1]}, filename = true)) i
          ON i.photo_id = k.photo_id AND i.shard = k.shard""")
    near_values(cursor, "SELECT dhash FROM looks", distance)
    pairs = cursor.sql("""
        SELECT least(a.photo_id, b.photo_id) AS low, greatest(a.photo_id, b.photo_id) AS high
        FROM (SELECT dhash, label_id, min(photo_id) AS photo_id FROM looks GROUP BY ALL) a
        JOIN near_values n ON n.one = a.dhash
        JOIN (SELECT dhash, label_id, min(photo_id) AS photo_id FROM looks GROUP BY ALL) b
          ON n.other = b.dhash AND a.label_id = b.label_id
        ORDER BY high, low""").to_arrow_reader(ROW_GROUP)
    stays = _giving_way(
        pair
        for batch in pairs
        for pair in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    cursor.execute("CREATE TEMP TABLE giving_way (photo_id BIGINT, stays BIGINT)")
    if stays:
        cursor.register("stays", pa.table({"photo_id": list(stays), "stays": list(stays.values())}))
        cursor.execute("INSERT INTO giving_way SELECT photo_id, stays FROM stays")
        cursor.unregister("stays")
    # Photos of one and the same hash follow the first of them.
    cursor.execute(f"""
        INSERT INTO dropped
        SELECT l.photo_id, 'near_copy', coalesce(g.stays, first) FROM (
            SELECT photo_id, min(photo_id) OVER (PARTITION BY dhash, label_id) AS first FROM looks
            WHERE bit_count(dhash) BETWEEN {LEAST_BITS} AND {MOST_BITS}
        ) l LEFT JOIN giving_way g ON g.photo_id = first
        WHERE l.photo_id <> first OR g.stays IS NOT NULL""")
    for table in ("looks", "giving_way", "near_values"):
        cursor.execute(f"DROP TABLE {table}")


def _giving_way(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The photos that give way, each to the lowest photo near it that stays; pairs in order of the higher."""
    stays: dict[int, int] = {}
    for low, high in pairs:
        if low not in stays:
            stays.setdefault(high, low)
    return stays


def _drop_small_labels(campaign: Campaign, cursor: duckdb.DuckDBPyConnection) -> None:
    """Labels of which too few photos are left, in all or in some split."""
    least, each = campaign.per_label.min, campaign.per_label.min_per_split
    # A split that a label has no photo in has no row to count.
    splits = len(campaign.splits)
    cursor.execute(f"""
        INSERT INTO dropped
        WITH kept AS ({_KEPT}),
        small AS (
            SELECT label_id, CASE WHEN sum(photos) < {least} THEN 'per_label_min'
                WHEN {each} > 0 AND (count(*) < {splits} OR min(photos) < {each})
                THEN 'per_label_min_in_split' END AS reason
            FROM (SELECT label_id, split, count(*) AS photos FROM kept GROUP BY ALL) GROUP BY 1
        )
        SELECT photo_id, reason, NULL FROM kept JOIN small USING (label_id) WHERE reason IS NOT NULL""")
