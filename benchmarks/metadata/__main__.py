"""Every figure that the metadata floor is held to, measured in one run against its peers.

Each piece of work is a process of its own; the ones that are compared take turns, and the median of the
rounds is shown. A figure below its threshold is marked `ok`, one above it `MISSED`.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.metadata.dump import Dump, Hazards, write_dump
from benchmarks.metadata.peers import postgres_copy, sqlite_import

Figures = dict[str, Any]


def job(name: str, *arguments: object) -> Figures:
    """Run one job and read its figures."""
    command = [sys.executable, "-m", "benchmarks.metadata.jobs", name, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(what: str, value: float, most: float, unit: str = "") -> None:
    """Print a figure beside its threshold."""
    print(
        f"  {'ok    ' if value <= most else 'MISSED'} {what}: {value:.3g}{unit} (at most {most:g}{unit})",
        flush=True,
    )


def median(runs: list[Figures], figure: str) -> float:
    """The middle one of several measurements."""
    return statistics.median(float(run[figure]) for run in runs)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metadata", description=__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000, help="rows of the dump (default 1,000,000)")
    parser.add_argument("--taxa", type=int, default=1_400_000, help="taxa of the dump (default 1,400,000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each compared job")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir(), "bench-metadata"), help="folder to work in"
    )
    parser.add_argument("--only", nargs="*", choices=[*PARTS], default=[*PARTS][:-1], help="parts to run")
    chosen = parser.parse_args()
    print("command:", " ".join(["python -m benchmarks.metadata", *sys.argv[1:]]))
    packages = ("duckdb", "polars", "pyarrow", "isal", "numpy")
    print("versions: python", platform.python_version(), *(f"{name} {version(name)}" for name in packages))
    chosen.work.mkdir(parents=True, exist_ok=True)
    chosen.work.chmod(0o755)
    dumps = Dumps(chosen.work, chosen.photos, chosen.taxa)
    for part in chosen.only:
        print(f"\n{part}")
        PARTS[part](chosen, dumps)


class Dumps:
    """The dumps of a size in a folder, each made when it is first asked for."""

    def __init__(self, work: Path, photos: int, taxa: int) -> None:
        self._work, self._size = work, f"{photos}-{taxa}"
        observations, clean = round(photos / 1.924), Hazards(malformed=0)
        self._known = {
            "clean": Dump(observations, taxa, hazards=clean),
            "month": Dump(observations, taxa, month=2, hazards=clean),
            "twice": Dump(2 * observations, taxa, hazards=clean),
            "quarter": Dump(observations // 4, 10_000, hazards=clean),
            "dirty": Dump(observations // 4, 10_000, hazards=Hazards(malformed=1e-5)),
        }

    def __getitem__(self, name: str) -> Path:
        """The folder of the dump `clean`, its next `month`, one of `twice` the size, of a `quarter`, or a
        `dirty` one."""
        found = self._work / f"{name}-{self._size}"
        if not (found / "done").exists():
            started = time.perf_counter()
            write_dump(found, self._known[name])
            (found / "done").touch()
            print(f"  dump {found.name}: {time.perf_counter() - started:.0f} s")
        return found


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def ingest(chosen: argparse.Namespace, dumps: Dumps) -> None:
    """gzip'd TSV to typed Parquet."""
    file, work = dumps["clean"] / "photos.csv.gz", chosen.work
    runs: dict[str, list[Figures]] = {name: [] for name in ("decode", "ours", "duckdb", "polars")}
    for _ in range(chosen.rounds):
        runs["decode"].append(job("decode", file))
        runs["ours"].append(job("ingest_photos", dumps["clean"], _fresh(work / "ingest")))
        runs["duckdb"].append(job("duckdb_copy", file, work / "duckdb.parquet"))
        runs["polars"].append(job("polars_sink", file, work / "polars.parquet"))
    for name, found in runs.items():
        wall, cpu, rss = (median(found, figure) for figure in ("wall", "cpu", "rss_mb"))
        print(f"  {name:8} {wall:6.2f} s wall {cpu:6.2f} s CPU {rss:6.0f} MB")
    ours = median(runs["ours"], "wall")
    show("wall / DuckDB COPY", ours / median(runs["duckdb"], "wall"), 0.55)
    show("wall / Polars sink", ours / median(runs["polars"], "wall"), 0.75)
    show("CPU / bare ISA-L decode", median(runs["ours"], "cpu") / median(runs["decode"], "cpu"), 4.5)
    for peer, most in ((sqlite_import, 1 / 5), (postgres_copy, 1 / 3)):
        found = peer(file, work)
        if isinstance(found, str):
            print(f"  {peer.__name__}: {found}")
        else:
            print(f"  {peer.__name__} {found['wall']:.2f} s wall")
            show(f"wall / {peer.__name__}", ours / found["wall"], most)
    rss = median(runs["ours"], "rss_mb")
    show("peak memory", rss, 512, " MB")
    small = job("ingest_photos", dumps["quarter"], _fresh(work / "ingest"))
    show("peak memory at 4 x the rows", rss / float(small["rss_mb"]), 1.15)
    show("bytes written / gz bytes", runs["ours"][0]["bytes"] / runs["ours"][0]["gz"], 0.67)
    dirty = job("ingest", dumps["dirty"], _fresh(work / "dirty-lake"))
    for name, (lines, rows, rejected, blank, *_) in dirty["tables"].items():
        verdict = "ok    " if rows + rejected + blank + 1 == lines else "MISSED"
        print(f"  {verdict} dirty {name}: {rows:,} rows, {rejected} rejected, {blank} blank of {lines:,}")


