"""What a snapshot consists of: the root that names every byte, and the version record that names the root."""

from __future__ import annotations

from collections.abc import Mapping
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
    """The content-addressed root; `snapshot_id` is the sha256 of its canonical JSON."""

    format: Literal["lakehouse-snapshot/1"] = "lakehouse-snapshot/1"
    campaign: str
    content_id: str
    parameters: dict[str, Any]
    split_salt: str
    counts: Counts
    shards: tuple[ShardRef, ...]
    partitions: tuple[PartitionParts, ...]
    taxa: FileRef
    inputs: Inputs


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


class Version(_Record):
    """The record `refs/<campaign>/v<N>`: which snapshot, after which, when, what changed and how every photo
    that was considered fared; not part of the identity."""

    campaign: str
    version: int
    snapshot_id: str
    parent: str | None
    created_at: str
    changes: dict[str, int]
    accounting: dict[str, int]
    about: About

    @property
    def ref(self) -> str:
        """How people name it: `<campaign>@v<N>`."""
        return f"{self.campaign}@v{self.version}"
