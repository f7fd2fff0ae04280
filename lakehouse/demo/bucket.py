"""Writes the embedded source to a directory laid out like the public bucket: tables, photographs, faults.

`month.json` is the marker: it goes first when a month is begun and comes back last when the month is whole,
so that a directory without it is unfinished and a second call for the same month costs one read.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from lakehouse.demo import taxa as facts
from lakehouse.demo.drawing import photograph
from lakehouse.demo.rows import Photo
from lakehouse.demo.tables import Release, release
from lakehouse.errors import SourceError

TABLES = ("observations", "observers", "photos", "taxa")
PUBLISHED = {1: datetime(2026, 7, 27, 4, 0, tzinfo=UTC), 2: datetime(2026, 8, 27, 4, 0, tzinfo=UTC)}

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_MARKER = "month.json"
_RECIPE = 1  # raise it when the rows or the drawing change: directories of an older recipe are written anew
_LEVEL = 6
_POOL_FROM = 200  # photographs; fewer are drawn before a pool of processes has started
_CHUNK = 25
_GONE = frozenset({"404", "403"})  # the object is not in the bucket at all
_HEADERS = {
    "observations": (
        "observation_uuid observer_id latitude longitude positional_accuracy taxon_id quality_grade "
        "observed_on anomaly_score"
    ),
    "observers": "observer_id login name",
    "photos": "photo_uuid photo_id observation_uuid observer_id extension license width height position",
    "taxa": " ".join(facts.HEADER),
}


def current_month(directory: Path) -> int | None:
    """The month that stands whole in the directory; None if there is none or it was left unfinished."""
    marker = _read_marker(directory)
    return None if marker is None else marker["month"]


def _read_marker(directory: Path) -> dict[str, int] | None:
    path = directory / _MARKER
    if not path.exists():
        return None
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        return {
            "month": int(marker["month"]),
            "photos": int(marker["photos"]),
            "recipe": int(marker["recipe"]),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not a marker of the embedded source ({error}); remove it") from error


def photo_path(photo: Photo) -> str:
    """The key of the photo's medium file in the bucket."""
    return f"photos/{photo.photo_id}/medium.{photo.extension}"


def write_bucket(
    directory: Path, month: int = 1, photos: int = 1500, progress: Progress | None = None
) -> None:
    """Make the directory hold the given month of the embedded source.

    Nothing happens if it does already. Over another month of the same size only what differs is written: the
    tables are replaced one by one (each whole at any moment), photographs are added and removed.

    Parameters
    ----------
    directory
        Created if missing.
    month
        1 or 2.
    photos
        How many photos the first month has; 300 or more.
    progress
        Called with (photographs done, photographs to draw).
    """
    directory = Path(directory)
    wanted = {"month": month, "photos": photos, "recipe": _RECIPE}
    standing = _read_marker(directory)
    if standing == wanted:
        return
    rows = release(month, photos)
    keys = {photo_path(photo): photo for photo in rows.photos if not _is_gone(rows, photo.photo_id)}
    same_size = standing is not None and {**standing, "month": month} == wanted
    fresh = not (directory / "photos").exists()
    (directory / "photos").mkdir(parents=True, exist_ok=True)
    (directory / _MARKER).unlink(missing_ok=True)
    missing = {key: p for key, p in keys.items() if not same_size or not (directory / key).exists()}
    _draw(directory, rows, missing, progress)
    for name, text in _tables(rows).items():
        _replace(directory / f"{name}.csv.gz", gzip.compress(text.encode(), _LEVEL, mtime=0), month)
    faults = json.dumps({str(key): fault for key, fault in sorted(rows.hazards.faults.items())}, indent=1)
    _replace(directory / "faults.json", (faults + "\n").encode(), month)
    for key in set() if fresh else _files_of_other_month(month, photos) - keys.keys():
        if (directory / key).exists():
            shutil.rmtree((directory / key).parent)
    _replace(directory / _MARKER, (json.dumps(wanted) + "\n").encode(), month)


def _is_gone(rows: Release, photo_id: int) -> bool:
    return rows.hazards.faults.get(photo_id) in _GONE


