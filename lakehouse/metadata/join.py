"""The join behind the photo table: photos with their observations and taxa, in taxon order, in bounded
memory.

Neither table fits in memory, and no engine at hand sorts such a join on disk as fast as it does pieces in
memory. So both are first cut into buckets by observation; each bucket is joined on its own and written as a
run in taxon order; each file of the photo table is then merged from all runs, range by range. What is held at
once depends on the size of a bucket or a range, and not on that of the dump. The few photos that have several
rows, and the rows that reach no taxon, pass through the database, which spills.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.lake import Lake
from lakehouse.metadata.ahead import in_order
from lakehouse.metadata.buckets import (
    Buckets,
    Members,
    allow_open_files,
    find,
    id_buckets,
    mixed,
    once,
    pieces,
    repeated,
    spread,
)
from lakehouse.metadata.engine import batches, quoted, scalars
from lakehouse.metadata.ingest import raw_table_key
from lakehouse.metadata.records import RecordForm, taken
from lakehouse.metadata.runs import Rows, Run, merged, taxon_order
from lakehouse.metadata.schema import OBSERVATIONS, PHOTOS, PHOTOS_RAW, PHOTOS_REJECTS
from lakehouse.metadata.taxonomy import taxa_key
from lakehouse.metadata.tree import Bools, IdTable, Ints, firsts
from lakehouse.progress import Task

NO_OBSERVATION = "observation is not in observations"
NO_TAXON = "observation has no taxon"
UNKNOWN_TAXON = "taxon is not in taxa"
_RULES = pa.array([None, NO_OBSERVATION, NO_TAXON, UNKNOWN_TAXON])

WORKERS = 2
# Rows of photos in a bucket, up to so many buckets: all are open for writing at once.
BUCKET_ROWS = 250_000
_MOST_BUCKETS = 512
# What the database may hold; the process has as much again as it has without any rows.
_MEMORY = "256MB"

_UUID = "observation_uuid"
_OF_PHOTO = (_UUID, "photo_id", "observer_id", "extension", "license", "width", "height", "position")
_OF_OBSERVATION = ("latitude", "longitude", "positional_accuracy", "quality_grade", "observed_on", "taxon_id")
# The row of the taxon in taxon order, -1 where it is not in the taxa.
_TAXON_ROW = pa.field("taxon_row", pa.int32(), nullable=False)
_OF_SHARED = pa.schema([PHOTOS.field(name) for name in ("other_observations", "taxa_disagree")])
# A photo row with its observation; why it reaches no taxon, if it does not.
_JOINED = pa.schema(
    [
        *(PHOTOS_RAW.field(name) for name in _OF_PHOTO),
        *(OBSERVATIONS.field(name) for name in _OF_OBSERVATION),
        _TAXON_ROW,
        pa.field("rule", pa.string()),
    ]
)
_SHARED_ROWS = pa.schema([*(field for field in _JOINED if field.name != "rule"), *_OF_SHARED])
# The photo table as it is written: what repeats is a dictionary of what occurs, which is not hashed again.
_REPEATING = ("lft", "taxon_id", "extension", "license", "quality_grade")
CODED = pa.schema(
    field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in _REPEATING else field
    for field in PHOTOS
)
_REFUSED = ", ".join(PHOTOS_REJECTS.names)

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


@contextmanager
def bounded(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Keep the engine behind `connection` within the join's memory while the block runs."""
    (before,) = scalars(connection, "SELECT current_setting('memory_limit')")
    connection.execute(f"SET memory_limit = {quoted(_MEMORY)}")
    try:
        yield
    finally:
        connection.execute(f"SET memory_limit = {quoted(before)}")


@dataclass(frozen=True, slots=True)
class _Joined:
    """What became of a bucket: a run, its taxa with how many photos each has in it, and as tables (schema
    `_JOINED`) rows of repeated photos and rows that reach no taxon."""

    run: Run
    photos_of: tuple[Ints, Ints]
    claimed: pa.Table
    refused: pa.Table


