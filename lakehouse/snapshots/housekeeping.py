"""Deleting what no version reaches, and merging small shards; neither touches a version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.images.build import SHARD_PHOTOS
from lakehouse.images.lease import lease
from lakehouse.images.ledger import Ledger
from lakehouse.images.repack import repack
from lakehouse.images.schema import INDEX
from lakehouse.images.shard import index_key, shard_key
from lakehouse.images.uploads import abort_abandoned
from lakehouse.lake import Entry, Lake
from lakehouse.progress import task
from lakehouse.snapshots import refs
from lakehouse.snapshots.read import catalog_folder
from lakehouse.snapshots.removal import LEASE, live_keys

GRACE = timedelta(days=7)
SHARD_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Garbage:
    """What no version reaches: objects deleted (or, on a dry run, to be deleted), their bytes, those that are
    younger than the grace period and stay for now, and abandoned uploads."""

    deleted: tuple[str, ...]
    bytes: int
    young: int
    uploads: int
    dry_run: bool


def gc(lake: Lake, *, dry_run: bool = True, grace: timedelta = GRACE) -> Garbage:
    """Delete objects of `snapshots/`, `shards/` and `catalog/` that neither a version nor the ledger names.

    A shard that the ledger names holds photos that a build may take without fetching them: it stays.

    Parameters
    ----------
    dry_run
        Only tell what would be deleted.
    grace
        What is younger stays: a build that is under way writes files before it names them.
    """
    with lease(lake, LEASE):
        found, young = _unreached(lake, datetime.now(UTC) - grace)
        if dry_run:
            return Garbage(tuple(entry.key for entry in found), _size(found), young, 0, True)
        # Marked again: whatever a build has named since stays.
        named = _named(lake)
        doomed = [entry for entry in found if entry.key not in named]
        with task("gc", len(doomed), "object") as progress:
            # An index before its archive: what has no index does not exist.
            for entry in sorted(doomed, key=lambda entry: (entry.key.endswith(".tar"), entry.key)):
                lake.delete(entry.key)
                progress.advance()
        uploads = abort_abandoned(lake)
        return Garbage(tuple(entry.key for entry in doomed), _size(doomed), young, uploads, False)


def _size(entries: Sequence[Entry]) -> int:
    return sum(entry.size for entry in entries)


def _unreached(lake: Lake, before: datetime) -> tuple[list[Entry], int]:
    """Objects that nothing names: those written before, and the number of younger ones."""
    entries = [entry for folder in ("snapshots", "shards", "catalog") for entry in lake.entries(folder)]
    # Named after listed: what a build writes in between is in neither.
    named = _named(lake)
    versions = tuple(
        f"{catalog_folder(version)}/"
        for name in refs.campaigns(lake)
        for version in refs.versions(lake, name)
    )
    loose = [
        entry
        for entry in entries
        if entry.key not in named and not (versions and entry.key.startswith(versions))
    ]
    old = [entry for entry in loose if entry.modified < before]
    return old, len(loose) - len(old)


def _named(lake: Lake) -> set[str]:
    """Every object that a version reaches, and the shards of the ledger."""
    named, shards = live_keys(lake), Ledger(lake).shards()
    for rendition in lake.folders("shards"):
        for digest in shards:
            named |= {shard_key(rendition, digest), index_key(rendition, digest)}
    return named


@dataclass(frozen=True, slots=True)
class Compaction:
    """What was merged: shards before and after, photos and bytes in them."""

    merged: int
    made: int
    photos: int
    bytes: int
    dry_run: bool


def compact(
    lake: Lake,
    *,
    below: int = SHARD_PHOTOS // 2,
    photos: int = SHARD_PHOTOS,
    size: int = SHARD_BYTES,
    dry_run: bool = False,
) -> Compaction:
    """Merge shards that hold fewer than `below` photos into shards of up to `photos` photos and `size` bytes.

    The ledger then names the merged shards, and so does the next version of each campaign; older versions go
    on to name the small ones, which stay. Whoever is interrupted makes the same shards again.
    """
    ledger = Ledger(lake)
    merged = made = count = total = 0
    with lease(lake, LEASE):
        named = ledger.shards()
        for rendition in lake.folders("shards"):
            small = _small(lake, rendition, named, below)
            groups = list(_groups(small, photos, size))
            with task("compact", len(groups), "shard") as progress:
                for group in groups:
                    merged, made, count = (
                        merged + len(group),
                        made + 1,
                        count + sum(one.photos for one in group),
                    )
                    total += sum(one.bytes for one in group)
                    if not dry_run:
                        one = repack(lake, rendition, [member.digest for member in group])
                        assert one is not None, "shards of which the ledger names every photo are not empty"
                        ledger.move({member.digest: one.sha256 for member in group})
                    progress.advance()
    return Compaction(merged, made, count, total, dry_run)


@dataclass(frozen=True, slots=True)
class _Small:
    """A small shard."""

    digest: str
    first: int
    photos: int
    bytes: int
    ids: frozenset[int]


def _small(lake: Lake, rendition: str, named: set[str], below: int) -> list[_Small]:
    """The small shards that the ledger names, in the order of their first photos."""
    found = []
    for key in lake.list(f"shards/{rendition}"):
        digest = key.rsplit("/", 1)[-1].removesuffix(".index.parquet")
        if not key.endswith(".index.parquet") or digest not in named:
            continue
        ids = pl.Series(lake.read_table(key, [INDEX.names[0]])["photo_id"])
        size = lake.size(shard_key(rendition, digest))
        if 0 < len(ids) < below and size is not None:
            found.append(_Small(digest, int(ids[0]), len(ids), size, frozenset(ids.to_list())))
    return sorted(found, key=lambda one: (one.first, one.digest))


def _groups(small: Sequence[_Small], photos: int, size: int) -> Iterator[list[_Small]]:
    """Shards to be merged, two or more; a photo that was stored twice is never in one group twice."""
    group: list[_Small] = []
    ids: set[int] = set()
    for one in small:
        full = sum(member.photos for member in group) + one.photos > photos
        if group and (full or sum(member.bytes for member in group) + one.bytes > size or ids & one.ids):
            if len(group) > 1:
                yield group
            group, ids = [], set()
        group.append(one)
        ids |= one.ids
    if len(group) > 1:
        yield group
