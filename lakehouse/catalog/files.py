"""The files a dataset consists of, as every catalogue lists them: name, address, digest, size and role."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from lakehouse.errors import CatalogError

Role = Literal[
    "shard",
    "manifest",
    "attribution",
    "credits",
    "taxa",
    "card",
    "croissant",
    "checksums",
    "figure",
    "citation",
    "archive",
    "earlier",
]

# What a file's ending says; Parquet's registered type is the newer one, this is the one that Croissant's
# reader knows.
MEDIA_TYPES = {
    ".tar": "application/x-tar",
    ".parquet": "application/x-parquet",
    ".json": "application/ld+json",
    ".jsonld": "application/ld+json",
    ".cff": "application/yaml",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".gz": "application/gzip",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".zip": "application/zip",
    ".xml": "application/xml",
}
# What a name says that its ending does not.
_NAMED = {"datacite.json": "application/vnd.datacite.datacite+json"}
# What a file is, by its role.
DESCRIPTIONS: dict[Role, str] = {
    "shard": "Photographs as a WebDataset tar",
    "manifest": "One row per photograph: label, split, licence, place, date, digest",
    "attribution": "Creator, licence and source of each photograph",
    "credits": "Creator, licence and source of each photograph, for reading",
    "taxa": "The labels with their classification",
    "card": "Dataset card: what it holds, how it was made, what to beware of",
    "croissant": "Croissant description: loads the dataset in machine-learning tools",
    "checksums": "sha256 of every file",
    "figure": "A figure of the dataset card",
    "citation": "How the dataset is cited",
    "archive": "The records as a Darwin Core Archive",
    "earlier": "An earlier version of this dataset, as Croissant",
}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """One file of a published dataset.

    Parameters
    ----------
    name
        Unique within the dataset, for example `data/train-000000-0123456789ab.tar`.
    url
        Where it is read: absolute, or relative to the folder that holds `croissant.json`.
    sha256, size
        Digest (64 hex digits) and bytes.
    media_type
        Its MIME type.
    role
        What it is in the dataset.
    split
        The split whose photographs it holds, where it holds those of one.
    """

    name: str
    url: str
    sha256: str
    size: int
    media_type: str
    role: Role
    split: str | None = None

    @property
    def description(self) -> str:
        """What the file is, in words."""
        words = DESCRIPTIONS[self.role]
        return f"{words} (split {self.split})." if self.split else f"{words}."


def shard_name(split: str, number: int, sha256: str) -> str:
    """The name of a shard in an export, `data/<split>-<number>-<12 hex digits>.tar`.

    The digest is in the name because readers cache what they unpack by its address: two versions of a
    dataset must never serve different pixels under one name. `data/<split>-*.tar` still finds the shards of
    a split.
    """
    return f"data/{split}-{number:06d}-{sha256[:12]}.tar"


def describe_file(path: Path, name: str, role: Role, split: str | None = None) -> DatasetFile:
    """A file on this disk as a `DatasetFile` whose address is its name, as in an exported directory.

    Raises
    ------
    CatalogError
        Its ending is none of a dataset's file types.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return DatasetFile(name, name, digest.hexdigest(), size, media_type(name), role, split)


def describe_bytes(data: bytes, name: str, role: Role) -> DatasetFile:
    """A small file held in memory as a `DatasetFile` whose address is its name.

    Raises
    ------
    CatalogError
        Its ending is none of a dataset's file types.
    """
    return DatasetFile(name, name, hashlib.sha256(data).hexdigest(), len(data), media_type(name), role)


def media_type(name: str) -> str:
    """The MIME type that a file's ending says; raises CatalogError for an ending a dataset does not have."""
    path = PurePosixPath(name)
    if path.name in _NAMED:
        return _NAMED[path.name]
    ending = path.suffix
    if ending not in MEDIA_TYPES:
        raise CatalogError(
            f"{name}: a dataset has no {ending or 'unnamed'} files; known are {', '.join(MEDIA_TYPES)}"
        )
    return MEDIA_TYPES[ending]


def of_role(files: Iterable[DatasetFile], role: Role) -> tuple[DatasetFile, ...]:
    """The files of one role, in their order."""
    return tuple(file for file in files if file.role == role)


def only(files: Iterable[DatasetFile], role: Role) -> DatasetFile:
    """The single file of a role; raises CatalogError if there is none or more than one."""
    found = of_role(files, role)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CatalogError(f"a dataset has exactly one {role} file; found {names}")
    return found[0]


def checked(files: Sequence[DatasetFile]) -> tuple[DatasetFile, ...]:
    """The files in order of name; raises CatalogError for a name, an address or a digest that cannot be
    right."""
    seen: dict[str, str] = {}
    for file in files:
        if not re.fullmatch(r"[0-9a-f]{64}", file.sha256) or file.size < 0:
            raise CatalogError(
                f"{file.name}: sha256 {file.sha256!r} and size {file.size} do not describe a file"
            )
        for key in ("name " + file.name, "address " + file.url):
            if key in seen:
                raise CatalogError(f"two files of the dataset have the {key}; each must be listed once")
            seen[key] = file.name
    return tuple(sorted(files, key=lambda file: file.name))


def resolved(files: Iterable[DatasetFile], base: str) -> tuple[DatasetFile, ...]:
    """The files with absolute addresses: relative ones are taken from `base`, the folder of
    `croissant.json`."""
    return tuple(
        file if is_absolute(file.url) else replace(file, url=_joined(base, file.url)) for file in files
    )


def is_absolute(url: str) -> bool:
    """Whether an address has a scheme."""
    return re.match(r"[a-z][a-z0-9+.-]*:", url) is not None


def _joined(base: str, url: str) -> str:
    # urllib's urljoin leaves s3:// addresses alone, so the path is joined here.
    scheme, separator, rest = base.partition("://")
    host, _, path = rest.partition("/")
    joined = posixpath.normpath(posixpath.join("/" + path, url))
    if not separator:
        raise CatalogError(
            f"{base!r} is not an address that files can be found below; give https://... or s3://..."
        )
    return f"{scheme}://{host}{joined}"
