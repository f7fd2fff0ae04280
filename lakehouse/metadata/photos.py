"""The photo table of a release: one row per photo, in taxon order, so that a subtree is one range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from lakehouse.errors import LakeError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.ahead import in_order, one_ahead
from lakehouse.metadata.digests import row_digests
from lakehouse.metadata.engine import RowGroups, session
from lakehouse.metadata.intervals import Interval
from lakehouse.metadata.join import (
    CODED,
    NO_OBSERVATION,
    NO_TAXON,
    UNKNOWN_TAXON,
    WORKERS,
    PhotoJoin,
    bounded,
)
from lakehouse.metadata.schema import (
    DIGESTS,
    DIGESTS_ENCODING,
    DIGESTS_GROUP,
    PHOTOS,
    PHOTOS_ENCODING,
    PHOTOS_GROUP,
    PHOTOS_INDEX,
    PHOTOS_REJECTS,
)
from lakehouse.metadata.tree import Bools, Ints
from lakehouse.progress import Task, task

__all__ = [
    "FILE_ROWS",
    "NO_OBSERVATION",
    "NO_TAXON",
    "UNKNOWN_TAXON",
    "PhotosReport",
    "build_photos",
    "digests_key",
    "load_photos_report",
    "photo_files",
    "photo_keys",
    "photos_key",
    "photos_rejects_key",
    "read_photos",
]

FILE_ROWS = 4_000_000
_WORDS = [one.name for one in PHOTOS if one.type == pa.string()]


class PhotosReport(BaseModel):
    """What became of the raw photo rows of a release, `photos.json`.

    `photos` rows are in the table; `duplicates` repeated a photo in the same observation and were merged;
    `shared_extra` claimed a photo for a further observation; `rejected` counts rows that reach no taxon, by
    rule. Of the photos, `shared` have several observations, `disagreeing` several taxa.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    release_id: str
    raw_rows: int
    photos: int
    duplicates: int
    shared_extra: int
    rejected: dict[str, int]
    shared: int
    disagreeing: int
    files: int

    def accounting(self) -> dict[str, int]:
        """Every raw row under what became of it; the sum is `raw_rows`."""
        return {
            "photos": self.photos,
            "merged duplicates": self.duplicates,
            "further observations of a photo": self.shared_extra,
            **self.rejected,
        }


def photos_key(source_name: str, release_id: str, file: str) -> str:
    """The key of a file of the photo table, for example `part-00000.parquet` or `index.parquet`."""
    return f"tables/{source_name}/{release_id}/photos/{file}"


def photos_rejects_key(source_name: str, release_id: str) -> str:
    """The key of the raw photo rows that reach no taxon."""
    return f"tables/{source_name}/{release_id}/photos.rejects.parquet"


def load_photos_report(lake: Lake, source_name: str, release_id: str) -> PhotosReport:
    """The report of a photo table that is complete; raises NotFoundError."""
    return PhotosReport.model_validate_json(lake.get(_report_key(source_name, release_id)))


def digests_key(part: str) -> str:
    """The key of the digests (schema `DIGESTS`) of the photos in the file of key `part`."""
    return part.replace("/photos/part-", "/photos/digests-")


def photo_files(lake: Lake, source_name: str, release_id: str, intervals: Iterable[Interval]) -> list[str]:
    """URIs of the files that hold photos of these label ranges, in order."""
    return [lake.uri(key) for key in photo_keys(lake, source_name, release_id, intervals)]


def photo_keys(lake: Lake, source_name: str, release_id: str, intervals: Iterable[Interval]) -> list[str]:
    """Keys of the files that hold photos of these label ranges, in order."""
    key = photos_key(source_name, release_id, "index.parquet")
    files, lows, highs = _index(lake, key, lake.size(key))
    return [files[number] for number in np.flatnonzero(_touched(lows, highs, intervals))]


