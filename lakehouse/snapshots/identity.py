"""Canonical JSON and the digests that name snapshots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lakehouse.errors import LakeError, NotFoundError
from lakehouse.lake import Lake

_BUFFER = 1 << 20


def canonical_json(value: BaseModel | dict[str, Any]) -> bytes:
    """JSON with sorted keys, no spaces and UTF-8 as it is: equal values give equal bytes."""
    plain = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_hex(data: bytes) -> str:
    """The sha256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The sha256 of a local file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_object(
    lake: Lake, key: str, read: Callable[[int], None] = lambda count: None
) -> tuple[str, int]:
    """The sha256 in hex and the bytes of an object of the lake; raises NotFoundError.

    `read` is told of bytes as they pass. A local file is read straight into one buffer, which hashing does
    not copy.
    """
    digest, size = hashlib.sha256(), 0
    if not lake.is_local:
        for chunk in lake.chunks(key):
            digest.update(chunk)
            size += len(chunk)
            read(len(chunk))
        return digest.hexdigest(), size
    try:
        with Path(lake.uri(key)).open("rb", buffering=0) as stream:
            buffer = bytearray(_BUFFER)
            view = memoryview(buffer)
            while count := stream.readinto(buffer):
                digest.update(view[:count])
                size += count
                read(count)
    except FileNotFoundError:
        raise NotFoundError(f"{lake.uri(key)} is not in the lake") from None
    except OSError as error:
        raise LakeError(f"cannot read {lake.uri(key)}: {error.strerror or error}") from error
    return digest.hexdigest(), size
