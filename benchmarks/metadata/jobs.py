"""One measured piece of work, in a process of its own: `python -m benchmarks.metadata.jobs NAME ARGUMENTS`.

Prints one JSON line: wall and CPU seconds of the work (without imports), the process's peak memory, and what
the job itself counted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SOURCE = "bench"


def _lake(root: str) -> Any:
    from lakehouse.lake import Lake
    from lakehouse.settings import Settings

    return Lake(root, Settings(_env_file=None))


def _release(root: str, number: int = -1) -> tuple[Any, str]:
    from lakehouse.metadata.ingest import list_releases

    lake = _lake(root)
    return lake, list_releases(lake, SOURCE)[number]


def decode(file: str) -> Callable[[], dict[str, object]]:
    """Inflate with ISA-L and do nothing else: what no reader of gzip can be faster than."""
    from isal import isal_zlib

    def run() -> dict[str, object]:
        inflater, size = isal_zlib.decompressobj(31), 0
        with Path(file).open("rb") as stream:
            while piece := stream.read(1 << 20):
                size += len(inflater.decompress(piece))
        return {"bytes": size}

    return run


def ingest(directory: str, root: str) -> Callable[[], dict[str, object]]:
    """Our ingest of all tables."""
    from lakehouse.metadata.ingest import ingest_release, raw_table_key
    from lakehouse.sources.inaturalist import InaturalistSource

    lake = _lake(root)
    source = InaturalistSource(SOURCE, directory, lake.settings)

    def run() -> dict[str, object]:
        release = ingest_release(lake, source, source.current_release())
        sizes = {}
        for table in release.tables:
            written = lake.size(raw_table_key(SOURCE, release.release_id, table.name))
            sizes[table.name] = [table.lines, table.rows, table.rejected, table.blank, written, table.size]
        return {"tables": sizes}

    return run


def ingest_photos(directory: str, root: str) -> Callable[[], dict[str, object]]:
    """Our ingest of the photos alone, as the peers do it."""
    from lakehouse.metadata import ingest as module
    from lakehouse.sources.base import TableStream
    from lakehouse.sources.inaturalist import InaturalistSource

    lake = _lake(root)
    source = InaturalistSource(SOURCE, directory, lake.settings)
    release = source.current_release()
    file = next(table for table in release.tables if table.name == "photos")

    def run() -> dict[str, object]:
        report = module._ingest_table(lake, source, "photos-only", TableStream(file, source.read_table(file)))
        written = lake.size(module.raw_table_key(SOURCE, "photos-only", "photos"))
        return {"rows": report.rows, "bytes": written, "gz": file.size}

    return run


_COLUMNS = {
    "photo_uuid": "UUID",
    "photo_id": "BIGINT",
    "observation_uuid": "UUID",
    "observer_id": "INTEGER",
    "extension": "VARCHAR",
    "license": "VARCHAR",
    "width": "INTEGER",
    "height": "INTEGER",
    "position": "INTEGER",
}


def duckdb_copy(file: str, out: str) -> Callable[[], dict[str, object]]:
    """DuckDB: COPY (read_csv) TO Parquet, typed, zstd."""
    import duckdb

    connection = duckdb.connect()

    def run() -> dict[str, object]:
        connection.execute(
            f"COPY (SELECT * FROM read_csv('{file}', delim='\t', quote='\x08', header=true, "
            f"columns={_COLUMNS})) "
            f"TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
        )
        return {"bytes": Path(out).stat().st_size}

    return run


def polars_sink(file: str, out: str) -> Callable[[], dict[str, object]]:
    """Polars: scan_csv, sink_parquet, zstd; UUIDs as text, for it has no type for them."""
    import polars as pl

    kinds = {"BIGINT": pl.Int64, "INTEGER": pl.Int32}
    schema = {name: kinds.get(kind, pl.String) for name, kind in _COLUMNS.items()}

    def run() -> dict[str, object]:
        scan = pl.scan_csv(file, separator="\t", quote_char=None, schema=schema)
        scan.sink_parquet(out, compression="zstd", compression_level=1)
        return {"bytes": Path(out).stat().st_size}

    return run


def taxa(root: str, number: str = "-1") -> Callable[[], dict[str, object]]:
    """Our taxonomy: intervals and ranks."""
    from lakehouse.metadata.taxonomy import build_taxa

    lake, release = _release(root, int(number))

    def run() -> dict[str, object]:
        report = build_taxa(lake, SOURCE, release)
        return {"taxa": report.taxa, "moved": report.moved}

    return run


def photos(root: str, number: str = "-1") -> Callable[[], dict[str, object]]:
    """Our photo table."""
    from lakehouse.metadata.photos import build_photos, photos_key

    lake, release = _release(root, int(number))

    def run() -> dict[str, object]:
        with lake.connect() as connection:
            report = build_photos(lake, SOURCE, release, connection)
        files = [f"part-{part:05}.parquet" for part in range(report.files)]
        size = sum(lake.size(photos_key(SOURCE, release, file)) or 0 for file in files)
        return {"photos": report.photos, "bytes": size}

    return run


def duckdb_join(root: str, out: str) -> Callable[[], dict[str, object]]:
    """The same join and order in one DuckDB query with 8 GB."""
    import duckdb

    from lakehouse.metadata.ingest import raw_table_key
    from lakehouse.metadata.taxonomy import taxa_key

    lake, release = _release(root)
    connection = duckdb.connect(config={"memory_limit": "8GB", "preserve_insertion_order": False})
    raw = {name: lake.uri(raw_table_key(SOURCE, release, name)) for name in ("photos", "observations")}

    def run() -> dict[str, object]:
        connection.execute(f"""
            COPY (SELECT p.photo_id, t.lft, o.taxon_id, p.observation_uuid, p.observer_id, p.extension,
                         p.license, p.width, p.height, p.position, o.latitude, o.longitude,
                         o.positional_accuracy, o.quality_grade, o.observed_on
                  FROM '{raw["photos"]}' p JOIN '{raw["observations"]}' o USING (observation_uuid)
                  JOIN '{lake.uri(taxa_key(SOURCE, release))}' t USING (taxon_id) ORDER BY lft, photo_id)
            TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 65536)""")
        return {}

    return run


def subtrees(root: str, unsorted: str) -> Callable[[], dict[str, object]]:
    """Photos of taxa of all sizes, warm: by the sorted table, and by a scan of an unsorted one."""
    import duckdb
    import numpy as np
    import pyarrow.parquet as pq

    from lakehouse.metadata.engine import files_sql
    from lakehouse.metadata.photos import photo_files, read_photos
    from lakehouse.metadata.taxonomy import Taxonomy

    lake, release = _release(root)
    taxonomy = Taxonomy.load(lake, SOURCE, release)
    connection = duckdb.connect()
    lake.attach(connection)
    everything = files_sql(photo_files(lake, SOURCE, release, [(-(1 << 62), 1 << 62)]))
    if not Path(unsorted).exists():
        connection.execute(f"COPY (SELECT * FROM {everything} ORDER BY hash(photo_id)) TO '{unsorted}'")
    counts = dict(connection.execute(f"SELECT taxon_id, count(*) FROM {everything} GROUP BY 1").fetchall())
    own = np.array([counts.get(int(taxon_id), 0) for taxon_id in taxonomy.taxon_ids])
    before = np.r_[0, np.cumsum(own)]
    last = np.searchsorted(taxonomy.lft, taxonomy.rgt)
    totals = before[last] - before[:-1]

    def timed(read: Callable[[], Any]) -> tuple[int, float]:
        rows, times = len(read()), []
        for _ in range(20):
            started = time.perf_counter()
            read()
            times.append((time.perf_counter() - started) * 1000)
        return rows, float(np.median(times))

    def groups_read(low: int, high: int) -> tuple[int, int]:
        """Row groups that a range touches, and those that its rows would fill."""
        touched = rows = 0
        for file in photo_files(lake, SOURCE, release, [(low, high)]):
            metadata = pq.ParquetFile(file).metadata
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                spread = group.column(1).statistics
                if spread.min < high and spread.max >= low:
                    touched, rows = touched + 1, group.num_rows
        return touched, rows

    def run() -> dict[str, object]:
        found = []
        for wanted in (1, 100, 1_000, 10_000, 100_000):
            row = int(np.argmin(np.abs(totals - wanted)))
            taxon = taxonomy.at(row)
            low, high = taxon.interval
            scan = f"SELECT * FROM '{unsorted}' WHERE lft >= {low} AND lft < {high}"
            rows, fast = timed(partial(read_photos, lake, SOURCE, release, [taxon.interval]))
            same, slow = timed(lambda scan=scan: connection.sql(scan).to_arrow_table())
            assert rows == same
            touched, size = groups_read(low, high)
            found.append([rows, round(fast, 1), round(slow, 1), touched, -(-rows // max(1, size)) + 2])
        return {"reads": found}

    return run


def diff(root: str) -> Callable[[], dict[str, object]]:
    """The photos that changed between the two newest releases."""
    from lakehouse.metadata.changes import diff_photos

    lake, after = _release(root)
    before = _release(root, -2)[1]

    def run() -> dict[str, object]:
        with lake.connect() as connection:
            report = diff_photos(lake, SOURCE, before, after, connection)
        return {"counts": report.counts, "rows": report.unchanged + sum(report.counts.values())}

    return run


def fingerprint(root: str) -> Callable[[], dict[str, object]]:
    """Fingerprints of a hundred or so partitions of everything."""
    from lakehouse.campaign import Campaign
    from lakehouse.metadata.changes import fingerprints
    from lakehouse.metadata.partitions import build_plan

    lake, release = _release(root)
    campaign = Campaign.model_validate(
        {
            "name": "everything",
            "title": "t",
            "description": "d",
            "creators": [{"name": "n"}],
            "taxa": [48460],
            "taxa_missing": "skip",
        }
    )
    plan = build_plan(lake, campaign, SOURCE, release)

    def run() -> dict[str, object]:
        return {"partitions": len(fingerprints(lake, plan))}

    return run


def _peak() -> float:
    """The most memory this process had, in MB; the kernel's count for a child begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the job that the command line names."""
    import numpy as np
    import pyarrow as pa

    # Arrow imports pandas, where it is installed, with the first array.
    pa.array(np.zeros(1))
    name, *arguments = sys.argv[1:]
    work: Callable[[], dict[str, object]] = globals()[name](*arguments)
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    found |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    found["rss_mb"] = _peak()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