def _files_of_other_month(month: int, photos: int) -> set[str]:
    """The photographs that this month has no file of, though the other month has.

    A photo that lost its row keeps its file, unless the second month deletes it as well.
    """
    other = release(3 - month, photos)
    if month == 1:
        return {photo_path(photo) for photo in other.photos}
    deleted = release(month, photos).removed_files
    return {photo_path(photo) for photo in other.photos if photo.photo_id in deleted}


def _replace(path: Path, data: bytes, month: int) -> None:
    """Put the file in place whole, durable, and dated to the month, as the bucket dates its objects."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    stamp = PUBLISHED[month].timestamp()
    os.utime(name, (stamp, stamp))
    Path(name).replace(path)


def _tables(rows: Release) -> dict[str, str]:
    """The four tables as text: no quoting, no escaping, empty for NULL; two photo rows are broken."""
    bodies = {
        "observations": ["\t".join(map(str, astuple(row))) for row in rows.observations],
        "observers": ["\t".join(map(str, astuple(row))) for row in rows.observers],
        "photos": [_photo_row(rows, photo) for photo in rows.photos],
        "taxa": ["\t".join(map(str, astuple(row))) for row in _shuffled_taxa(rows.month)],
    }
    texts = {}
    for name in TABLES:
        lines = [_HEADERS[name].replace(" ", "\t"), *bodies[name]]
        texts[name] = "\n".join(lines) + ("" if name == "photos" else "\n")
    return texts


def _photo_row(rows: Release, photo: Photo) -> str:
    fields = (
        photo.photo_uuid,
        photo.photo_id,
        photo.observation_uuid,
        photo.observer_id,
        photo.extension,
        photo.license,
        photo.width,
        photo.height,
        photo.position,
    )
    row = "\t".join(map(str, fields))
    if photo.photo_id == rows.hazards.overlong_row:
        return row.replace("\t", "\t\t", 1)  # a stray tab: one field too many
    if photo.photo_id == rows.hazards.cut_row:
        return row[: row.index(photo.observation_uuid) + 17]  # as a stream that was never ended
    return row


def _shuffled_taxa(month: int) -> Iterable[facts.Taxon]:
    # Any fixed order that is not the tree's: the last digits first.
    return sorted(facts.taxa(month).values(), key=lambda taxon: (str(taxon.taxon_id)[::-1], taxon.taxon_id))


# One photograph to draw: where, what (taxon, seed, size, extension), whether to cut it in half.
_Job = tuple[str, int, int, tuple[int, int], str, bool]


def _draw(directory: Path, rows: Release, keys: dict[str, Photo], progress: Progress | None) -> None:
    jobs: list[_Job] = [
        (
            str(directory / key),
            photo.drawn,
            photo.seed,
            photo.size,
            "jpg" if photo.disguised else photo.extension,
            rows.hazards.faults.get(photo.photo_id) == "corrupt",
        )
        for key, photo in keys.items()
    ]
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    done = 0
    for count in _drawn(chunks, len(jobs)):
        done += count
        if progress is not None:
            progress(done, len(jobs))


def _drawn(chunks: list[list[_Job]], total: int) -> Iterator[int]:
    """Draw the chunks, in processes where that pays; yield how many photographs each had."""
    finished = 0
    if total >= _POOL_FROM:
        # Spawned, not forked: the caller may have threads.
        workers = max(2, min(4, os.cpu_count() or 2))
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                for count in pool.map(_draw_chunk, chunks):
                    finished += 1
                    yield count
        except BrokenProcessPool:
            # A script without `if __name__ == "__main__"`, or one read from a pipe, cannot be spawned.
            _log.info("no worker processes here: drawing the remaining photographs in this one")
    for chunk in chunks[finished:]:
        yield _draw_chunk(chunk)


def _draw_chunk(jobs: list[_Job]) -> int:
    stamp = PUBLISHED[1].timestamp()
    for name, taxon_id, seed, size, extension, corrupt in jobs:
        data = photograph(taxon_id, seed, size, extension)
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        partial.write_bytes(data[: len(data) // 2] if corrupt else data)
        os.utime(partial, (stamp, stamp))
        partial.replace(path)
    return len(jobs)
