"""A snapshot's images written out of the lake: WebDataset archives by split, or a folder of images by label.

The order is that of a hash of the photo id, so that an archive read from front to back is already mixed, and
the same snapshot is exported to the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.images import ustar
from lakehouse.lake import ROW_GROUP
from lakehouse.progress import task
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.schema import MANIFEST
from lakehouse.snapshots.tables import rows

SHARD_PHOTOS = 10_000
SHARD_BYTES = 1_000_000_000
MIXED = "sha256(photo_id::VARCHAR), photo_id"
# What a sample's sidecar says: everything a user needs who has only the archive.
SIDECAR = (
    *(
        "photo_id",
        "label_id",
        "label",
        "taxon_rank",
        "kingdom",
        "phylum",
        "class",
        "order",
        "family",
        "genus",
    ),
    *("taxon_id", "license", "license_url", "creator", "attribution", "photo_url", "observation_url"),
    *("observed_on", "width", "height", "format", "sha256"),
)

# Where an export put each image; in a folder of images there is no shard, and the offset is 0.
PLACEMENT = pa.schema(
    [
        pa.field("photo_id", pa.int64(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)


class Format(StrEnum):
    """How the images of an export are laid out; `dwca` has their records only, as a Darwin Core Archive."""

    webdataset = "webdataset"
    imagefolder = "imagefolder"
    dwca = "dwca"


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file of an export: its place below the directory, digest, bytes, and the split it holds images
    of."""

    name: str
    sha256: str
    size: int
    split: str


def write_archives(
    snapshot: Snapshot, directory: Path, name: Callable[[str, int, str], str], placement: Path
) -> Iterator[ExportedFile]:
    """Write the images of each split as WebDataset archives of at most `SHARD_PHOTOS` photos or about
    `SHARD_BYTES`.

    `name(split, number, sha256)` is where an archive goes below `directory`; where each image went is written
    to the Parquet file `placement`, which `write_manifest` takes.
    """
    root = snapshot.root
    # Readers of WebDataset find an image by its extension and decode it by its content. Where extensions
    # differ, Hugging Face datasets knows only the first one and silently drops the other images.
    mixed = snapshot.manifest.select(pl.col("format").n_unique()).collect().item() > 1
    with (
        task("export", root.counts.photos, "photo") as progress,
        snapshot.lake.connect() as connection,
        pq.ParquetWriter(placement, PLACEMENT) as placed,
    ):
        for split in root.counts.splits:
            number, archive = 0, _Archive(directory)
            for batch in rows(connection, snapshot.lake, root, where=f"split = '{split}'", order_by=MIXED):
                for row in batch.to_pylist():
                    if archive.full:
                        yield archive.finish(split, number, name, placed)
                        number, archive = number + 1, _Archive(directory)
                    archive.add(row, f"{row['photo_id']}.jpg" if mixed else row["file_name"], snapshot)
                    progress.advance()
            yield archive.finish(split, number, name, placed)


def write_folders(snapshot: Snapshot, directory: Path, placement: Path) -> Iterator[ExportedFile]:
    """Write each image to `data/<split>/<label>_<label id>/<photo_id>.<ext>`; see `write_archives` for
    `placement`."""
    root = snapshot.root
    with (
        task("export", root.counts.photos, "photo") as progress,
        snapshot.lake.connect() as connection,
        pq.ParquetWriter(placement, PLACEMENT) as placed,
    ):
        for batch in rows(connection, snapshot.lake, root):
            places: list[dict[str, Any]] = []
            for row in batch.to_pylist():
                name = f"data/{row['split']}/{_folder_name(row['label'], row['label_id'])}/{row['file_name']}"
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(snapshot.image(row["shard"], row["offset"], row["size"]))
                places.append({"photo_id": row["photo_id"], "file_name": name, "shard": "", "offset": 0})
                progress.advance()
                yield ExportedFile(name, row["sha256"], row["size"], row["split"])
            placed.write_table(pa.Table.from_pylist(places, PLACEMENT))


def write_manifest(snapshot: Snapshot, path: Path, placement: Path | None = None) -> None:
    """Write the manifest in photo order as one Parquet file, memory bounded; `placement` says where the
    images went."""
    schema = pl.DataFrame(schema=MANIFEST).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    with (
        snapshot.lake.connect() as connection,
        pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer,
    ):
        for batch in rows(connection, snapshot.lake, snapshot.root, placement=placement):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema), row_group_size=ROW_GROUP)


class _Archive:
    """One archive being written under a name that nothing looks for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / ".archive.tar"
        self.file: BinaryIO = self.path.open("wb")
        self.digest = hashlib.sha256()
        self.position = 0
        self.places: list[dict[str, Any]] = []

    @property
    def full(self) -> bool:
        return len(self.places) == SHARD_PHOTOS or self.position > SHARD_BYTES

    def add(self, row: dict[str, Any], file_name: str, snapshot: Snapshot) -> None:
        image = snapshot.image(row["shard"], row["offset"], row["size"])
        self.places.append(
            {
                "photo_id": row["photo_id"],
                "file_name": file_name,
                "offset": self.position + ustar.BLOCK,
            }
        )
        for name, content in ((file_name, image), (f"{row['photo_id']}.json", _sidecar(row))):
            for piece in ustar.member(name, content):
                self._write(piece)

    def finish(
        self, split: str, number: int, name: Callable[[str, int, str], str], placed: pq.ParquetWriter
    ) -> ExportedFile:
        self._write(ustar.trailer(self.position))
        self.file.close()
        digest = self.digest.hexdigest()
        target = name(split, number, digest)
        (self.directory / target).parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(self.directory / target)
        placed.write_table(
            pa.Table.from_pylist([{**place, "shard": digest} for place in self.places], PLACEMENT)
        )
        return ExportedFile(target, digest, self.position, split)

    def _write(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.position += self.file.write(piece)


def _sidecar(row: dict[str, Any]) -> bytes:
    """All keys in every sample and no nulls: loaders infer a schema from the first few samples."""
    values = {name: _plain(row[name]) for name in SIDECAR}
    return json.dumps(values, ensure_ascii=False, sort_keys=True).encode()


def _plain(value: Any) -> Any:
    """A missing rank or date is an empty string; the numbers of a sidecar are never missing."""
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else value


def _folder_name(label: str, label_id: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', label).strip('_') or 'label'}_{label_id}"
