"""Reading a snapshot: its manifest as a lazy table, its images by random access, a PyTorch dataset."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from lakehouse.errors import NotFoundError, UsageError
from lakehouse.lake import Lake
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import Version
from lakehouse.snapshots.schema import MANIFEST
from lakehouse.snapshots.tables import rows


@dataclass(frozen=True, slots=True)
class Sample:
    """One photograph: encoded `image` bytes, its `label`, the number of that label among the snapshot's
    labels in alphabetical order (`target`), and the licence it comes under with the attribution line."""

    photo_id: int
    image: bytes
    label: str
    target: int
    split: str
    license: str
    attribution: str


class Samples(Sequence[Sample]):
    """The photographs of a snapshot in a fixed order, each read when asked for (one ranged read)."""

    _COLUMNS = ("photo_id", "label_id", "label", "split", "license", "attribution", "shard", "offset", "size")

    def __init__(self, snapshot: Snapshot, rows: pl.DataFrame, targets: dict[int, int]) -> None:
        self._snapshot, self._rows, self._targets = snapshot, rows, targets

    def __len__(self) -> int:
        return self._rows.height

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"there are {len(self)} photographs; {position} is not one of them")
        row = self._rows.row(position, named=True)
        image = self._snapshot.image(row["shard"], row["offset"], row["size"])
        return Sample(
            row["photo_id"],
            image,
            row["label"],
            self._targets[row["label_id"]],
            row["split"],
            row["license"],
            row["attribution"],
        )


class TorchDataset:
    """What PyTorch calls a map-style dataset: a length and items; it can be sent to a loader's workers."""

    def __init__(self, samples: Samples, transform: Callable[[bytes], Any] | None) -> None:
        self._samples, self._transform = samples, transform

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        sample = self._samples[index]
        return (self._transform(sample.image) if self._transform else sample.image), sample.target


class Snapshot:
    """One version of a campaign's dataset, immutable."""

    def __init__(self, lake: Lake, version: Version) -> None:
        self.lake = lake
        self.version = version
        self.root = refs.read_root(lake, version.snapshot_id)
        self._tars = {shard.tar.sha256: shard.tar.key for shard in self.root.shards}

    def __repr__(self) -> str:
        counts = self.root.counts
        return f"<Snapshot {self.version.ref}: {counts.photos} photos, {counts.labels} labels>"

    @property
    def manifest(self) -> pl.LazyFrame:
        """One row per photograph in photo order; columns and types in `lakehouse.snapshots.schema.MANIFEST`.

        Only the columns that a query uses are read.
        """

        def source(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,
        ) -> Iterator[pl.DataFrame]:
            left = n_rows
            with self.lake.connect() as connection:
                for batch in rows(connection, self.lake, self.root, with_columns):
                    frame = pl.DataFrame(batch).cast({name: MANIFEST[name] for name in batch.schema.names})
                    if left is not None:
                        # Polars means the first rows of all, whatever the predicate leaves of them.
                        frame = frame.head(left)
                        left -= frame.height
                    yield frame if predicate is None else frame.filter(predicate)
                    if left == 0:
                        return

        return register_io_source(source, schema=MANIFEST, is_pure=True)

    def image(self, shard: str, offset: int, size: int) -> bytes:
        """The encoded bytes of one photograph, by the manifest's columns of these names."""
        return self.lake.get_range(self._tars[shard], offset, size)

    @property
    def labels(self) -> list[str]:
        """The names of the labels in alphabetical order; a label's place is its `target`."""
        return [name for name, _ in self._label_order()]

    def _label_order(self) -> list[tuple[str, int]]:
        """Names with their ids: two taxa may have one name, and are two labels all the same."""
        taxa = self.lake.read_table(self.root.taxa.key, ["label", "label_id"])
        return sorted(zip(taxa["label"].to_pylist(), taxa["label_id"].to_pylist(), strict=True))

    def samples(self, split: str | None = None, shuffle: bool = False, seed: int = 0) -> Samples:
        """The photographs, of one split if named, in photo order or shuffled by `seed`.

        Photo order groups relatives; whoever trains wants `shuffle=True`.
        """
        if split is not None and split not in self.root.counts.splits:
            raise UsageError(
                f"{self.version.ref} has no split {split!r}; it has {', '.join(self.root.counts.splits)}"
            )
        wanted = self.manifest if split is None else self.manifest.filter(pl.col("split") == split)
        table = wanted.select(Samples._COLUMNS).collect()
        if shuffle:
            order = list(range(table.height))
            random.Random(seed).shuffle(order)
            table = table[order]
        targets = {label_id: place for place, (_, label_id) in enumerate(self._label_order())}
        return Samples(self, table, targets)

    def to_torch(
        self, split: str | None = None, transform: Callable[[bytes], Any] | None = None
    ) -> TorchDataset:
        """A map-style dataset of (image, target) for `torch.utils.data.DataLoader`.

        `transform` takes the encoded bytes; without it they are what the dataset gives.
        """
        return TorchDataset(self.samples(split), transform)

    @property
    def croissant(self) -> dict[str, Any]:
        """The snapshot's Croissant description; raises NotFoundError if it has not been made yet."""
        try:
            return dict(json.loads(self.lake.get(f"{catalog_folder(self.version)}/croissant.json")))
        except NotFoundError:
            raise NotFoundError(f"{self.version.ref} is not described yet; run lakehouse build") from None


@dataclass(frozen=True, slots=True)
class Reader:
    """A lake open for reading."""

    lake: Lake

    def snapshot(self, ref: str) -> Snapshot:
        """The snapshot that `ref` names (`name@v3`, `name@latest` or an id)."""
        return Snapshot(self.lake, refs.resolve(self.lake, ref))


def catalog_folder(version: Version) -> str:
    """Where the descriptions of a version are kept."""
    return f"catalog/{version.campaign}/v{version.version}"