class PhotoJoin:
    """One release's join.

    Parameters
    ----------
    cursor
        A session on the lake, to itself.
    folder
        A scratch folder on a local disk; it takes about twice the bytes of the raw tables.

    Attributes
    ----------
    raw_rows, duplicates, shared_extra
        Rows of the raw photos; of these, rows that repeat a photo in the same observation, and rows that
        claim a photo for a further observation. The latter two are known after `run`.
    """

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, lake: Lake, source_name: str, release_id: str, folder: Path
    ) -> None:
        self._cursor, self._folder, self._lake = cursor, folder, lake
        self._using = Lock()
        self.duplicates = self.shared_extra = 0
        self._photos = raw_table_key(source_name, release_id, "photos")
        self._observations = raw_table_key(source_name, release_id, "observations")
        taxa = lake.read_table(taxa_key(source_name, release_id), ["taxon_id", "lft"]).sort_by("lft")
        self._taxon_ids: Ints = taxa["taxon_id"].to_numpy().astype(np.int64)
        self._labels: Ints = taxa["lft"].to_numpy()
        self._photos_of = np.zeros(len(taxa), np.int64)
        self._photo = RecordForm(_JOINED.field(name) for name in _OF_PHOTO)
        self._observation = RecordForm(_JOINED.field(name) for name in (_UUID, *_OF_OBSERVATION, "taxon_row"))
        self.raw_rows: int = pq.read_metadata(lake.reader(self._photos)).num_rows
        self._buckets = min(_MOST_BUCKETS, max(1, -(-self.raw_rows // BUCKET_ROWS)))
        self._runs: list[Run] = []

    def run(self, progress: Task) -> None:
        """Join bucket by bucket; what comes of it is on disk, but for photos that occur more than once."""
        observations = self._cut_observations()
        photos, several = self._cut_photos()
        self._cursor.register("joined", _JOINED.empty_table())
        self._cursor.execute("CREATE TEMP TABLE claimed AS FROM joined")
        self._cursor.execute(f"CREATE TEMP TABLE refused AS SELECT {_REFUSED} FROM joined")
        work = partial(self._join, photos, observations, several)
        for joined in in_order(work, range(self._buckets), WORKERS):
            self._take_in(joined)
            progress.advance(self.raw_rows // self._buckets)
        self._cursor.execute(f"CREATE TEMP TABLE shared AS {_SHARED}")
        self.duplicates, self.shared_extra = scalars(self._cursor, _SHARED_COUNTS)
        query = "SELECT taxon_row, count(*) FROM shared WHERE nth = 1 AND rule IS NULL GROUP BY 1"
        for row, count in self._cursor.execute(query).fetchall():
            self._photos_of[row] += count

    def close(self) -> None:
        """Let go of the files."""
        for run in self._runs:
            run.close()

    def rejected(self) -> Iterator[pa.Table]:
        """The rows that reach no taxon (schema `PHOTOS_REJECTS`), by rule, photo and observation."""
        query = f"FROM refused UNION ALL SELECT {_REFUSED} FROM shared WHERE rule IS NOT NULL"
        yield from batches(self._cursor, f"{query} ORDER BY rule, photo_id, observation_uuid", PHOTOS_REJECTS)

    def files(self, rows: int) -> list[range]:
        """The taxa of files of about so many photos, as ranges of rows in taxon order; no taxon is in two."""
        ends, found = np.cumsum(self._photos_of), []
        first = done = 0
        while len(ends) and done < ends[-1]:
            last = int(np.searchsorted(ends, min(done + rows, ends[-1]))) + 1
            found.append(range(first, last))
            first, done = last, int(ends[last - 1])
        return found

    def sorted(self, taxa: range, size: int) -> Iterator[pa.Table]:
        """The photos of a range of taxa in taxon order, in tables of `size` rows and a last one of what is
        left.

        The columns are those of `PHOTOS`, where they repeat as dictionaries of what occurs in the table.
        """
        further, note = self._shared(taxa)
        for rows, numbers in merged(self._runs, further, taxa, size):
            yield self._table(rows, _noted(note, numbers))

    def _cut_observations(self) -> Buckets:
        """The observations in their buckets."""
        by_id = np.argsort(self._taxon_ids)
        table = IdTable(self._taxon_ids[by_id])
        buckets = Buckets(self._folder, "observations", self._observation.dtype, self._buckets)

        def divided(rows: pa.Table) -> list[list[np.ndarray]]:
            at = table.positions(rows["taxon_id"].combine_chunks().fill_null(-1).to_numpy())
            taxon_row = np.where(at >= 0, by_id[at], -1).astype(np.int32)
            records = self._observation.pack(rows.append_column(_TAXON_ROW, pa.array(taxon_row)))
            return [buckets.divided(records, mixed(records[_UUID]) >> np.uint64(32))]

        columns = [_UUID, *_OF_OBSERVATION]
        with buckets:
            for (rows,) in pieces(
                self._lake, self._observations, columns, self._observation, divided, WORKERS
            ):
                buckets.append(rows)
        return buckets

    def _cut_photos(self) -> tuple[Buckets, Members]:
        """The photos in their buckets, and the ids of those that have several rows."""
        buckets = Buckets(self._folder, "photos", self._photo.dtype, self._buckets)
        ids = id_buckets(self._folder, self.raw_rows)
        allow_open_files(buckets.count + ids.count)

        def divided(rows: pa.Table) -> list[list[np.ndarray]]:
            records = self._photo.pack(rows)
            photo_ids = np.ascontiguousarray(records["photo_id"])
            return [
                buckets.divided(records, mixed(records[_UUID]) >> np.uint64(32)),
                ids.divided(photo_ids, spread(photo_ids)),
            ]

        with buckets, ids:
            for rows, some_ids in pieces(
                self._lake, self._photos, list(_OF_PHOTO), self._photo, divided, WORKERS
            ):
                buckets.append(rows)
                ids.append(some_ids)
        return buckets, repeated(ids, self._photos, WORKERS)

    def _join(self, photos: Buckets, observations: Buckets, several: Members, bucket: int) -> _Joined:
        rows = photos.read(bucket)
        known = once(observations.read(bucket), self._observation)
        at = find(known[_UUID], rows[_UUID])
        # The last one is that of a photo without an observation.
        known = self._observation.without_uuids(np.concatenate([known, self._observation.blank()]))
        known["taxon_row"][-1] = -1
        taxon_row = known["taxon_row"][at]
        is_repeated = several.among(rows["photo_id"])
        good = np.flatnonzero((taxon_row >= 0) & ~is_repeated)
        good = good[taxon_order(taxon_row[good].astype(np.int64), rows["photo_id"][good])]
        sorted_rows = taxon_row[good]
        starts = firsts(sorted_rows)

        def chosen(which: Ints) -> Rows:
            return Rows(taken(rows, which), taken(known, at[which]))

        run = Run(self._folder / f"run-{bucket}", chosen(good))
        claimed, refused = np.flatnonzero(is_repeated), np.flatnonzero((taxon_row < 0) & ~is_repeated)
        return _Joined(
            run,
            (sorted_rows[starts], np.diff(np.r_[starts, len(good)])),
            self._told(chosen(claimed), at[claimed] >= 0),
            self._told(chosen(refused), at[refused] >= 0),
        )

    def _told(self, rows: Rows, observed: Bools) -> pa.Table:
        """Rows with what keeps them from a taxon, if anything does (schema `_JOINED`)."""
        has_taxon = ~self._observation.is_null(rows.observations, "taxon_id")
        rule = np.where(
            rows.observations["taxon_row"] >= 0, 0, np.where(~observed, 1, np.where(has_taxon, 3, 2))
        )
        columns = self._observation.unpack(rows.observations) | self._photo.unpack(rows.photos)
        columns["rule"] = _RULES.take(pa.array(rule))
        return pa.table([columns[name].cast(_JOINED.field(name).type) for name in _JOINED.names], _JOINED)

    def _take_in(self, joined: _Joined) -> None:
        self._runs.append(joined.run)
        taxa, counts = joined.photos_of
        self._photos_of[taxa] += counts
        self._cursor.register("joined", joined.claimed)
        self._cursor.execute("INSERT INTO claimed FROM joined")
        self._cursor.register("joined", joined.refused)
        self._cursor.execute(f"INSERT INTO refused SELECT {_REFUSED} FROM joined")
        self._cursor.unregister("joined")

    def _shared(self, taxa: range) -> tuple[Rows, pa.Table]:
        """The photos of several rows of a range of taxa, each once and in taxon order, and what only these
        have."""
        where = f"nth = 1 AND rule IS NULL AND taxon_row BETWEEN {taxa.start} AND {taxa.stop - 1}"
        with self._using:
            query = f"FROM shared WHERE {where} ORDER BY taxon_row, photo_id"
            tables = list(batches(self._cursor, query, _SHARED_ROWS))
        table = pa.concat_tables([_empty(_SHARED_ROWS), *tables])
        rows = Rows(self._photo.pack(table), self._observation.without_uuids(self._observation.pack(table)))
        return rows, table.select(_OF_SHARED.names)

    def _table(self, rows: Rows, flags: pa.Table) -> pa.Table:
        """Rows in taxon order as a table (schema `CODED`)."""
        columns = self._observation.unpack(rows.observations) | self._photo.unpack(rows.photos)
        taxon_row = rows.observations["taxon_row"]
        starts = firsts(taxon_row)
        codes = np.repeat(np.arange(len(starts), dtype=np.int32), np.diff(np.r_[starts, len(rows)]))
        taxa = taxon_row[starts]
        for name, values in (("lft", self._labels[taxa]), ("taxon_id", self._taxon_ids[taxa])):
            known = pa.array(values, PHOTOS.field(name).type)
            columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes), known)
        columns |= {name: flags[name] for name in flags.column_names}
        return pa.table([columns[name] for name in CODED.names], CODED)


def _empty(schema: pa.Schema) -> pa.Table:
    # Arrow has no empty list of UUIDs of its own.
    return pa.table([pa.nulls(0, kind) for kind in schema.types], schema)


def _noted(note: pa.Table, numbers: Ints) -> pa.Table:
    """What only shared photos have (schema `_OF_SHARED`), for rows whose numbers are rows of `note` or -1."""
    rows = pa.array(numbers, mask=numbers < 0)
    disagree = pc.fill_null(note["taxa_disagree"].take(rows), False)
    return pa.table([note["other_observations"].take(rows), disagree], _OF_SHARED)
