"""Shards made of shards: some images left out, or several shards in one; not a byte of an image is touched.

The result is what the images would have made if they had come together in the first place: members in the
order of the photo ids, named by its digest. So whoever is interrupted makes the same shard again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import LakeError
from lakehouse.images import ustar
from lakehouse.images.schema import INDEX, INDEX_ENCODING
from lakehouse.images.shard import Shard, index_key, shard_key
from lakehouse.lake import Lake

_CHUNK = 1 << 20


def repack(lake: Lake, rendition: str, digests: Sequence[str], without: Collection[int] = ()) -> Shard | None:
    """Write one shard with the images of the shards `digests`, but for the photos `without`; None if none
    are left.

    Raises
    ------
    NotFoundError
        A shard is not there.
    LakeError
        A photo is in two of the shards, or a shard is not what its index says.
    """
    index = pa.concat_tables(
        lake.read_table(index_key(rendition, digest))
        .cast(INDEX)
        .append_column("from", pa.array([number] * rows, pa.int32()))
        for number, digest in enumerate(digests)
        if (rows := lake.read_table(index_key(rendition, digest), ["photo_id"]).num_rows)
    )
    index = index.filter(pc.invert(pc.is_in(index["photo_id"], pa.array(list(without), pa.int64()))))
    index = index.sort_by("photo_id")
    if not len(index):
        return None
    if pc.count_distinct(index["photo_id"]).as_py() != len(index):
        raise LakeError(f"shards {', '.join(digests)} share a photo and cannot be one; verify the lake")
    with lake.scratch() as folder, ExitStack() as stack:
        tars = [stack.enter_context(_opened(lake, rendition, digest, folder)) for digest in digests]
        target, digest, position = folder / "shard.tar", hashlib.sha256(), 0
        offsets = np.zeros(len(index), np.int64)
        with target.open("wb") as archive:
            columns = (index[name].to_pylist() for name in ("from", "offset", "size", "photo_id"))
            for row, (number, offset, size, photo_id) in enumerate(zip(*columns, strict=True)):
                offsets[row] = position + ustar.BLOCK
                for piece in _members(tars[number], offset, size, photo_id):
                    digest.update(piece)
                    position += archive.write(piece)
            trailer = ustar.trailer(position)
            digest.update(trailer)
            position += archive.write(trailer)
        name = digest.hexdigest()
        place = index.schema.get_field_index("offset")
        rows = index.set_column(place, INDEX.field("offset"), pa.array(offsets)).select(INDEX.names)
        if not lake.exists(index_key(rendition, name)):
            lake.publish(target, shard_key(rendition, name))
            with lake.parquet_writer(index_key(rendition, name), INDEX, **INDEX_ENCODING) as writer:
                writer.write_table(rows.combine_chunks())
    return Shard(name, position, len(rows))


def _opened(lake: Lake, rendition: str, digest: str, folder: Path) -> BinaryIO:
    """A shard's archive as a local file; one on S3 is copied to `folder`."""
    if lake.is_local:
        path = Path(lake.uri(shard_key(rendition, digest)))
    else:
        path = folder / f"{digest}.from"
        with path.open("wb") as copy:
            for chunk in lake.chunks(shard_key(rendition, digest)):
                copy.write(chunk)
    return path.open("rb")


def _members(tar: BinaryIO, offset: int, size: int, photo_id: int) -> Iterator[bytes]:
    """The bytes of an image and of the JSON beside it, headers and padding included."""
    tar.seek(offset - ustar.BLOCK)
    left = ustar.BLOCK + _padded(size)
    while left:
        piece = tar.read(min(left, _CHUNK))
        if not piece:
            raise LakeError(f"photo {photo_id} is not where its shard's index says; verify the lake")
        left -= len(piece)
        yield piece
    header = tar.read(ustar.BLOCK)
    if header[: header.find(b"\0")] != f"{photo_id}.json".encode():
        raise LakeError(f"photo {photo_id} is not where its shard's index says; verify the lake")
    yield header
    yield tar.read(_padded(int(header[124:135], 8)))


def _padded(size: int) -> int:
    return -(-size // ustar.BLOCK) * ustar.BLOCK
