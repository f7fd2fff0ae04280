"""Shards: deterministic USTAR archives of images, each with a Parquet index that is its commit marker.

Images arrive in any order and are spooled to disk; the archive is then written in the order of the photo ids,
so that its bytes depend on nothing but the set of images. A member is `<photo_id>.<ext>`, followed by
`<photo_id>.json` with facts that never change (all keys always there, none null), as WebDataset expects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from lakehouse.errors import LakeError
from lakehouse.images.schema import INDEX
from lakehouse.images.validate import ImageFacts
from lakehouse.lake import Lake

_BLOCK = 512
_RECORD = 20 * _BLOCK  # tar pads an archive to whole records


@dataclass(frozen=True, slots=True)
class Shard:
    """A published shard: its digest names it, `size` in bytes."""

    sha256: str
    size: int
    images: int


@dataclass(frozen=True, slots=True)
class _Spooled:
    photo_id: int
    source_file: str
    position: int
    facts: ImageFacts

    @property
    def file_name(self) -> str:
        return f"{self.photo_id}.{self.facts.extension}"


def shard_key(rendition: str, digest: str) -> str:
    """Where a shard's archive is in the lake."""
    return f"shards/{rendition}/{digest[:2]}/{digest}.tar"


def index_key(rendition: str, digest: str) -> str:
    """Where a shard's index is in the lake; it is written last, so a shard without one does not exist."""
    return f"shards/{rendition}/{digest[:2]}/{digest}.index.parquet"


class Spool:
    """Images on their way into one shard: bytes on disk, facts in memory."""

    def __init__(self, folder: Path, file: BinaryIO) -> None:
        self._folder = folder
        self._file = file
        self._images: dict[int, _Spooled] = {}
        self._position = 0

    def add(self, photo_id: int, source_file: str, data: bytes, facts: ImageFacts) -> None:
        """Take an image; `source_file` is what the source calls it."""
        if photo_id in self._images:
            raise LakeError(f"photo {photo_id} came twice for one shard; report this as a bug")
        with _writing(self._folder):
            self._file.write(data)
        self._images[photo_id] = _Spooled(photo_id, source_file, self._position, facts)
        self._position += len(data)

    def publish(self, lake: Lake, rendition: str) -> Shard | None:
        """Write the shard and its index into the lake; None if there is no image."""
        if not self._images:
            return None
        images = [self._images[photo_id] for photo_id in sorted(self._images)]
        archive = self._folder / "shard.tar"
        with _writing(self._folder):
            self._file.flush()
            digest, offsets = self._write(archive, images)
        shard = Shard(digest, archive.stat().st_size, len(images))
        if not lake.exists(index_key(rendition, digest)):
            lake.publish(archive, shard_key(rendition, digest))
            with lake.parquet_writer(index_key(rendition, digest), INDEX) as writer:
                writer.write_table(_index(images, offsets))
        return shard

    def _write(self, archive: Path, images: list[_Spooled]) -> tuple[str, list[int]]:
        digest, offsets, position = hashlib.sha256(), [], 0
        with archive.open("wb") as out:
            for image in images:
                self._file.seek(image.position)
                data, sidecar = self._file.read(image.facts.size), _sidecar(image)
                offsets.append(position + _BLOCK)
                for name, content in ((image.file_name, data), (f"{image.photo_id}.json", sidecar)):
                    for part in (_header(name, len(content)), content, bytes(-len(content) % _BLOCK)):
                        digest.update(part)
                        position += out.write(part)
            end = 2 * _BLOCK + (-(position + 2 * _BLOCK) % _RECORD)
            digest.update(bytes(end))
            out.write(bytes(end))
        return digest.hexdigest(), offsets


@contextmanager
def spooling(lake: Lake) -> Iterator[Spool]:
    """A spool in the lake's scratch space; removed when the block ends."""
    with lake.scratch() as folder, (folder / "spool").open("w+b") as file:
        yield Spool(folder, file)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeError(
            f"cannot write {folder}: {error.strerror or error}; what was stored is safe: make room, run again"
        ) from error


def _header(name: str, size: int) -> bytes:
    """A USTAR header of a plain file: mode 0644, everything else that could vary zero."""
    fields = b"".join(
        (
            name.encode("ascii").ljust(100, b"\0"),
            b"0000644\0",
            b"0000000\0" * 2,  # owner and group
            f"{size:011o}\0".encode(),
            b"00000000000\0",  # modification time
            b" " * 8,  # checksum, counted as blanks
            b"0",
            bytes(100),
            b"ustar\00000",
        )
    ).ljust(_BLOCK, b"\0")
    return fields[:148] + f"{sum(fields):06o}\0 ".encode() + fields[156:]


def _sidecar(image: _Spooled) -> bytes:
    facts = image.facts
    values = {
        "format": facts.format,
        "height": facts.height,
        "photo_id": image.photo_id,
        "sha256": facts.sha256.hex(),
        "source_file": image.source_file,
        "width": facts.width,
    }
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _index(images: list[_Spooled], offsets: list[int]) -> pa.Table:
    rows = [
        {
            "photo_id": image.photo_id,
            "file_name": image.file_name,
            "offset": offset,
            "size": image.facts.size,
            "sha256": image.facts.sha256,
            "dhash": image.facts.dhash,
            "width": image.facts.width,
            "height": image.facts.height,
            "format": image.facts.format,
            "mode": image.facts.mode,
            "orientation": image.facts.orientation,
            "gps": image.facts.gps,
            "animated": image.facts.animated,
        }
        for image, offset in zip(images, offsets, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=INDEX)
