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
    "inLanguage",
    "citeAs",
    "isLiveDataset",
)
_LICENCE_URLS = {licence.url for licence in LICENCES.values()}


def validate(path: Path) -> list[str]:
    """The problems of a Croissant file, each one sentence; none if the list is empty.

    Checks the required and recommended properties, every file's digest, size and address (a relative
    address must lead to a file of the given size), the licences, and then whatever mlcroissant reports:
    errors and warnings alike.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"{path} does not exist"]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return [f"{path} is not JSON: {error}"]
    if not isinstance(document, dict):
        return [f"{path} is not a JSON object"]
    return [*_properties(document), *_files(document, path.parent), *_reference_reader(path)]


def _properties(document: dict[str, Any]) -> Iterator[str]:
    for kind, names in (("required", REQUIRED), ("recommended", RECOMMENDED)):
        for name in names:
            if document.get(name) in (None, "", [], {}):
                yield f"the {kind} property {name} is missing"
    stated = document.get("conformsTo", ())
    if CONFORMS_TO[0] not in ([stated] if isinstance(stated, str) else stated):
        yield f"conformsTo does not name {CONFORMS_TO[0]}"
    for url in _listed(document.get("license")):
        if url not in _LICENCE_URLS:
            yield f"the licence {url!r} is not one this project knows"
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(document.get("version", ""))):
        yield f"the version {document.get('version')!r} is not of the form 1.0.0"
    found = {record_set.get("@id") for record_set in _listed(document.get("recordSet"))}
    for name in ("manifest", "samples", "splits"):
        if name not in found:
            yield f"the record set {name} is missing"


def _files(document: dict[str, Any], folder: Path) -> Iterator[str]:
    addresses: set[str] = set()
    objects = [item for item in _listed(document.get("distribution")) if item.get("@type") == "cr:FileObject"]
    if not objects:
        yield "the distribution lists no file"
    for item in objects:
        name, address = item.get("@id", "a file without @id"), str(item.get("contentUrl", ""))
        size = re.fullmatch(r"(\d+) B", str(item.get("contentSize", "")))
        if not re.fullmatch(r"[0-9a-f]{64}", str(item.get("sha256", ""))):
            yield f"{name}: sha256 is missing or not 64 hex digits"
        if not size:
            yield f"{name}: contentSize is missing or not of the form '1234 B'"
        if not item.get("encodingFormat"):
            yield f"{name}: encodingFormat is missing"
        if not address:
            yield f"{name}: contentUrl is missing"
        elif address in addresses:
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


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