def lake(chosen: argparse.Namespace, dumps: Dumps) -> None:
    """Taxonomy and photo table of two months, and what the join costs."""
    root = _fresh(chosen.work / "lake")
    for number, name in enumerate(("clean", "month")):
        job("ingest", dumps[name], root)
        taxa = job("taxa", root, number)
        print(f"  taxa {taxa['taxa']:,}: {taxa['wall']:.2f} s wall, {taxa['rss_mb']:.0f} MB")
        show("CPU", taxa["cpu"], 5, " s")
        if number:
            show("labels moved in a month", 100 * taxa["moved"] / taxa["taxa"], 0.5, " %")
        photos = job("photos", root, number)
        print(f"  photos {photos['photos']:,}: {photos['wall']:.2f} s wall {photos['cpu']:.2f} s CPU")
        show("peak memory", photos["rss_mb"], 1024, " MB")
        show("bytes a photo", photos["bytes"] / photos["photos"], 28, " B")
    joined = job("duckdb_join", root, chosen.work / "joined.parquet")
    # The threshold is for 40 M photos: `--only join`.
    print(f"         wall / DuckDB with 8 GB: {photos['wall'] / joined['wall']:.3g}")


def join(chosen: argparse.Namespace, dumps: Dumps) -> None:
    """The photo table of a dump and of one of twice the size, against DuckDB with 8 GB."""
    runs: dict[str, list[Figures]] = {"ours": [], "duckdb": []}
    root = _fresh(chosen.work / "join-lake")
    _raw_and_taxa(dumps["clean"], root)
    for _ in range(chosen.rounds):
        for table in root.glob("tables/*/*/photos*"):
            _fresh(table) if table.is_dir() else table.unlink()
        runs["ours"].append(job("photos", root))
        runs["duckdb"].append(job("duckdb_join", root, chosen.work / "joined.parquet"))
    for name, found in runs.items():
        wall, cpu, rss = (median(found, figure) for figure in ("wall", "cpu", "rss_mb"))
        print(f"  {name:8} {wall:6.2f} s wall {cpu:6.2f} s CPU {rss:6.0f} MB")
    rss = median(runs["ours"], "rss_mb")
    show("peak memory", rss, 1024, " MB")
    show("wall / DuckDB with 8 GB", median(runs["ours"], "wall") / median(runs["duckdb"], "wall"), 1.4)
    _raw_and_taxa(dumps["twice"], _fresh(root))
    twice = job("photos", root)
    print(f"  {twice['photos']:,} photos: {twice['wall']:.2f} s wall {twice['cpu']:.2f} s CPU")
    show("peak memory at twice the rows", twice["rss_mb"], 1024, " MB")
    show("peak memory at twice the rows / peak memory", twice["rss_mb"] / rss, 1.1)
    _fresh(root)


def _raw_and_taxa(dump: Path, root: Path) -> None:
    job("ingest", dump, root)
    job("taxa", root)


def reads(chosen: argparse.Namespace, dumps: Dumps) -> None:
    """Any taxon at any rank, warm (needs `lake`)."""
    unsorted = chosen.work / "unsorted.parquet"
    unsorted.unlink(missing_ok=True)
    found = job("subtrees", chosen.work / "lake", unsorted)["reads"]
    for rows, fast, slow, touched, allowed in found:
        print(f"  {rows:,} rows: {fast} ms, unsorted {slow} ms, {slow / fast:.0f} x")
        show("row groups read", touched, allowed)
        if rows <= 10_000:
            show("time", fast, 10, " ms")
            show("share of the unsorted scan", fast / slow, 1 / 20)


def changes(chosen: argparse.Namespace, dumps: Dumps) -> None:
    """Row diff and fingerprints (needs `lake`)."""
    root = chosen.work / "lake"
    for file in root.glob("tables/*/*/changes/*"):
        file.unlink()
    diff, marks = job("diff", root), job("fingerprint", root)
    print(f"  {diff['counts']} of {diff['rows']:,}: {diff['wall']:.2f} s wall {diff['rss_mb']:.0f} MB")
    show("row diff", 1e6 * diff["wall"] / diff["rows"], 0.1, " µs/row")
    show("fingerprints / row diff", marks["wall"] / diff["wall"], 0.5)


PARTS = {"ingest": ingest, "lake": lake, "reads": reads, "changes": changes, "join": join}

if __name__ == "__main__":
    main()
