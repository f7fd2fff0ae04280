"""Checking a Croissant file: what the format asks for, what this project promises, and what mlcroissant
says."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakehouse.catalog.files import is_absolute
from lakehouse.catalog.responsible import PROPERTIES
from lakehouse.licences import LICENCES

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
# Source: Croissant 1.1, "Dataset-level information". mlcroissant calls a file without any of them valid.
REQUIRED = (
    "@context",
    "@type",
    "conformsTo",
    "name",
    "description",
    "url",
    "license",
    "creator",
    "datePublished",
)
RECOMMENDED = (
    "keywords",
    "publisher",
    "version",
    "dateCreated",
    "dateModified",
    "sameAs",
    "sdLicense",
    "inLanguage",
    "citeAs",
    "isLiveDataset",
    "prov:wasDerivedFrom",
    "prov:wasGeneratedBy",
    *(f"rai:{name}" for name in PROPERTIES if name != "dataCollectionTimeframe"),
    "rai:hasSyntheticData",
)
# What each part of a description must say, by its type. Source: Croissant 1.1, "Resources", "RecordSets".
_PARTS = {
    "cr:FileObject": ("name", "description", "contentUrl", "contentSize", "encodingFormat", "sha256"),
    "cr:FileSet": ("name", "description", "containedIn", "encodingFormat", "includes"),
    "cr:RecordSet": ("name", "description", "key", "field"),
    "cr:Field": ("name", "description", "dataType"),
}
_RECORD_SETS = ("splits", "taxa", "manifest", "samples")
# Where one part of a description names another.
_REFERENCES = ("containedIn", "fileObject", "fileSet", "field", "key")
_LICENCE_URLS = {licence.url for licence in LICENCES.values()}


def validate(path: Path) -> list[str]:
    """The problems of a Croissant file, each one sentence; none if the list is empty.

    Checks the required and recommended properties of the dataset and of each of its parts, that no part
    names one which is not there, every file's digest, size and address (a relative address must lead to a
    file of the given size), the licences, and then whatever mlcroissant reports: errors and warnings alike.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"{path} does not exist"]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return [f"{path} is not JSON: {error}"]
    if not isinstance(document, dict):
        return [f"{path} is not a JSON object"]
    return [*gate(document, path.parent), *_reference_reader(path)]


def gate(document: dict[str, Any], folder: Path) -> list[str]:
    """What our own list finds wrong with a description that stands in `folder`, without the reference
    reader."""
    return [*_properties(document), *_parts(document), *_files(document, folder)]


def _properties(document: dict[str, Any]) -> Iterator[str]:
    for kind, names in (("required", REQUIRED), ("recommended", RECOMMENDED)):
        for name in names:
            if document.get(name) in (None, "", [], {}):
                yield f"the {kind} property {name} is missing"
    stated = _listed(document.get("conformsTo"))
    for standard in CONFORMS_TO:
        if standard not in stated:
            yield f"conformsTo does not name {standard}"
    for name in ("license", "sdLicense"):
        for url in _listed(document.get(name)):
            if str(url) not in _LICENCE_URLS:
                yield f"the licence {url!r} is not one this project knows"
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(document.get("version", ""))):
        yield f"the version {document.get('version')!r} is not of the form 1.0.0"
    found = {part.get("@id") for part in _mappings(document.get("recordSet"))}
    for name in _RECORD_SETS:
        if name not in found:
            yield f"the record set {name} is missing"


def _parts(document: dict[str, Any]) -> Iterator[str]:
    """Parts that lack what they must say, have the name of another, or name one that is not there."""
    parts = [*_mappings(document.get("distribution")), *_mappings(document.get("recordSet"))]
    parts += [field for part in parts for field in _mappings(part.get("field"))]
    known: set[str] = set()
    for part in parts:
        identity, kind = str(part.get("@id", "a part without @id")), str(part.get("@type"))
        if identity in known:
            yield f"{identity}: two parts have this @id"
        known.add(identity)
        if kind not in _PARTS:
            yield f"{identity}: the type {kind} is none of {', '.join(_PARTS)}"
        for name in _PARTS.get(kind, ()):
            if part.get(name) in (None, "", [], {}):
                yield f"{identity}: {name} is missing"
    for part in parts:
        for name in _named(part):
            if name not in known:
                yield f"{part.get('@id')}: there is no {name}, which it names"


def _named(part: dict[str, Any]) -> Iterator[str]:
    """The parts that a part names, in itself or in where its values come from."""
    places = [part, *_mappings(part.get("source")), *_mappings(part.get("references"))]
    for place in places:
        for name in _REFERENCES:
            for target in _mappings(place.get(name)):
                if set(target) == {"@id"}:
                    yield str(target["@id"])


def _files(document: dict[str, Any], folder: Path) -> Iterator[str]:
    addresses: set[str] = set()
    listed = _mappings(document.get("distribution"))
    objects = [item for item in listed if item.get("@type") == "cr:FileObject"]
    if not objects:
        yield "the distribution lists no file"
    for item in objects:
        name, address = item.get("@id", "a file without @id"), str(item.get("contentUrl", ""))
        size = re.fullmatch(r"(\d+) B", str(item.get("contentSize", "")))
        if not re.fullmatch(r"[0-9a-f]{64}", str(item.get("sha256", ""))):
            yield f"{name}: sha256 is missing or not 64 hex digits"
        if not size:
            yield f"{name}: contentSize is missing or not of the form '1234 B'"
        if not address:
            continue
        if address in addresses:
            yield f"{name}: contentUrl {address} is that of another file too"
        elif not is_absolute(address):
            yield from _on_disk(name, folder / address, int(size[1]) if size else None)
        addresses.add(address)


def _on_disk(name: str, path: Path, size: int | None) -> Iterator[str]:
    if not path.is_file():
        yield f"{name}: there is no file {path}"
    elif size is not None and path.stat().st_size != size:
        yield f"{name}: {path} has {path.stat().st_size} bytes, not {size}"


def _reference_reader(path: Path) -> list[str]:
    # Imported here: it brings pandas and rdflib, which nothing else of this package needs.
    import mlcroissant

    with _warnings() as logged:
        try:
            issues = mlcroissant.Dataset(path).metadata.ctx.issues
            found = [*issues.errors, *issues.warnings]
        except mlcroissant.ValidationError as error:
            found = [str(error)]
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            # What the reader raises on a document it did not expect; that it does is what is wrong with the
            # document.
            found = [f"it cannot be read: {type(error).__name__}: {error}"]
    return [f"mlcroissant: {' '.join(str(text).split())}" for text in [*found, *logged]]


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what mlcroissant logs as a warning (it does not report an unusual context otherwise)."""
    found: list[str] = []

    class _Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    collector, logger = _Collector(logging.WARNING), logging.getLogger("absl")
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in _listed(value) if isinstance(item, dict)]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