@lru_cache(maxsize=64)
def _index(lake: Lake, key: str, size: int | None) -> tuple[list[str], Ints, Ints]:
    """Keys of a table's files, and the least and the greatest label of each; taking photos back changes
    neither."""
    index = lake.read_table(key)
    files = [f"{key.removesuffix('index.parquet')}{name}" for name in index["file"].to_pylist()]
    return files, index["lft_min"].to_numpy(), index["lft_max"].to_numpy()


def _touched(lows: Ints, highs: Ints, intervals: Iterable[Interval]) -> Bools:
    """Which ranges `[low, high]` hold labels of `intervals`."""
    hit = np.zeros(len(lows), np.bool_)
    for first, last in intervals:
        hit |= (lows < last) & (highs >= first)
    return hit


@lru_cache(maxsize=16)  # of 14 MB at most
def _footer(lake: Lake, key: str, size: int | None) -> tuple[pq.FileMetaData, Ints, Ints]:
    """The footer of a file of a size, and the least and the greatest label of each of its row groups; a file
    from which a photo was taken back has another size."""
    footer = pq.read_metadata(lake.reader(key))
    column = PHOTOS.get_field_index("lft")
    spreads = [footer.row_group(number).column(column).statistics for number in range(footer.num_row_groups)]
    return footer, np.array([one.min for one in spreads]), np.array([one.max for one in spreads])


