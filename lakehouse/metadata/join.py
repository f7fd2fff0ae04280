"""The join behind the photo table: photos with their observations and taxa, in taxon order, in bounded
memory.

Neither table fits in memory, and no engine at hand sorts such a join on disk as fast as it does pieces in
memory. So both are first cut into buckets by observation; each bucket is joined on its own and written as a
run in taxon order; the runs are merged range by range. What is held at once depends on the size of a bucket
or a range, and not on that of the dump. The few photos that have several rows, and the rows that reach no
taxon, pass through the database, which spills.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import LakeError
from lakehouse.lake import Lake
from lakehouse.metadata.digests import row_digests
from lakehouse.metadata.engine import batches, files_sql, quoted, scalars
from lakehouse.metadata.ingest import raw_table_key
from lakehouse.metadata.schema import PHOTOS, PHOTOS_REJECTS
from lakehouse.metadata.taxonomy import taxa_key
from lakehouse.metadata.tree import Bools, Ints, positions
from lakehouse.progress import Task

NO_OBSERVATION = "observation is not in observations"
NO_TAXON = "observation has no taxon"
UNKNOWN_TAXON = "taxon is not in taxa"
_RULES = pa.array([None, NO_OBSERVATION, NO_TAXON, UNKNOWN_TAXON])

# Rows of photos in a bucket and in a range, up to so many buckets: all are open for writing at once.
BUCKET_ROWS = 500_000
RANGE_ROWS = 500_000
_MOST_BUCKETS = 512
# Rows of a run that are read together, and of a raw table that are cut together.
SLICE_ROWS = 4096
_CUT_ROWS = 500_000
_WORKERS = 2
# What the database may hold; the process has as much again as it has without any rows.
_MEMORY = "384MB"
# Photo ids that are counted at once, and those of several rows that are believed: they are held in memory.
_IDS = 4_000_000
_MOST_REPEATED = 20_000_000

_OBSERVATION = ("latitude", "longitude", "positional_accuracy", "quality_grade", "observed_on")
_OF_SHARED = ("other_observations", "taxa_disagree")
_PHOTO = ("photo_id", "observer_id", "extension", "license", "width", "height", "position")
# A photo row with its observation; why it reaches no taxon, if it does not.
_JOINED = pa.schema(
    [
        *(
            field.with_nullable(True)
            for field in list(PHOTOS)[: PHOTOS.get_field_index("other_observations")]
        ),
        pa.field("rule", pa.string()),
    ]
)
_REFUSED = ", ".join(PHOTOS_REJECTS.names)
_RUN = pa.schema([field for field in _JOINED if field.name != "rule"])

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

# A place in taxon order: the label, then the photo.
_Place = tuple[int, int]


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
        A scratch folder on a local disk; it takes about four times the bytes of the raw tables.

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
        self.duplicates = self.shared_extra = 0
        self._photos = raw_table_key(source_name, release_id, "photos")
        self._observations = raw_table_key(source_name, release_id, "observations")
        taxa = lake.read_table(taxa_key(source_name, release_id), ["taxon_id", "lft"]).sort_by("taxon_id")
        self._taxon_ids: Ints = taxa["taxon_id"].to_numpy().astype(np.int64)
        self._labels: Ints = taxa["lft"].to_numpy()
        self.raw_rows: int = pq.read_metadata(lake.reader(self._photos)).num_rows
        self._buckets = min(_MOST_BUCKETS, max(1, -(-self.raw_rows // BUCKET_ROWS)))
        self._runs: list[_Run] = []

    def run(self, progress: Task) -> None:
        """Join bucket by bucket; what comes of it is on disk, but for photos that occur more than once."""
        repeated = self._find_repeated()
        with ThreadPoolExecutor(_WORKERS, "cut") as pool:
            cuts = [
                pool.submit(self._stage, "photos", self._photos, ["observation_uuid", *_PHOTO]),
                pool.submit(
                    self._stage,
                    "observations",
                    self._observations,
                    ["observation_uuid", "taxon_id", *_OBSERVATION],
                ),
            ]
            for cut in cuts:
                cut.result()
        self._cursor.register("joined", _JOINED.empty_table())
        self._cursor.execute("CREATE TEMP TABLE claimed AS FROM joined")
        self._cursor.execute(
            "CREATE TEMP TABLE refused AS SELECT photo_id, observation_uuid, rule FROM joined"
        )
        with ThreadPoolExecutor(_WORKERS, "join") as pool:
            pending: deque[Future[tuple[_Run, pa.Table, pa.Table]]] = deque()
            for bucket in range(self._buckets):
                pending.append(pool.submit(self._join, bucket, repeated))
                if len(pending) == _WORKERS or bucket == self._buckets - 1:
                    while pending and (len(pending) == _WORKERS or bucket == self._buckets - 1):
                        self._take_in(*pending.popleft().result())
                        progress.advance(self.raw_rows // self._buckets)
        self._cursor.execute(f"CREATE TEMP TABLE shared AS {_SHARED}")
        self.duplicates, self.shared_extra = scalars(self._cursor, _SHARED_COUNTS)

    def rejected(self) -> Iterator[pa.Table]:
        """The rows that reach no taxon (schema `PHOTOS_REJECTS`), by rule, photo and observation."""
        query = f"FROM refused UNION ALL SELECT {_REFUSED} FROM shared WHERE rule IS NOT NULL"
        yield from batches(self._cursor, f"{query} ORDER BY rule, photo_id, observation_uuid", PHOTOS_REJECTS)

    def sorted(self) -> Iterator[pa.Table]:
        """The photos (schema `PHOTOS`, and their `digest`) in taxon order."""
        places = sorted(place for run in self._runs for place in run.places)
        cuts = places[RANGE_ROWS // SLICE_ROWS :: max(1, RANGE_ROWS // SLICE_ROWS)]
        bounds = [(-1, 0), *dict.fromkeys(cuts), (1 << 62, 0)]
        with ThreadPoolExecutor(1, "merge") as pool:
            pending: deque[Future[pa.Table]] = deque()
            for low, high in pairwise(bounds):
                shared = self._shared_between(low, high)
                pending.append(pool.submit(_merged, self._runs, shared, low, high))
                if len(pending) > 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _find_repeated(self) -> Ints:
        """The ids of the photos that have several rows, few of all."""
        parts = max(1, -(-self.raw_rows // _IDS))
        found = []
        for part in range(parts):
            where = f"WHERE photo_id % {parts} = {part}" if parts > 1 else ""
            query = (
                f"SELECT photo_id FROM {files_sql([self._lake.uri(self._photos)])} {where} "
                "GROUP BY photo_id HAVING count(*) > 1"
            )
            ids: Ints = self._cursor.sql(query).to_arrow_table()["photo_id"].to_numpy()
            found.append(ids)
            if sum(map(len, found)) > _MOST_REPEATED:
                raise LakeError(
                    f"more than {_MOST_REPEATED:,} photos of {self._photos} have several rows, ordinarily "
                    "one in a thousand; check the dump"
                )
        return np.sort(np.concatenate(found))

    def _stage(self, name: str, key: str, columns: list[str]) -> None:
        """Cut a raw table into its buckets."""
        with ExitStack() as stack, pq.ParquetFile(self._lake.reader(key)) as file:
            writers: list[pa.RecordBatchFileWriter] = []
            for table in _gathered(file, columns):
                keys = _keys(table["observation_uuid"])
                if name == "observations":
                    table = self._labelled(table)
                table = table.set_column(0, "observation_uuid", pa.chunked_array([_storage(table[0])]))
                if not writers:
                    paths = [self._bucket(name, bucket) for bucket in range(self._buckets)]
                    writers = [stack.enter_context(pa.ipc.new_file(path, table.schema)) for path in paths]
                bucket = (_mixed(keys, 0) >> np.uint64(32)) % np.uint64(self._buckets)
                order = np.argsort(bucket.astype(np.uint16), kind="stable")
                ends = np.cumsum(np.bincount(bucket.astype(np.int64), minlength=self._buckets))
                cut, first = table.take(pa.array(order)).combine_chunks(), 0
                for writer, last in zip(writers, ends.tolist(), strict=True):
                    if last > first:
                        writer.write_table(cut.slice(first, last - first))
                    first = last

    def _labelled(self, table: pa.Table) -> pa.Table:
        """Observations with the labels of their taxa, null where there is none."""
        taxon = table["taxon_id"].combine_chunks()
        at = positions(self._taxon_ids, taxon.fill_null(-1).to_numpy().astype(np.int64))
        return table.append_column("lft", pa.array(self._labels[at], mask=at < 0))

    def _bucket(self, name: str, bucket: int) -> str:
        return str(self._folder / f"{name}-{bucket}.arrow")

    def _join(self, bucket: int, repeated: Ints) -> tuple[_Run, pa.Table, pa.Table]:
        """Write the run of a bucket; its rows of repeated photos, and those that reach no taxon."""
        photos = _read(Path(self._bucket("photos", bucket)))
        observations = _read(Path(self._bucket("observations", bucket)))
        path = self._folder / f"run-{bucket}.arrow"
        if photos is None:
            nothing = _JOINED.empty_table()
            return _Run.write(path, nothing.select(_RUN.names)), nothing, nothing
        photo_ids: Ints = photos["photo_id"].to_numpy()
        if observations is None:
            at, labels, taxa = np.full(len(photos), -1), np.array([], np.int64), np.array([], np.bool_)
        else:
            observations = _once(observations)
            at = _found(_keys(observations["observation_uuid"]), _keys(photos["observation_uuid"]))
            labels = observations["lft"].fill_null(-1).to_numpy()
            taxa = observations["taxon_id"].is_valid().to_numpy()
        label = np.where(at >= 0, labels[at], -1) if len(labels) else np.full(len(at), -1)
        has_taxon = np.where(at >= 0, taxa[at], False) if len(labels) else np.zeros(len(at), np.bool_)
        rule = np.where(label >= 0, 0, np.where(at < 0, 1, np.where(has_taxon, 3, 2)))
        is_repeated = positions(repeated, photo_ids) >= 0
        good = np.flatnonzero((rule == 0) & ~is_repeated)
        good = good[np.lexsort((photo_ids[good], label[good]))]

        def rows(chosen: Ints) -> pa.Table:
            return _assembled(photos, observations, chosen, at[chosen], rule[chosen])

        run = _Run.write(path, rows(good).select(_RUN.names))
        claimed, refused = np.flatnonzero(is_repeated), np.flatnonzero((rule > 0) & ~is_repeated)
        return run, rows(claimed), rows(refused)

    def _take_in(self, run: _Run, claimed: pa.Table, refused: pa.Table) -> None:
        self._runs.append(run)
        self._cursor.register("joined", claimed)
        self._cursor.execute("INSERT INTO claimed FROM joined")
        self._cursor.register("joined", refused)
        self._cursor.execute(f"INSERT INTO refused SELECT {_REFUSED} FROM joined")
        self._cursor.unregister("joined")

    def _shared_between(self, low: _Place, high: _Place) -> list[pa.Table]:
        before = ["lft < {0} OR (lft = {0} AND photo_id < {1})".format(*place) for place in (low, high)]
        inside = f"NOT ({before[0]}) AND ({before[1]})"
        query = f"SELECT * FROM shared WHERE nth = 1 AND rule IS NULL AND {inside}"
        return list(batches(self._cursor, query, PHOTOS))


# --- keys


def _storage(values: pa.ChunkedArray) -> pa.Array:
    """UUIDs as their 16 bytes."""
    whole = values.combine_chunks()
    return whole.storage if isinstance(whole, pa.ExtensionArray) else whole


def _keys(values: pa.ChunkedArray) -> np.ndarray:
    """UUIDs as pairs of uint64."""
    whole = _storage(values)
    data = np.frombuffer(whole.buffers()[1], np.uint64, 2 * len(whole), 16 * whole.offset)
    return data.reshape(len(whole), 2)


def _mixed(keys: np.ndarray, turn: int) -> np.ndarray:
    """One uint64 of each pair, another one in each `turn`."""
    odd = np.uint64((0x9E3779B97F4A7C15 + 2 * turn * 0x632BE59BD9B4E019) % (1 << 64) | 1)
    mixed = (keys[:, 0] ^ (keys[:, 1] >> np.uint64(29))) * odd + keys[:, 1]
    return mixed ^ (mixed >> np.uint64(31))


def _found(keys: np.ndarray, wanted: np.ndarray) -> Ints:
    """The index in `keys`, which are distinct, of each one wanted, -1 where it is absent."""
    for turn in range(1, 100):
        mixed = _mixed(keys, turn)
        order = np.argsort(mixed)
        known = mixed[order]
        if not (known[1:] == known[:-1]).any():
            break
    else:
        raise LakeError("observation UUIDs cannot be told apart; report this as a fault")
    looked = _mixed(wanted, turn)
    # Sorted, so that neighbours are looked for one after the other.
    by = np.argsort(looked)
    at = np.searchsorted(known, looked[by]).clip(max=len(known) - 1)
    found = np.empty(len(wanted), np.int64)
    found[by] = order[at]
    return np.where((keys[found] == wanted).all(axis=1), found, -1)


def _once(observations: pa.Table) -> pa.Table:
    """Each observation once. Of a repeated one a row is kept; where its rows name different taxa it has none,
    for none can be trusted."""
    keys = _keys(observations["observation_uuid"])
    mixed = np.sort(_mixed(keys, 1))
    if not (mixed[1:] == mixed[:-1]).any():
        return observations
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    in_order = keys[order]
    same = (in_order[1:] == in_order[:-1]).all(axis=1)
    if not same.any():
        return observations
    group = np.cumsum(np.r_[0, ~same])
    several = np.r_[same, False] | np.r_[False, same]
    rows = pl.DataFrame(observations.select(["taxon_id", *_OBSERVATION]).take(pa.array(order[several])))
    rows = rows.with_columns(row=pl.Series(order[several]), group=pl.Series(group[several]))
    rows = rows.sort("group", "taxon_id", *_OBSERVATION, nulls_last=True)
    kept = rows.group_by("group", maintain_order=True).agg(
        pl.col("row").first(), taxa=pl.col("taxon_id").drop_nulls().n_unique()
    )
    distrusted = kept.filter(pl.col("taxa") != 1)["row"].to_numpy()
    chosen = np.sort(np.r_[order[~several], kept["row"].to_numpy()])
    bad = np.zeros(len(observations), np.bool_)
    bad[distrusted] = True
    for name in ("taxon_id", "lft"):
        column = pa.chunked_array([pl.Series(observations[name]).set(pl.Series(bad), None).to_arrow()])
        at = observations.column_names.index(name)
        observations = observations.set_column(at, name, column)
    return observations.take(pa.array(chosen)).combine_chunks()


# --- tables


def _gathered(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.Table]:
    """The columns of a file, many rows at a time."""
    groups: list[int] = []
    rows = 0
    for number in range(file.num_row_groups):
        groups.append(number)
        rows += file.metadata.row_group(number).num_rows
        if rows >= _CUT_ROWS or number == file.num_row_groups - 1:
            yield file.read_row_groups(groups, columns).select(columns).combine_chunks()
            groups, rows = [], 0


def _read(path: Path) -> pa.Table | None:
    """A staged bucket, which is removed; None if nothing was staged."""
    if not path.exists():
        return None
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        table = reader.read_all().combine_chunks()
    path.unlink()
    return table if len(table) else None


def _assembled(
    photos: pa.Table, observations: pa.Table | None, chosen: Ints, at: Ints, rule: Ints
) -> pa.Table:
    """Rows of photos with those of their observations (schema `_JOINED`)."""
    picked = photos.take(pa.array(chosen))
    columns = {name: picked[name] for name in picked.column_names}
    columns["observation_uuid"] = pa.ExtensionArray.from_storage(pa.uuid(), picked[0].combine_chunks())
    for name in ("taxon_id", "lft", *_OBSERVATION):
        if observations is None:
            columns[name] = pa.nulls(len(chosen), _JOINED.field(name).type)
        else:
            columns[name] = observations[name].take(pa.array(at, mask=at < 0))
    columns["rule"] = _RULES.take(pa.array(rule))
    return pa.table([columns[name] for name in _JOINED.names], schema=_JOINED)


class _Run:
    """A bucket's photos in taxon order, on disk; `places` are those of the first row of each slice."""

    def __init__(self, path: Path, places: list[_Place]) -> None:
        self._path, self.places = path, places

    @classmethod
    def write(cls, path: Path, table: pa.Table) -> _Run:
        table = table.combine_chunks()
        labels, photo_ids = table["lft"].to_numpy(), table["photo_id"].to_numpy()
        starts = range(0, len(table), SLICE_ROWS)
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=SLICE_ROWS)
        return cls(path, [(int(labels[at]), int(photo_ids[at])) for at in starts])

    def between(self, low: _Place, high: _Place) -> pa.Table:
        """The rows from `low` to before `high`."""
        first, last = max(0, bisect_right(self.places, low) - 1), bisect_left(self.places, high)
        if first >= last:
            return _RUN.empty_table()
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_file(source) as reader:
            table = pa.Table.from_batches([reader.get_batch(number) for number in range(first, last)])
        labels, photo_ids = table["lft"].to_numpy(), table["photo_id"].to_numpy()
        start, end = (int(_before(labels, photo_ids, place).sum()) for place in (low, high))
        return table.slice(start, end - start)


def _before(labels: Ints, photo_ids: Ints, place: _Place) -> Bools:
    return (labels < place[0]) | ((labels == place[0]) & (photo_ids < place[1]))


def _merged(runs: Iterable[_Run], shared: list[pa.Table], low: _Place, high: _Place) -> pa.Table:
    """The rows of a range in taxon order (schema `PHOTOS`), with their digests."""
    plain = pa.concat_tables([_RUN.empty_table(), *(run.between(low, high) for run in runs)])
    alone = pa.nulls(len(plain), PHOTOS.field("other_observations").type)
    agree = pa.array(np.zeros(len(plain), np.bool_))
    plain = pa.table([*plain.columns, alone, agree], schema=PHOTOS)
    whole = pa.concat_tables([plain, *shared]).combine_chunks()
    order = np.lexsort((whole["photo_id"].to_numpy(), whole["lft"].to_numpy()))
    whole = whole.take(pa.array(order))
    return whole.append_column("digest", pa.array(row_digests(whole)))
