"""The join behind the photo table: photos with their observations and taxa, in taxon order, in bounded
memory.

Neither table fits in memory, and no engine at hand sorts such a join on disk as fast as it does pieces in
memory. So both are first cut into buckets by observation; each bucket is joined on its own and cut into
ranges of taxon labels; each range is sorted on its own. What is held at once depends on the size of a
bucket or a range, and not on that of the dump.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse.lake import Lake
from lakehouse.metadata.engine import batches, files_sql, quoted, scalars
from lakehouse.metadata.ingest import raw_table_key
from lakehouse.metadata.schema import PHOTOS
from lakehouse.metadata.taxonomy import taxa_key
from lakehouse.progress import Task

NO_OBSERVATION = "observation is not in observations"
NO_TAXON = "observation has no taxon"
UNKNOWN_TAXON = "taxon is not in taxa"

# Rows of photos in a bucket and in a range, up to so many buckets: all are open for writing at once.
# Larger ones spill.
BUCKET_ROWS = 1_000_000
_MOST_BUCKETS = 64
# What the engine may hold; the process has as much again as it has without any rows.
_MEMORY = "640MB"
# Photo ids that are counted at once.
_IDS = 4_000_000
# The range of rows that reach no taxon.
_REJECTED = -1

_OBSERVATION = ("latitude", "longitude", "positional_accuracy", "quality_grade", "observed_on")
_OBSERVATION_COLUMNS = ", ".join(_OBSERVATION)
_PHOTO_COLUMNS = "photo_id, observation_uuid, observer_id, extension, license, width, height, position"
_COPY = (
    "(FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 16384, PARTITION_BY ({by}), OVERWRITE_OR_IGNORE)"
)

_JOINED = f"""
    SELECT p.photo_id, t.lft, o.taxon_id, p.observation_uuid, p.observer_id, p.extension, p.license, p.width,
           p.height, p.position, {", ".join(f"o.{name}" for name in _OBSERVATION)},
           CASE WHEN o.observation_uuid IS NULL THEN {quoted(NO_OBSERVATION)}
                WHEN o.taxon_id IS NULL THEN {quoted(NO_TAXON)}
                WHEN t.lft IS NULL THEN {quoted(UNKNOWN_TAXON)} END AS rule
    FROM some_photos p LEFT JOIN once_observations o ON p.observation_uuid = o.observation_uuid
    LEFT JOIN labels t ON o.taxon_id = t.taxon_id
"""

# A repeated observation keeps one row; where its rows name different taxa it has none, for none can be
# trusted.
_OBSERVATIONS_ONCE = f"""
    SELECT observation_uuid, taxon_id, {_OBSERVATION_COLUMNS} FROM some_observations
    ANTI JOIN repeated_observations USING (observation_uuid)
    UNION ALL
    SELECT observation_uuid, CASE WHEN taxa = 1 THEN taxon_id END, {_OBSERVATION_COLUMNS} FROM (
        SELECT *, row_number() OVER (PARTITION BY observation_uuid
                                     ORDER BY taxon_id, {_OBSERVATION_COLUMNS}) AS nth
        FROM some_observations JOIN repeated_observations USING (observation_uuid)
    ) WHERE nth = 1
"""

# Rows of photos that occur more than once. Whether their taxa agree is asked of all of them, rejected
# ones included; where they do not agree on the licence, the photo has none that could be trusted.
_SHARED = """
    WITH facts AS (SELECT photo_id, count(DISTINCT taxon_id) > 1 AS taxa_disagree,
                          count(DISTINCT coalesce(license, '')) > 1 AS licences_disagree
                   FROM claimed GROUP BY photo_id),
         claims AS (SELECT photo_id, list_sort(list(DISTINCT observation_uuid)) AS claiming
                    FROM claimed WHERE rule IS NULL GROUP BY photo_id)
    SELECT claimed.* REPLACE (CASE WHEN licences_disagree THEN NULL ELSE license END AS license),
           CASE WHEN len(claiming) > 1 THEN claiming[2:] END AS other_observations, taxa_disagree,
           row_number() OVER (PARTITION BY photo_id, rule IS NULL
                              ORDER BY observation_uuid, position, extension, width, height, observer_id)
                              AS nth
    FROM claimed JOIN facts USING (photo_id) LEFT JOIN claims USING (photo_id)
