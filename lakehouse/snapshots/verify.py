"""Every byte of a version against its digest, every reference present, every count right."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb

from lakehouse.errors import LakeError, NotFoundError, UsageError
from lakehouse.lake import Lake
from lakehouse.metadata.engine import scalars
from lakehouse.progress import Task, task
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import content_id
from lakehouse.snapshots.identity import sha256_of_object
from lakehouse.snapshots.model import Root, Version
from lakehouse.snapshots.read import catalog_folder
from lakehouse.snapshots.seal import NAME, sealed
from lakehouse.snapshots.tables import manifest_sql

_AHEAD = 16  # objects asked for at once where the lake is on S3


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read (`files`, `bytes`), of how many in all (`files_total`), and a sentence for each thing
    that is wrong."""

    version: str
    files: int
    bytes: int
    files_total: int
    sample: float
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _File:
    """A file and what it should be; `size` is None where only the digest is known."""

    key: str
    sha256: str
    size: int | None


def verify(
    lake: Lake, ref: str, *, sample: float = 1.0, seed: int = 0, workers: int | None = None
) -> Verification:
    """Check a version: its record, its root, every file it names, its catalogue files, its counts.

    Of a sample, still every reference must be there in its full size; digests are taken of the share `sample`
    of the files, and the rows are counted only if all files were read.

    Parameters
    ----------
    ref
        `name@v3`, `name@latest`, or a snapshot id.
    sample
        Share of the files to read, above 0 and at most 1; at least one of each kind is.
    seed
        Which files a sample takes: another seed takes others, the same seed the same.
    workers
        Files read at once; by default one for each processor, more on S3.

    Raises
    ------
    LakeError
        The version's record or its root is damaged; the message names it.
    """
    if not 0 < sample <= 1:
        raise UsageError(f"a sample of {sample:g} is no share; give a number above 0 and at most 1")
    version = refs.resolve(lake, ref)
    root = refs.read_root(lake, version.snapshot_id)
    problems: list[str] = []
    files = [*_files(version, root), *_catalog_files(lake, version, problems)]
    chosen = _sampled(files, sample, seed)
    total = sum(file.size or 0 for file in chosen)
    workers = workers or (os.cpu_count() or 1) * (1 if lake.is_local else _AHEAD)
    with task("verify", total, "byte") as progress, ThreadPoolExecutor(workers, "verify") as pool:
        check = _Check(lake, {file.key for file in chosen}, progress)
        problems += [problem for problem in pool.map(check, files) if problem]
    if not problems and sample == 1:
        with lake.connect() as connection:
            problems += _wrong_counts(connection, lake, root)
    return Verification(version.ref, len(chosen), check.bytes, len(files), sample, tuple(problems))


class _Check:
    """Checks one file after the other, on several threads."""

    def __init__(self, lake: Lake, chosen: set[str], progress: Task) -> None:
        self._lake, self._chosen, self._progress = lake, chosen, progress
        self._lock = threading.Lock()
        self.bytes = 0

    def __call__(self, file: _File) -> str | None:
        where = self._lake.uri(file.key)
        try:
            if file.key not in self._chosen:
                size = self._lake.size(file.key)
                if size is None:
                    return f"{where} is missing"
                digest = file.sha256
            else:
                digest, size = sha256_of_object(self._lake, file.key, self._passed)
        except NotFoundError:
            return f"{where} is missing"
        except LakeError as error:
            return f"{where} cannot be read: {error}"
        if file.size is not None and size != file.size:
            return f"{where} has {size:,} bytes instead of {file.size:,}"
        if digest != file.sha256:
            return f"{where} is damaged: its sha256 is {digest}, not {file.sha256}"
        return None

    def _passed(self, count: int) -> None:
        with self._lock:
            self.bytes += count
            self._progress.advance(count)


def _files(version: Version, root: Root) -> Iterator[_File]:
    for file in (*root.files(), *([version.removed] if version.removed else [])):
        yield _File(file.key, file.sha256, file.size)


def _catalog_files(lake: Lake, version: Version, problems: list[str]) -> Iterator[_File]:
    """The files that describe the version, if it is described and sealed."""
    folder = catalog_folder(version)
    try:
        listed = sealed(lake, folder)
    except NotFoundError:
        return
    if listed is None:
        problems.append(
            f"{lake.uri(f'{folder}/{NAME}')} is damaged: its lines are not those it was made with"
        )
        return
    for name, digest in listed.items():
        yield _File(f"{folder}/{name}", digest, None)


def _sampled(files: list[_File], sample: float, seed: int) -> list[_File]:
    """The share of the files that have the lowest hash of key and seed, and the first one of each kind."""
    if sample == 1:
        return files
    ranked = sorted(files, key=lambda file: hashlib.sha256(f"{seed}:{file.key}".encode()).digest())
    first = {_kind(file.key): file for file in reversed(ranked)}
    chosen = {file.key for file in ranked[: round(len(files) * sample)]} | {
        file.key for file in first.values()
    }
    return [file for file in files if file.key in chosen]


def _kind(key: str) -> str:
    return key.partition("/")[0] + ("." + key.rpartition(".")[2] if key.startswith("shards/") else "")


def _wrong_counts(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> Iterator[str]:
    query = f"""
        SELECT count(*), count(DISTINCT photo_id), count(DISTINCT label_id),
               count(DISTINCT observation_uuid), coalesce(sum(size), 0)
        FROM ({manifest_sql(lake, root)})"""
    counts = root.counts
    expected = (counts.photos, counts.photos, counts.labels, counts.observations, counts.bytes)
    names = ("rows", "distinct photos", "labels", "observations", "bytes")
    for name, have, want in zip(names, scalars(connection, query), expected, strict=True):
        if have != want:
            yield f"the manifest has {have:,} {name} instead of {want:,}"
    if content_id(connection, lake, root) != root.content_id:
        yield "the rows do not add up to the content_id in the root"
