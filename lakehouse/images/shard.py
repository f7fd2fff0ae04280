"""Shards: deterministic USTAR archives of images, each with a Parquet index that is its commit marker.

Images arrive in any order. The archive is written in the order of the photo ids, so that its bytes depend on
nothing but the set of images: an image whose turn it is goes straight into it, one that is early waits in
memory, and in a file beside the archive once those that wait take more than `HELD` bytes. A member is
`<photo_id>.<ext>`, followed by `<photo_id>.json` with facts that never change (all keys always there, none
null), as WebDataset expects.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lakehouse.errors import LakeError
from lakehouse.images import ustar
from lakehouse.images.schema import INDEX, INDEX_ENCODING, Rows
from lakehouse.images.validate import ImageFacts
from lakehouse.lake import Lake

HELD = 16 * 1024 * 1024  # bytes of images that wait for their turn in memory

_ARCHIVE = "shard.tar"


@dataclass(frozen=True, slots=True)
class Shard:
    """A published shard: its digest names it, `size` in bytes."""

    sha256: str
    size: int
    images: int


class _Image(NamedTuple):
    """An image that waits; its bytes are at `overflow` in the overflow file if there is no `data`."""

    photo_id: int
    source_file: str
    facts: ImageFacts
    data: bytes | None
    overflow: int = 0


def shard_key(rendition: str, digest: str) -> str:
    """Where a shard's archive is in the lake."""
    return f"shards/{rendition}/{digest[:2]}/{digest}.tar"


def index_key(rendition: str, digest: str) -> str:
    """Where a shard's index is in the lake; it is written last, so a shard without one does not exist."""
    return f"shards/{rendition}/{digest[:2]}/{digest}.index.parquet"


class Spool:
    """Images on their way into one shard.

    Parameters
    ----------
    folder
        Scratch space.
    archive, overflow
        Files in it, open for writing, the first without a buffer, the second for reading too.
    photo_ids
        The photos that may come, in order; whichever does not is left out.
    """

    def __init__(
        self, folder: Path, archive: io.FileIO, overflow: BinaryIO, photo_ids: Iterable[int]
    ) -> None:
        self._folder, self._archive, self._overflow = folder, archive, overflow
        self._turns = deque(photo_ids)
        self._absent: set[int] = set()
        self._waiting: dict[int, _Image] = {}
        self._index = Rows(INDEX)
        self._digest = hashlib.sha256()
        self._held = self._position = 0

    def add(self, photo_id: int, source_file: str, data: bytes, facts: ImageFacts) -> None:
        """Take an image; `source_file` is what the source calls it."""
        if photo_id in self._waiting or not self._turns or photo_id < self._turns[0]:
            raise LakeError(f"photo {photo_id} came twice for one shard; report this as a bug")
        image = _Image(photo_id, source_file, facts, data)
        with _writing(self._folder):
            if photo_id == self._turns[0]:
                self._turns.popleft()
                self._append(image, data)
                self._advance()
                return
            if self._held + len(data) > HELD:
                image = _Image(photo_id, source_file, facts, None, self._overflow.seek(0, 2))
                self._overflow.write(data)
            else:
                self._held += len(data)
            self._waiting[photo_id] = image

    def leave_out(self, photo_id: int) -> None:
        """The photo will not come: those that wait for it need not."""
        self._absent.add(photo_id)
        with _writing(self._folder):
            self._advance()

    def publish(self, lake: Lake, rendition: str) -> Shard | None:
        """Write the shard and its index into the lake; None if there is no image."""
        with _writing(self._folder):
            self._absent.update(photo_id for photo_id in self._turns if photo_id not in self._waiting)
            self._advance()
            if not len(self._index):
                return None
            self._write([ustar.trailer(self._position)])
        digest = self._digest.hexdigest()
        if not lake.exists(index_key(rendition, digest)):
            lake.publish(self._folder / _ARCHIVE, shard_key(rendition, digest))
            with lake.parquet_writer(index_key(rendition, digest), INDEX, **INDEX_ENCODING) as writer:
                writer.write_table(self._index.table())
        return Shard(digest, self._position, len(self._index))

    def _advance(self) -> None:
        while self._turns:
            photo_id = self._turns[0]
            image = self._waiting.pop(photo_id, None)
            if image is not None:
                self._append(image, self._fetched(image))
            elif photo_id in self._absent:
                self._absent.discard(photo_id)
            else:
                return
            self._turns.popleft()

    def _fetched(self, image: _Image) -> bytes:
        if image.data is not None:
            self._held -= len(image.data)
            return image.data
        self._overflow.seek(image.overflow)
        return self._overflow.read(image.facts.size)

    def _append(self, image: _Image, data: bytes) -> None:
        photo_id, facts = image.photo_id, image.facts
        file_name, beside = f"{photo_id}.{facts.extension}", _sidecar(image)
        self._index.append(_row(photo_id, file_name, self._position + ustar.BLOCK, facts))
        around = b"".join((bytes(-len(data) % ustar.BLOCK), *ustar.member(f"{photo_id}.json", beside)))
        self._write([ustar.header(file_name, len(data)), data, around])

    def _write(self, pieces: list[bytes]) -> None:
        """In one system call as a rule; a disk that is nearly full takes a part, then raises."""
        for piece in pieces:
            self._digest.update(piece)
        size = sum(map(len, pieces))
        written = os.writev(self._archive.fileno(), pieces)
        if written < size:
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                rest = rest[os.write(self._archive.fileno(), rest) :]
        self._position += size


@contextmanager
def spooling(lake: Lake, photo_ids: Iterable[int]) -> Iterator[Spool]:
    """A spool in the lake's scratch space for the given photos; removed when the block ends."""
    with (
        lake.scratch() as folder,
        (folder / _ARCHIVE).open("wb", buffering=0) as archive,
        (folder / "overflow").open("w+b") as overflow,
    ):
        yield Spool(folder, archive, overflow, sorted(photo_ids))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeError(
            f"cannot write {folder}: {error.strerror or error}; what was stored is safe: make room, run again"
        ) from error


def _sidecar(image: _Image) -> bytes:
    """Canonical JSON: keys in order, no blanks."""
    facts, source_file = image.facts, json.dumps(image.source_file)
    return (
        f'{{"format":"{facts.format}","height":{facts.height},"photo_id":{image.photo_id},'
        f'"sha256":"{facts.sha256.hex()}","source_file":{source_file},"width":{facts.width}}}'
    ).encode()


def _row(photo_id: int, file_name: str, offset: int, facts: ImageFacts) -> tuple[object, ...]:
    """An image in the order of `schema.INDEX`."""
    return (
        photo_id,
        file_name,
        offset,
        facts.size,
        facts.sha256,
        facts.dhash,
        facts.width,
        facts.height,
        facts.format,
        facts.mode,
        facts.orientation,
        facts.gps,
        facts.animated,
    )
