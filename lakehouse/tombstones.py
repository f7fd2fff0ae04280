"""Photos that were taken back for good: what every floor asks before it lets a photo in.

A tombstone holds no photo id and no digest of an image, only salted digests of them, with the reason and the
day; the salt is the lake's own. Ids are short numbers, so that whoever has both salt and digest can find an
id by trying all of them: a tombstone keeps a photo from being read off, not from being guessed.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from lakehouse.errors import AlreadyExistsError, LakeError, NotFoundError
from lakehouse.lake import Lake

Reason = Literal["legal", "privacy"]

FOLDER = "removals/photos"
_SALT = "removals/salt"


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The tombstones of a lake: salted digest of a photo's id, or of its bytes' sha256, to the reason."""

    salt: str = ""
    photos: Mapping[str, Reason] = field(default_factory=dict)
    images: Mapping[str, Reason] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.photos)

    @property
    def digest(self) -> str:
        """Equal for equal tombstones."""
        return hashlib.sha256("".join(sorted(self.photos)).encode()).hexdigest()

    def of_photo(self, photo_id: int) -> Reason | None:
        """Why a photo was taken back; None if it was not."""
        return self.photos.get(_salted(self.salt, str(photo_id))) if self.photos else None

    def of_image(self, sha256: bytes) -> Reason | None:
        """Why an image of these bytes was taken back; None if none was."""
        return self.images.get(_salted(self.salt, sha256.hex())) if self.images else None

    def sql(self, photo_id: str) -> str:
        """SQL that is true of a photo that was taken back; `photo_id` is an expression."""
        if not self.photos:
            return "false"
        listed = ", ".join(f"'{digest}'" for digest in sorted(self.photos))
        return f"sha256('{self.salt}:' || {photo_id}::VARCHAR) IN ({listed})"


def load_tombstones(lake: Lake) -> Tombstones:
    """All tombstones of a lake, none where nothing was ever taken back; raises LakeError for a damaged
    one."""
    photos: dict[str, Reason] = {}
    images: dict[str, Reason] = {}
    keys = list(lake.list(FOLDER))
    for key in keys:
        try:
            record = json.loads(lake.get(key))
            photos |= record["photos"]
            images |= record["images"]
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(f"{lake.uri(key)} is damaged ({error}); restore it from a copy") from error
    return Tombstones(lake.get(_SALT).decode(), photos, images) if keys else Tombstones()


def bury(
    lake: Lake, name: str, photos: Mapping[int, Reason], images: Mapping[bytes, Reason], day: str
) -> None:
    """Set up tombstones as the record `name`: from now on no build and no fetch lets these photos in."""
    salt = _salt(lake)
    record = {
        "day": day,
        "photos": _digests(salt, ((str(photo_id), reason) for photo_id, reason in photos.items())),
        "images": _digests(salt, ((sha256.hex(), reason) for sha256, reason in images.items())),
    }
    lake.put(f"{FOLDER}/{name}.json", json.dumps(record, sort_keys=True, indent=1).encode())


def _digests(salt: str, values: Iterable[tuple[str, Reason]]) -> dict[str, Reason]:
    return {_salted(salt, text): reason for text, reason in values}


def _salt(lake: Lake) -> str:
    """The lake's salt, made with its first tombstone."""
    try:
        return lake.get(_SALT).decode()
    except NotFoundError:
        pass
    with suppress(AlreadyExistsError):
        lake.create(_SALT, secrets.token_hex(32).encode())
    return lake.get(_SALT).decode()


def _salted(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt}:{text}".encode()).hexdigest()
