"""A snapshot described in its lake, and announced: what the catalogue assets call.

A version's folder `catalog/<campaign>/v<N>/` gets the manifest and attribution tables, statistics, figures,
`croissant.json` and `README.md`. All of it follows from the snapshot, so a file that is there is not made
again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl

from lakehouse.campaign import CkanTarget
from lakehouse.catalog import ckan
from lakehouse.catalog.attribution import changes_of, write_attribution
from lakehouse.catalog.card import render_card
from lakehouse.catalog.croissant import describe, to_json
from lakehouse.catalog.croissant_check import validate
from lakehouse.catalog.files import DatasetFile, Role, describe_bytes, describe_file, media_type, resolved
from lakehouse.catalog.statistics import Statistics, summarize
from lakehouse.catalog.thumbnails import thumbnail_strip
from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.export import write_manifest
from lakehouse.snapshots.model import Root, Version
from lakehouse.snapshots.read import Snapshot, catalog_folder
from lakehouse.snapshots.seal import seal

THUMBNAILS = 12
_STRIP = "figures/strip.jpg"


@dataclass(frozen=True, slots=True)
class Described:
    """What every description starts from: the dataset's files and its statistics."""

    files: tuple[DatasetFile, ...]
    statistics: Statistics


def describe_snapshot(snapshot: Snapshot) -> str:
    """Write `croissant.json` for a snapshot in its lake, unless it is there; returns its key."""
    key = f"{catalog_folder(snapshot.version)}/croissant.json"
    if not snapshot.lake.exists(key):
        made = tables(snapshot)
        document = describe(snapshot.version, snapshot.root, made.statistics, made.files)
        snapshot.lake.put(key, to_json(document))
        seal(snapshot.lake, catalog_folder(snapshot.version))
    return key


def write_card(snapshot: Snapshot) -> str:
    """Write `README.md` and its figures for a snapshot in its lake, unless they are there; returns the
    card's key."""
    folder = catalog_folder(snapshot.version)
    key = f"{folder}/README.md"
    if not snapshot.lake.exists(key):
        made = tables(snapshot)
        links: dict[str, str] = {}
        for name in pictures(snapshot, made.statistics):
            links[Path(name).stem] = name
        card = render_card(snapshot.version, snapshot.root, made.statistics, made.files, links)
        snapshot.lake.put(key, card.encode())
        seal(snapshot.lake, folder)
    return key


def describe_again(lake: Lake) -> list[str]:
    """Describe the versions that photos were taken out of and that lost their description with them; returns
    their names."""
    described = []
    for campaign in refs.campaigns(lake):
        for version in refs.versions(lake, campaign):
            snapshot = Snapshot(lake, version)
            folder = catalog_folder(version)
            missing = not lake.exists(f"{folder}/croissant.json") or not lake.exists(f"{folder}/README.md")
            if version.redacts and missing and snapshot.root.counts.photos:
                describe_snapshot(snapshot)
                write_card(snapshot)
                described.append(version.ref)
    return described


def card_problems(snapshot: Snapshot) -> list[str]:
    """What the card of a snapshot leaves out, one sentence each."""
    lake, folder = snapshot.lake, catalog_folder(snapshot.version)
    try:
        text = lake.get(f"{folder}/README.md").decode()
    except NotFoundError:
        return [f"{snapshot.version.ref} has no card; materialize dataset_card"]
    root = snapshot.root
    said = {
        "its snapshot id": snapshot.version.snapshot_id,
        "its content id": root.content_id,
        "its number of photographs": f"{root.counts.photos:,}",
        **{f"the licence {code}": code for code in root.counts.licenses},
    }
    missing = [
        f"the card does not name {what} ({value})" for what, value in said.items() if value not in text
    ]
    shown = re.findall(r"\]\((figures/[\w./-]+)\)", text)
    lost = [
        f"the card shows {name}, which is not there" for name in shown if not lake.exists(f"{folder}/{name}")
    ]
    return [*missing, *lost]


def pictures(snapshot: Snapshot, statistics: Statistics) -> dict[str, bytes]:
    """The card's figures and thumbnails in its lake, made unless they are there: bytes by file name."""
    lake, folder = snapshot.lake, catalog_folder(snapshot.version)
    if lake.exists(f"{folder}/{_STRIP}"):
        return {key.removeprefix(f"{folder}/"): lake.get(key) for key in lake.list(f"{folder}/figures")}
    # matplotlib takes most of a second to import, and most commands draw nothing.
    from lakehouse.catalog.plots import figures

    samples = snapshot.samples(shuffle=True, seed=0)
    strip = thumbnail_strip([samples[place].image for place in range(min(THUMBNAILS, len(samples)))])
    # Last: the strip says that the others are there.
    drawn = {**{f"figures/{name}.png": data for name, data in figures(statistics).items()}, _STRIP: strip}
    for name, data in drawn.items():
        lake.put(f"{folder}/{name}", data)
    return drawn