def read_photos(
    lake: Lake,
    source_name: str,
    release_id: str,
    intervals: Sequence[Interval],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The photos whose labels are in `intervals` (a set), in the table's order.

    Only the row groups that hold some of them are read; footers of the files used last are kept in memory.

    Parameters
    ----------
    columns
        Of `PHOTOS`, in its order; all if None.
    """
    names = PHOTOS.names if columns is None else [name for name in PHOTOS.names if name in columns]
    kinds = PHOTOS if columns is None else pa.schema([PHOTOS.field(name) for name in names])
    # Looking each name up takes longer than reading one photo of all columns.
    wanted = None if columns is None else list(dict.fromkeys(["lft", *names]))
    found = []
    for key in photo_keys(lake, source_name, release_id, intervals):
        footer, lows, highs = _footer(lake, key, lake.size(key))
        groups = np.flatnonzero(_touched(lows, highs, intervals)).tolist()
        # Words are made strings where they are wanted, and not in the whole of the row groups.
        with pq.ParquetFile(lake.reader(key), metadata=footer, read_dictionary=_WORDS) as file:
            table = file.read_row_groups(groups, wanted)
        labels = table["lft"].to_numpy()
        for low, high in intervals:
            first, last = np.searchsorted(labels, [low, high])
            if first < last:
                rows = table.slice(first, last - first).select(names).columns
                # `Table.cast` looks after columns that are what they should be, too.
                plain = [
                    column if column.type == kind else column.cast(kind)
                    for column, kind in zip(rows, kinds.types, strict=True)
                ]
                found.append(pa.Table.from_arrays(plain, schema=kinds))
    return pa.concat_tables(found or [pa.table([pa.nulls(0, kind) for kind in kinds.types], schema=kinds)])


def build_photos(
    lake: Lake, source_name: str, release_id: str, connection: duckdb.DuckDBPyConnection
) -> PhotosReport:
    """Join the raw tables into the photo table (schema `PHOTOS`); done once, its report is returned as it is.

    A photo that several observations claim keeps the lowest observation UUID; the others are listed with it.

    Raises
    ------
    LakeError
        Some raw row is unaccounted for.
    """
    try:
        return load_photos_report(lake, source_name, release_id)
    except NotFoundError:
        pass
    with (
        session(lake, connection) as cursor,
        bounded(cursor),
        lake.scratch() as folder,
        closing(PhotoJoin(cursor, lake, source_name, release_id, folder)) as join,
    ):
        with task("Joining photos", join.raw_rows, "rows") as progress:
            join.run(progress)
        with task("Sorting photos", join.raw_rows, "rows") as progress:
            written = _write(lake, source_name, release_id, join, progress)
    report = PhotosReport(
        source=source_name,
        release_id=release_id,
        raw_rows=join.raw_rows,
        photos=sum(part.rows for part in written.parts),
        duplicates=join.duplicates,
        shared_extra=join.shared_extra,
        rejected=dict(sorted(written.rejected.items())),
        shared=sum(part.shared for part in written.parts),
        disagreeing=sum(part.disagreeing for part in written.parts),
        files=len(written.parts),
    )
    found = sum(report.accounting().values())
    if found != join.raw_rows:
        raise LakeError(
            f"release {release_id} of {source_name}: {found:,} of {join.raw_rows:,} raw photo rows are "
            "accounted for; the photo table was not finished; report this as a fault"
        )
    lake.put(_report_key(source_name, release_id), report.model_dump_json(indent=1).encode())
    return report


def _report_key(source_name: str, release_id: str) -> str:
    return f"tables/{source_name}/{release_id}/photos.json"


# --- writing


@dataclass(slots=True)
class _Part:
    """What passed by while a file was written."""

    file: str
    lft_min: int = 0
    lft_max: int = 0
    rows: int = 0
    shared: int = 0
    disagreeing: int = 0


@dataclass(slots=True)
class _Written:
    """The files of the table, and how many rows were rejected by each rule."""

    parts: list[_Part] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def _write(lake: Lake, source_name: str, release_id: str, join: PhotoJoin, progress: Task) -> _Written:
    """Write the rejects, the files and their index."""
    written = _Written()
    with lake.parquet_writer(photos_rejects_key(source_name, release_id), PHOTOS_REJECTS) as writer:
        rejects = RowGroups(writer)
        for table in join.rejected():
            rejects.append(table)
            written.rejected.update(table["rule"].to_pylist())
        rejects.finish()

    def write(numbered: tuple[int, range]) -> _Part:
        number, taxa = numbered
        key = photos_key(source_name, release_id, f"part-{number:05}.parquet")
        return _write_part(lake, key, join.sorted(taxa, DIGESTS_GROUP))

    for part in in_order(write, enumerate(join.files(FILE_ROWS)), WORKERS):
        written.parts.append(part)
        progress.advance(part.rows)
    index = [
        {"file": part.file, "lft_min": part.lft_min, "lft_max": part.lft_max, "rows": part.rows}
        for part in written.parts
    ]
    with lake.parquet_writer(photos_key(source_name, release_id, "index.parquet"), PHOTOS_INDEX) as writer:
        writer.write_table(pa.Table.from_pylist(index, schema=PHOTOS_INDEX))
    return written


def _write_part(lake: Lake, key: str, photos: Iterator[pa.Table]) -> _Part:
    """Write a file of photos from tables of whole row groups, and their digests beside them."""
    part = _Part(key.rsplit("/", 1)[-1])
    digests = pa.schema(
        CODED.field(name) if name in CODED.names else DIGESTS.field(name) for name in DIGESTS.names
    )
    with (
        lake.parquet_writer(key, CODED, **PHOTOS_ENCODING) as target,
        lake.parquet_writer(digests_key(key), digests, **DIGESTS_ENCODING) as beside,
    ):
        for table, digest in one_ahead((table, row_digests(table)) for table in photos):
            target.write_table(table, row_group_size=PHOTOS_GROUP)
            beside.write_table(pa.table([*table.select(DIGESTS.names[:-1]).columns, digest], schema=digests))
            labels = table["lft"].chunk(0).dictionary
            part.lft_min = part.lft_min if part.rows else labels[0].as_py()
            part.lft_max = labels[-1].as_py()
            part.rows += len(table)
            part.shared += len(table) - table["other_observations"].null_count
            part.disagreeing += pc.sum(table["taxa_disagree"]).as_py()
    return part
