"""From the `source` of a campaign file to an open source."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.errors import CampaignError
from lakehouse.lake import Lake
from lakehouse.sources.archive import ArchiveSource, is_archive
from lakehouse.sources.base import Source
from lakehouse.sources.inaturalist import InaturalistSource

_SCHEMES = ("http://", "https://", "s3://")
_SLUG = 40
_DATE = re.compile(r"-(latest|[0-9]{8})(?=\.[a-z.]+$)")


@contextmanager
def open_source(name: str, lake: Lake) -> Iterator[Source]:
    """Open the source that a campaign names.

    Parameters
    ----------
    name
        `inaturalist` (what LAKEHOUSE_SOURCE says), `embedded` (the project's own miniature bucket, served on
        loopback while the block runs), or a URL or directory with the layout of iNaturalist Open Data, or
        that of its dated archive (`….tar.gz`).
    lake
        Whose settings apply, and beside which the embedded source is kept.

    Raises
    ------
    CampaignError
        `name` is none of these.
    """
    if name == "embedded":
        with _embedded(lake) as source:
            yield source
        return
    uri = lake.settings.source if name == "inaturalist" else name
    is_local = bool(uri) and "://" not in uri
    is_here = is_local and (Path(uri).is_dir() or (is_archive(uri) and Path(uri).is_file()))
    known = name == "inaturalist" or uri.startswith(_SCHEMES) or is_here
    if not known:
        raise CampaignError(
            f"source {name!r} is not known: give 'inaturalist', 'embedded', an http(s):// or s3:// URL, "
            "or a directory that holds observations.csv.gz, observers.csv.gz, photos.csv.gz and taxa.csv.gz, "
            "or a dated archive of them (.tar.gz)"
        )
    if is_archive(uri):
        with ArchiveSource(source_name_of(name), uri, lake.settings) as archive:
            yield archive
        return
    with InaturalistSource(source_name_of(name), uri, lake.settings) as source:
        yield source


def source_name_of(name: str) -> str:
    """The folder in the lake of the source that a campaign calls `name`: itself, or a slug of its address.

    Archives that differ only in their dates are releases of one source.
    """
    if name in ("inaturalist", "embedded"):
        return name
    address = name.rstrip("/") if "://" in name else str(Path(name).expanduser().absolute())
    if is_archive(address):
        address = _DATE.sub("", address)
    words = re.findall(r"[a-z0-9]+", address.split("://")[-1].lower())
    while len(words) > 1 and len("-".join(words)) > _SLUG:
        words.pop(0)
    return f"{'-'.join(words)[-_SLUG:] or 'mirror'}-{hashlib.sha256(address.encode()).hexdigest()[:6]}"


def embedded_directory(lake: Lake) -> Path:
    """Where the embedded source's files are: in the lake's folder, or in the current one if it is remote."""
    return lake.path / "embedded-source" if lake.is_local else Path("embedded-source")


@contextmanager
def _embedded(lake: Lake) -> Iterator[Source]:
    # Drawing photographs needs an imaging library that no other source needs.
    from lakehouse.demo.bucket import current_month, write_bucket
    from lakehouse.demo.server import serve

    directory = embedded_directory(lake)
    if current_month(directory) is None:
        write_bucket(directory, month=1)
    with (
        serve(directory) as server,
        InaturalistSource("embedded", server.url, lake.settings, reference_url="embedded:") as source,
    ):
        yield source