"""

_SHARED_COUNTS = """
    SELECT count(*) - count(DISTINCT (photo_id, observation_uuid)),
           count(DISTINCT (photo_id, observation_uuid)) - count(DISTINCT photo_id)
    FROM shared WHERE rule IS NULL
"""

# What the query yields: the photo table's columns, and why a row is not in it.
STREAM = pa.schema(
    [
        *(entry.with_nullable(True) if entry.name in ("lft", "taxon_id") else entry for entry in PHOTOS),
        pa.field("rule", pa.string()),
    ]
)


@contextmanager
def bounded(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Keep the engine behind `connection` within the join's memory while the block runs."""
    (before,) = scalars(connection, "SELECT current_setting('memory_limit')")
    connection.execute(f"SET memory_limit = {quoted(_MEMORY)}")
    try:
        yield
    finally:
        connection.execute(f"SET memory_limit = {quoted(before)}")


class PhotoJoin:
    """One release's join.

    Parameters
    ----------
    cursor
        A session on the lake, to itself.
    folder
        A scratch folder on a local disk; it takes about as many bytes as the raw tables have twice.

    Attributes
    ----------
    raw_rows, duplicates, shared_extra
        Rows of the raw photos; of these, rows that repeat a photo in the same observation, and rows that
        claim a photo for a further observation. The latter two are known after `run`.
    """

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, lake: Lake, source_name: str, release_id: str, folder: Path
    ) -> None:
        self._cursor, self._folder = cursor, folder
        self.duplicates = self.shared_extra = 0
        sources = {
            "raw_photos": raw_table_key(source_name, release_id, "photos"),
            "raw_observations": raw_table_key(source_name, release_id, "observations"),
            "raw_taxa": taxa_key(source_name, release_id),
        }
        for name, key in sources.items():
            cursor.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {files_sql([lake.uri(key)])}")
        (self.raw_rows,) = scalars(cursor, "SELECT count(*) FROM raw_photos")
        self._buckets = min(_MOST_BUCKETS, max(1, -(-self.raw_rows // BUCKET_ROWS)))

    def run(self, progress: Task) -> None:
        """Join bucket by bucket; what comes of it is on disk, but for photos that occur more than once."""
        cursor = self._cursor
        self._find_repeated()
        self._cut_ranges()
        if self._buckets > 1:
            self._stage("photos", f"SELECT {_PHOTO_COLUMNS} FROM raw_photos")
            columns = f"observation_uuid, taxon_id, {_OBSERVATION_COLUMNS}"
            self._stage("observations", f"SELECT {columns} FROM raw_observations")
        for bucket in range(self._buckets):
            for table in ("photos", "observations"):
                cursor.execute(f"CREATE OR REPLACE TEMP VIEW some_{table} AS {self._bucket(table, bucket)}")
            self._join(bucket)
            progress.advance(self.raw_rows // self._buckets)
        cursor.execute(f"CREATE TEMP TABLE shared AS {_SHARED}")
        self.duplicates, self.shared_extra = scalars(cursor, _SHARED_COUNTS)

    def sorted(self) -> Iterator[pa.Table]:
        """The rows in taxon order (schema `STREAM`), the rejected ones before."""
        for number in (_REJECTED, *range(len(self._bounds) + 1)):
            which = "rule IS NOT NULL"
            if number != _REJECTED:
                which = f"nth = 1 AND rule IS NULL AND {self._range_sql(number)}"
            rows = f"SELECT * EXCLUDE (nth) FROM shared WHERE {which}"
            files = sorted((self._folder / "joined").glob(f"*/range={number}/*.parquet"))
            if files:
                rows += f"""
                    UNION ALL BY NAME SELECT *, NULL::UUID[] AS other_observations, false AS taxa_disagree
                    FROM read_parquet([{", ".join(quoted(str(file)) for file in files)}],
                    hive_partitioning = false)"""
            yield from batches(self._cursor, f"{rows} ORDER BY rule, lft, photo_id, observation_uuid", STREAM)
            for file in files:
                file.unlink()

    def _find_repeated(self) -> None:
        """The photos that have several rows, few of all."""
        cursor = self._cursor
        cursor.execute("CREATE TEMP TABLE repeated_photos (photo_id BIGINT)")
        parts = max(1, -(-self.raw_rows // _IDS))
        for part in range(parts):
            where = f"WHERE photo_id % {parts} = {part}" if parts > 1 else ""
            cursor.execute(
                f"INSERT INTO repeated_photos SELECT photo_id FROM raw_photos {where} "
                "GROUP BY photo_id HAVING count(*) > 1"
            )

    def _cut_ranges(self) -> None:
        """Ranges of labels that will have about as many photos each, by the observations that they have."""
        cursor = self._cursor
        cursor.execute("CREATE TEMP TABLE labels AS SELECT taxon_id, lft FROM raw_taxa")
        counts = cursor.execute("""
            SELECT lft, found FROM labels JOIN (SELECT taxon_id, count(*) AS found FROM raw_observations
                                                GROUP BY taxon_id) USING (taxon_id) ORDER BY
                                                lft""").fetchnumpy()
        below = np.cumsum(counts["found"])
        total = int(below[-1]) if len(below) else 0
        wanted = np.arange(1, self._buckets) * (total / self._buckets)
        at = np.unique(np.searchsorted(below, wanted)) if total else np.array([], np.int64)
        self._bounds: list[int] = [int(label) for label in counts["lft"][at[at > 0]]]

    def _range_sql(self, number: int) -> str:
        bounds = [None, *self._bounds, None]
        low, high = bounds[number], bounds[number + 1]
        tests = [f"lft >= {low}" if low is not None else "", f"lft < {high}" if high is not None else ""]
        return " AND ".join(filter(None, tests)) or "true"

    def _stage(self, table: str, query: str) -> None:
        target = self._folder / table
        by = f"(hash(observation_uuid) % {self._buckets})::INTEGER AS bucket"
        self._cursor.execute(
            f"COPY (SELECT *, {by} FROM ({query})) TO {quoted(str(target))} {_COPY.format(by='bucket')}"
        )

    def _bucket(self, table: str, bucket: int) -> str:
        if self._buckets == 1:
            return f"SELECT * FROM raw_{table}"
        files = sorted((self._folder / table / f"bucket={bucket}").glob("*.parquet"))
        if not files:
            return f"SELECT * FROM raw_{table} WHERE false"
        paths = ", ".join(quoted(str(file)) for file in files)
        return f"SELECT * FROM read_parquet([{paths}], hive_partitioning = false)"

    def _join(self, bucket: int) -> None:
        cursor = self._cursor
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE repeated_observations AS "
            "SELECT observation_uuid, count(DISTINCT taxon_id) AS taxa FROM some_observations "
            "GROUP BY observation_uuid HAVING count(*) > 1"
        )
        (repeated,) = scalars(cursor, "SELECT count(*) FROM repeated_observations")
        once = _OBSERVATIONS_ONCE if repeated else "SELECT * FROM some_observations"
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW once_observations AS {once}")
        claimed = f"{_JOINED} SEMI JOIN repeated_photos r ON p.photo_id = r.photo_id"
        if bucket == 0:
            cursor.execute(f"CREATE TEMP TABLE claimed AS {claimed}")
        else:
            cursor.execute(f"INSERT INTO claimed {claimed}")
        cases = "".join(f" WHEN lft < {bound} THEN {number}" for number, bound in enumerate(self._bounds))
        place = f"CASE WHEN rule IS NOT NULL THEN {_REJECTED}{cases} ELSE {len(self._bounds)} END AS range"
        target = self._folder / "joined" / str(bucket)
        target.parent.mkdir(exist_ok=True)
        cursor.execute(
            f"COPY (SELECT *, {place} FROM ({_JOINED} ANTI JOIN repeated_photos r ON p.photo_id = "
            "r.photo_id)) "
            f"TO {quoted(str(target))} {_COPY.format(by='range')}"
        )
        for table in ("photos", "observations"):
            for file in (self._folder / table / f"bucket={bucket}").glob("*.parquet"):
                file.unlink()