def tables(snapshot: Snapshot) -> Described:
    """The manifest, attribution and statistics of a snapshot in its lake, made unless they are there."""
    lake, folder = snapshot.lake, catalog_folder(snapshot.version)
    try:
        listed = json.loads(lake.get(f"{folder}/files.json"))
        statistics = Statistics.model_validate_json(lake.get(f"{folder}/statistics.json"))
        return Described(tuple(DatasetFile(**file) for file in listed), statistics)
    except NotFoundError:
        pass
    with lake.scratch() as scratch:
        manifest, attribution = scratch / "manifest.parquet", scratch / "attribution.parquet"
        write_manifest(snapshot, manifest)
        frame = pl.scan_parquet(manifest)
        write_attribution(frame, attribution, changes_of(str(snapshot.root.parameters["image"])))
        statistics = summarize(frame)
        files = (
            *_shards(snapshot, folder),
            describe_file(manifest, "manifest.parquet", "manifest"),
            describe_file(attribution, "attribution.parquet", "attribution"),
        )
        lake.publish(manifest, f"{folder}/manifest.parquet")
        lake.publish(attribution, f"{folder}/attribution.parquet")
    lake.put(f"{folder}/statistics.json", statistics.model_dump_json(indent=1).encode())
    # Last: this list says that the others are there.
    lake.put(f"{folder}/files.json", json.dumps([asdict(file) for file in files], indent=1).encode())
    return Described(files, statistics)


def _shards(snapshot: Snapshot, folder: str) -> Iterator[DatasetFile]:
    up = "../" * (folder.count("/") + 1)
    for shard in snapshot.root.shards:
        tar = shard.tar
        name = f"{tar.sha256}.tar"
        yield DatasetFile(name, up + tar.key, tar.sha256, tar.size, media_type(name), "shard")


def croissant_problems(snapshot: Snapshot) -> list[str]:
    """What is wrong with a snapshot's `croissant.json`, one sentence each."""
    with _local(snapshot.lake, f"{catalog_folder(snapshot.version)}/croissant.json", snapshot) as path:
        return validate(path)


@contextmanager
def _local(lake: Lake, key: str, snapshot: Snapshot) -> Iterator[Path]:
    """The Croissant file on this disk; of a lake on S3, a copy whose addresses are absolute."""
    if lake.is_local:
        yield lake.path / key
        return
    made = tables(snapshot)
    files = resolved(made.files, lake.public_uri(catalog_folder(snapshot.version)))
    with lake.scratch() as folder:
        path = folder / "croissant.json"
        path.write_bytes(to_json(describe(snapshot.version, snapshot.root, made.statistics, files)))
        yield path


def publish_to_ckan(snapshot: Snapshot, target: CkanTarget, settings: Settings) -> ckan.CkanEntry:
    """Create or update the CKAN entry of a snapshot's campaign; raises CatalogError."""
    return ckan.publish(*_announced(snapshot), target, settings)


def ckan_differences(snapshot: Snapshot, target: CkanTarget, settings: Settings) -> list[str]:
    """How the CKAN entry differs from the snapshot, one sentence each."""
    entry = ckan.fetch_entry(snapshot.version.campaign, settings)
    if entry is None:
        return [f"CKAN has no entry {snapshot.version.campaign!r}; materialize ckan_entry"]
    return ckan.differences(entry, *_announced(snapshot), target)


def _announced(snapshot: Snapshot) -> tuple[Version, Root, Statistics, tuple[DatasetFile, ...]]:
    """What CKAN is told: version, root, statistics and files, with addresses that others can read."""
    made, folder = tables(snapshot), catalog_folder(snapshot.version)
    files = list(made.files)
    extra: tuple[tuple[str, Role], ...] = (("croissant.json", "croissant"), ("README.md", "card"))
    for name, role in extra:
        data = snapshot.lake.get(f"{folder}/{name}")
        files.append(describe_bytes(data, name, role))
    lake = snapshot.lake
    if lake.is_local and lake.settings.public_url is None:
        # Nobody else can read this disk, and its paths are private: files are named by digest.
        addresses = tuple(replace(file, url=f"urn:sha256:{file.sha256}") for file in files)
    else:
        addresses = resolved(files, lake.public_uri(folder))
    return snapshot.version, snapshot.root, made.statistics, addresses
