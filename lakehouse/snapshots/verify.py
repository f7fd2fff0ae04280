"""Every byte of a snapshot against its digest, every reference present, every count right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.engine import scalars
from lakehouse.progress import task
from lakehouse.snapshots.build import content_id
from lakehouse.snapshots.model import FileRef, Root
from lakehouse.snapshots.tables import manifest_sql


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read (`files`, `bytes`) and a sentence for each thing that is wrong."""

    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> Verification:
    """Check all that `root` refers to; the root itself was checked against its name when it was read."""
    files = list(_files(root))
    problems: list[str] = []
    with task("verify", sum(file.size for file in files), "bytes") as progress:
        for file in files:
            digest, size = hashlib.sha256(), 0
            try:
                for chunk in lake.chunks(file.key):
                    digest.update(chunk)
                    size += len(chunk)
                    progress.advance(len(chunk))
            except NotFoundError:
                problems.append(f"{lake.uri(file.key)} is missing")
                continue
            if size != file.size:
                problems.append(f"{lake.uri(file.key)} has {size:,} bytes instead of {file.size:,}")
            elif digest.hexdigest() != file.sha256:
                problems.append(
                    f"{lake.uri(file.key)} is damaged: its sha256 is {digest.hexdigest()}, not {file.sha256}"
                )
    if not problems:
        problems += _wrong_counts(connection, lake, root)
    return Verification(len(files), sum(file.size for file in files), tuple(problems))


def _files(root: Root) -> Iterator[FileRef]:
    yield root.taxa
    for parts in root.partitions:
        yield parts.labels
        yield parts.records
    for shard in root.shards:
        yield shard.index
        yield shard.tar


def _wrong_counts(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> Iterator[str]:
    query = f"""
        SELECT count(*), count(DISTINCT photo_id), count(DISTINCT label_id),
               count(DISTINCT observation_uuid), sum(size)
        FROM ({manifest_sql(lake, root)})"""
    counts = root.counts
    expected = (counts.photos, counts.photos, counts.labels, counts.observations, counts.bytes)
    names = ("rows", "distinct photos", "labels", "observations", "bytes")
    for name, have, want in zip(names, scalars(connection, query), expected, strict=True):
        if have != want:
            yield f"the manifest has {have:,} {name} instead of {want:,}"
    if content_id(connection, lake, root) != root.content_id:
        yield "the rows do not add up to the content_id in the root"
