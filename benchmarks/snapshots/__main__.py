"""What versions cost, measured in one run on a lake made for it: building, comparing, verifying, near copies.

Each figure is shown beside the one that it is held to. Verification is held against the sha256 floor of the
same bytes on the same number of threads, measured in turns with it, for a processor without SHA instructions
hashes more slowly than a disk reads.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.snapshots.lake import CAMPAIGN, SOURCE, Million
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots.build import SnapshotBuild, build_snapshot
from lakehouse.snapshots.diff import diff
from lakehouse.snapshots.duplicates import duplicates
from lakehouse.snapshots.verify import verify


def show(what: str, value: float, most: float, unit: str) -> None:
    """Print a figure beside what it is held to."""
    verdict = "ok    " if value <= most else "MISSED"
    print(f"  {verdict} {what}: {value:.3g} {unit} (at most {most:g})", flush=True)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result of some work, its seconds, and its processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def held(lake: Lake) -> int:
    """Bytes of what versions consist of."""
    return sum(entry.size for folder in ("snapshots", "refs") for entry in lake.entries(folder))


def build(lake: Lake) -> SnapshotBuild:
    """The next version."""
    with lake.connect() as connection:
        return build_snapshot(lake, CAMPAIGN, SOURCE, "https://example.org", connection)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshots", description=__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--tar-megabytes", type=int, default=20, help="of each shard of 10,000 photos")
    parser.add_argument("--rounds", type=int, default=3, help="runs of what is compared")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "bench-snapshots"))
    chosen = parser.parse_args()
    print("command:", " ".join(["python -m benchmarks.snapshots", *sys.argv[1:]]))
    packages = ("duckdb", "polars", "pyarrow", "deltalake")
    print("versions: python", platform.python_version(), *(f"{name} {version(name)}" for name in packages))
    print(f"processors: {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")
    shutil.rmtree(chosen.work, ignore_errors=True)
    lake = Lake(str(chosen.work), Settings(_env_file=None))
    million, seconds, _ = timed(lambda: Million(lake, chosen.photos, chosen.tar_megabytes << 20))
    print(f"lake of {chosen.photos:,} photos made in {seconds:.0f} s")

    print("\nbuild")
    first, seconds, cpu = timed(lambda: build(lake))
    print(
        f"         the first version: {seconds:.1f} s ({cpu:.1f} s of processor), {held(lake) / 1e6:.1f} MB"
    )
    before = held(lake)
    again, seconds, cpu = timed(lambda: build(lake))
    assert not again.created
    show(
        f"nothing new ({seconds:.1f} s, {cpu:.1f} s of processor): adds", (held(lake) - before) / 1e6, 0, "MB"
    )
    million.relabel(0.01)
    before = held(lake)
    second, seconds, cpu = timed(lambda: build(lake))
    print(f"         {second.version.changes['relabelled']:,} photos relabelled, in every partition")
    show("1 % relabelled adds", (held(lake) - before) / 1e6, 5, "MB")
    show("1 % relabelled takes", seconds, 3, "s")
    show("1 % relabelled takes, processor", cpu, 3 * (os.cpu_count() or 1), "s")
    million.lose(0.01, datetime(2026, 2, 1, tzinfo=UTC))
    third, seconds, cpu = timed(lambda: build(lake))
    print(f"         1 % gone, every part another: {seconds:.1f} s ({cpu:.1f} s of processor)")

    print("\ndiff")
    for name, old, new in (("1 % relabelled", first, second), ("relabelled and gone", first, third)):
        runs = []
        for _ in range(chosen.rounds):
            with lake.connect() as connection:
                found, seconds, _ = timed(partial(diff, connection, lake, old.root, new.root))
            runs.append(seconds)
        totals = {kind: count for kind, count in found.totals.items() if count}
        show(f"{name} {totals}", statistics.median(runs), 2, "s")

    print("\nverify")
    files = [Path(lake.uri(file.key)) for file in third.root.files()]
    ours, floor, read = [], [], []
    for _ in range(chosen.rounds):
        result, seconds, _ = timed(lambda: verify(lake, third.version.ref, sample=0.999))
        assert result.whole, result.problems
        ours.append(result.bytes / seconds / 1e6)
        for hashing, speeds in ((True, floor), (False, read)):
            one = partial(_read, hashing=hashing)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                counts, seconds, _ = timed(partial(_all, pool, one, files))
            speeds.append(sum(counts) / seconds / 1e6)
    ours_speed, floor_speed = statistics.median(ours), statistics.median(floor)
    print(
        f"         reads {ours_speed:.0f} MB/s; sha256 alone {floor_speed:.0f}; reading alone "
        f"{statistics.median(read):.0f} (page cache)"
    )
    show("the sha256 floor against ours", floor_speed / ours_speed, 1.15, "times")
    _, seconds, cpu = timed(lambda: verify(lake, third.version.ref))
    print(f"         with counts and content_id {seconds:.1f} s ({cpu:.1f} s of processor)")

    print("\nnear copies")
    for distance in (2, 4):
        with lake.connect() as connection:
            found, seconds, cpu = timed(partial(duplicates, connection, lake, first.root, distance=distance))
        near = found.counts["near"]
        told = f"distance {distance}: {near['photos']:,} photos in {near['groups']:,} groups"
        print(f"         {told}: {seconds:.1f} s ({cpu:.1f} s of processor)")
    shutil.rmtree(chosen.work)


def _all(pool: ThreadPoolExecutor, work: Callable[[Path], int], files: list[Path]) -> list[int]:
    return list(pool.map(work, files))


def _read(file: Path, hashing: bool) -> int:
    digest, buffer, size = hashlib.sha256(), bytearray(1 << 20), 0
    view = memoryview(buffer)
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            size += count
            if hashing:
                digest.update(view[:count])
    return size


if __name__ == "__main__":
    main()
