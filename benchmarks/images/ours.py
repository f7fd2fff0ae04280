"""One build of a new lake from the origin, in a process of its own; prints one line of JSON.

Usage: ours.py URL IMAGES CONNECTIONS CHECK MAX_SIDE DIGESTS ENGINE FOLDER

MAX_SIDE 0: keep the original bytes. DIGESTS 0: with a stand-in for sha256, to see what the rest costs.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import polars as pl

from lakehouse.campaign import ImageSpec
from lakehouse.images.build import store_photos
from lakehouse.lake import Lake
from lakehouse.settings import Settings


def main() -> None:
    """Build, measure, remove."""
    url, images, connections, check, max_side, digests, engine, folder = sys.argv[1:]
    if digests == "0":
        hashlib.sha256 = _Unhashed  # type: ignore[assignment, misc]
    # Beyond the corpus, photographs come round again under other ids.
    served = pl.format("{}/photos/{}/medium.jpg", pl.lit(url), (pl.col("photo_id") - 1) % CORPUS + 1)
    photos = pl.select(photo_id=pl.int_range(1, int(images) + 1)).with_columns(url=served)
    settings = Settings(connections=int(connections), check=check, engine=engine)  # type: ignore[arg-type]
    image = ImageSpec(max_side=int(max_side), format="jpeg", quality=90) if int(max_side) else ImageSpec()
    # Start-up is left out, as it is of img2dataset's figures: one photograph first, in a lake of its own.
    store_photos(Lake(f"{folder}-first", settings), "bench", photos.head(1), image=image, settings=settings)
    shutil.rmtree(f"{folder}-first")
    lake = Lake(folder, settings)
    workers = Peaks() if engine != "inline" else None
    before, began = cpu(), time.perf_counter()
    report = store_photos(lake, "bench", photos, image=image, settings=settings)
    seconds, spent = time.perf_counter() - began, cpu() - before
    shutil.rmtree(folder)
    result = {
        "images": report.stored,
        "failed": report.requested - report.stored,
        "seconds": seconds,
        "cpu": spent,
        "rss": peak("self"),
        "worker_rss": workers.largest if workers else 0,
        "reasons": report.by_reason,
    }
    print(json.dumps(result))


class Peaks(threading.Thread):
    """Looks after the memory of the worker processes as long as there are any; `largest` in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0
        self.start()

    def run(self) -> None:
        while True:
            for children in Path("/proc/self/task").glob("*/children"):
                for child in children.read_text().split():
                    # One may end between being listed and being looked at.
                    with suppress(OSError):
                        self.largest = max(self.largest, peak(child))
            time.sleep(0.2)


def peak(process: str) -> int:
    """The most memory that a process had resident so far, in bytes (unlike getrusage's, from its exec on)."""
    told = Path("/proc", process, "status").read_text()
    return next((int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("VmHWM")), 0)


class _Unhashed:
    """Looks like a sha256, and differs with the size and the first bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self._size, self._first = len(data), bytes(data[:8])

    def update(self, data: bytes) -> None:
        self._size += len(data)

    def digest(self) -> bytes:
        return (self._size.to_bytes(8, "big") + self._first).ljust(32, b"\1")

    def hexdigest(self) -> str:
        return self.digest().hex()


def cpu() -> float:
    """CPU seconds of this process and of children that ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


CORPUS = int(Path("corpus-size").read_text()) if Path("corpus-size").exists() else 10_000

if __name__ == "__main__":
    main()
