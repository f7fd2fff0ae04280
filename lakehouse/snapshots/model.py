"""What a snapshot consists of: the root that names every byte, and the version record that names the root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lakehouse.campaign import Creator


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRef(_Record):
    """One immutable file of the lake: `key`, its `sha256`, `size` in bytes and number of `rows`."""

    key: str
    sha256: str
    size: int
    rows: int


class ShardRef(_Record):
    """One shard, `tar` (rows: photographs) with the Parquet `index` of its members."""

    tar: FileRef
    index: FileRef


class PartitionParts(_Record):
    """The two parts of one partition."""

    partition: str
    labels: FileRef
    records: FileRef


class Counts(_Record):
    """Photographs, labels, observations and bytes in the snapshot, and photographs by split and licence."""

    photos: int
    labels: int
    observations: int
    bytes: int
    splits: dict[str, int]
    licenses: dict[str, int]


class Inputs(_Record):
    """Where the data came from: source name, the address it is cited by, release and sha256 of each raw
    table."""

    source: str
    reference_url: str
    release: str
    tables: dict[str, str]


class Root(_Record):
    """The content-addressed root; `snapshot_id` is the sha256 of its canonical JSON.

    `dropped` lists the photos that gave way to others or whose label is too small; None if there are none.
    """

    format: Literal["lakehouse-snapshot/2"] = "lakehouse-snapshot/2"
    campaign: str
    content_id: str
    parameters: dict[str, Any]
    split_salt: str
    counts: Counts
    shards: tuple[ShardRef, ...]
    partitions: tuple[PartitionParts, ...]
    taxa: FileRef
    dropped: FileRef | None = None
    inputs: Inputs

    def files(self) -> Iterator[FileRef]:
        """Every file the root names."""
        yield self.taxa
        if self.dropped:
            yield self.dropped
        for parts in self.partitions:
            yield parts.labels
            yield parts.records
        for shard in self.shards:
            yield shard.index
            yield shard.tar


class About(_Record):
    """What the campaign file says of the dataset to people."""

    title: str
    description: str
    creators: tuple[Creator, ...]


OUTCOMES = ("stored", "gone", "failed", "refused", "rejected")


def fates(accounting: Mapping[str, int]) -> list[tuple[str, int]]:
    """An accounting in the order in which photos drop out, from considered to dropped."""
    first = [name for name in accounting if name.startswith("excluded.")]
    last = [name for name in accounting if name.startswith("dropped.")]
    order = ["considered", *sorted(first), "selected", *OUTCOMES, *sorted(last)]
    return [(name, accounting[name]) for name in order if name in accounting]


Kind = Literal["first", "added", "removed", "relabelled", "relicensed", "repacked", "redacted"]


class Version(_Record):
    """The record `refs/<campaign>/v<N>`: which snapshot, after which, when, what changed and how every photo
    that was considered fared; not part of the identity.

    `kinds` says what kind of change made it: the `first` version, photos `added`, `removed`, `relabelled`,
    `relicensed`, the same rows `repacked` in other files, or photos taken back (`redacted`). `removed` lists
    the photos that the version before had, with the reason; `label_splits` counts the labels that have a
    photo in each split; `redacts` are the ids that this version had before photos were taken back, oldest
    first; `provenance` is what software made it, and in which run.
    """

    campaign: str
    version: int
    snapshot_id: str
    parent: str | None
    created_at: str
    changes: dict[str, int]
    accounting: dict[str, int]
    about: About
    kinds: tuple[Kind, ...] = ()
    removed: FileRef | None = None
    label_splits: dict[str, int] = {}
    redacts: tuple[str, ...] = ()
    provenance: dict[str, str] = {}

    @property
    def ref(self) -> str:
        """How people name it: `<campaign>@v<N>`."""
        return f"{self.campaign}@v{self.version}"


class Withdrawal(_Record):
    """The tombstone of a snapshot out of which photos were taken: how many for which reason, when, and the
    snapshot that took its place."""

    snapshot_id: str
    campaign: str
    version: int
    successor: str
    removed: dict[str, int]
    day: str

    @property
    def sentence(self) -> str:
        """What is told to whoever asks for it."""
        counts = " and ".join(
            f"{count:,} for {reason} reasons" for reason, count in self.removed.items() if count
        )
        return (
            f"snapshot {self.snapshot_id} was withdrawn on {self.day}: photos were taken out of it"
            + (f" ({counts})" if counts else "")
            + f"; its successor is {self.campaign}@v{self.version}, {self.successor}"
        )
