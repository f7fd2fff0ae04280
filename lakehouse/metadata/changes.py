"""What changed from one release to another: which photos, and which partitions are touched at all.

A photo is *added* or *removed*; *relabelled* if its taxon is another one; *relicensed* if only its
licence is; anything else that differs is *other*. A taxon that was renamed or moved in the tree changes
no photo: `taxon_changes` tells of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.engine import RowGroups, batches, files_sql, session
from lakehouse.metadata.intervals import Interval
from lakehouse.metadata.partitions import Plan
from lakehouse.metadata.photos import load_photos_report, photo_files
from lakehouse.metadata.schema import CHANGES, CHANGES_ENCODING, PHOTOS
from lakehouse.progress import task

KINDS = ("added", "removed", "relabelled", "relicensed", "other")
# Photos are compared in so many parts, that what is held at once stays bounded; each has about as many rows.
_PART_ROWS = 12_000_000
_EVERYTHING: tuple[Interval, ...] = ((-(1 << 62), 1 << 62),)

# The label is the place of the taxon among others; it may move although nothing was said about the photo.
_CONTENT = tuple(name for name in PHOTOS.names if name not in ("photo_id", "lft", "taxon_id", "license"))


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
        old, new = (load_photos_report(lake, source_name, release) for release in (before, after))
    counts = dict.fromkeys(KINDS, 0)
    parts = max(1, -(-max(old.photos, new.photos) // _PART_ROWS))
    was, now = (
        files_sql(photo_files(lake, source_name, release, _EVERYTHING)) for release in (before, after)
    )
    with (
        session(lake, connection) as cursor,
        lake.parquet_writer(changes_key(source_name, before, after), CHANGES, **CHANGES_ENCODING) as writer,
        task("Comparing photos", new.photos, "rows") as progress,
    ):
        groups = RowGroups(writer)
        for part in range(parts):
            for table in batches(cursor, _diff_sql(was, now, part, parts), CHANGES):
                for kind, count in _tally(table["change"]):
                    counts[kind] += count
                groups.append(table)
            progress.advance(new.photos // parts)
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


def _diff_sql(before: str, after: str, part: int, parts: int) -> str:
    """The photos of one part that differ: a full join on the photo, whose other columns are hashed first."""

    def side(table: str) -> str:
        where = f"WHERE photo_id % {parts} = {part}" if parts > 1 else ""
        # List and UUID columns as they are: equal values have equal hashes.
        return f"(SELECT photo_id, taxon_id, license, {_hash_sql(_CONTENT)} AS content FROM {table} {where})"

    return f"""
        SELECT coalesce(o.photo_id, n.photo_id) AS photo_id,
               CASE WHEN o.photo_id IS NULL THEN 'added' WHEN n.photo_id IS NULL THEN 'removed'
                    WHEN o.taxon_id <> n.taxon_id THEN 'relabelled'
                    WHEN o.license IS DISTINCT FROM n.license THEN 'relicensed' ELSE 'other' END AS change,
               o.taxon_id AS taxon_id_before, n.taxon_id AS taxon_id_after,
               o.license AS license_before, n.license AS license_after
        FROM {side(before)} o FULL JOIN {side(after)} n ON o.photo_id = n.photo_id
        WHERE o.photo_id IS NULL OR n.photo_id IS NULL OR o.taxon_id <> n.taxon_id
           OR o.license IS DISTINCT FROM n.license OR o.content <> n.content"""


def _hash_sql(columns: Sequence[str]) -> str:
    return f"hash({', '.join(columns)})"


# --- partitions


def fingerprints(lake: Lake, plan: Plan, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What each partition's photos are in the plan's release, as a digest, from one scan.

    Two partitions of one key have equal fingerprints if the same photos with the same columns are in them, in
    whatever order and however the taxa around them were numbered: a partition whose fingerprint did not
    change needs no selection.
    """
    return {
        key: f"{rows}-{total:032x}-{mixed:016x}"
        for key, (rows, total, mixed) in _fingerprints(lake, plan, connection).items()
    }


def _fingerprints(
    lake: Lake, plan: Plan, connection: duckdb.DuckDBPyConnection
) -> dict[str, tuple[int, int, int]]:
    spans = sorted(
        (low, high, number)
        for number, partition in enumerate(plan.partitions)
        for low, high in partition.intervals
    )
    files = photo_files(lake, plan.source, plan.release, [(low, high) for low, high, _ in spans])
    if not files:
        return {}
    lows, highs, numbers = zip(*spans, strict=True)
    table = pa.table(
        {
            "low": pa.array(lows, pa.int64()),
            "high": pa.array(highs, pa.int64()),
            "number": pa.array(numbers, pa.int32()),
        }
    )
    columns = [name for name in PHOTOS.names if name != "lft"]
    with session(lake, connection) as cursor:
        cursor.register("spans", table)
        # By taxon first: taxa are few, and the photos of one are in one partition.
        rows = cursor.execute(f"""
            WITH taxa AS (SELECT lft, count(*) AS photos, sum(hash::HUGEINT) AS total, bit_xor(hash) AS mixed
                          FROM (SELECT lft, {_hash_sql(columns)} AS hash FROM {files_sql(files)}) GROUP BY
                          lft)
            SELECT number, sum(photos)::BIGINT, sum(total)::HUGEINT, bit_xor(mixed)
            FROM taxa ASOF JOIN spans ON lft >= low WHERE lft < high GROUP BY number""").fetchall()
        cursor.unregister("spans")
    return {plan.partitions[number].key: (photos, total, mixed) for number, photos, total, mixed in rows}
