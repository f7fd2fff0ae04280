"""A snapshot described in its lake, and announced: what the catalogue assets call.

A version's folder `catalog/<campaign>/v<N>/` gets the manifest and attribution tables, statistics, figures,
`croissant.json` and `README.md`. All of it follows from the snapshot, so a file that is there is not made
again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl

from lakehouse.campaign import Campaign, CkanTarget
from lakehouse.catalog import ckan
from lakehouse.catalog.attribution import changes_of, write_attribution, write_attribution_text
from lakehouse.catalog.card import render_card
from lakehouse.catalog.citation import citation_cff, datacite, lineage_of
from lakehouse.catalog.croissant import describe, to_json
from lakehouse.catalog.croissant_check import validate
from lakehouse.catalog.files import (
    DatasetFile,
    Role,
    describe_bytes,
    describe_file,
    media_type,
    only,
    resolved,
)
from lakehouse.catalog.schema_org import dataset_jsonld
from lakehouse.catalog.sheet import images, pictures, shown
from lakehouse.catalog.statistics import Statistics, summarize
from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.diff import LabelChanges, diff
from lakehouse.snapshots.export import write_manifest
from lakehouse.snapshots.model import Root, Version
from lakehouse.snapshots.read import Snapshot, catalog_folder
from lakehouse.snapshots.seal import seal
from lakehouse.snapshots.verify import verify

CITATIONS = ("CITATION.cff", "datacite.json", "dataset.jsonld")
_EARLIER = 12  # versions that an entry links to
_LAST = "figures/rank_abundance.png"


@dataclass(frozen=True, slots=True)
class Described:
    """What every description starts from: the dataset's files and its statistics."""

    files: tuple[DatasetFile, ...]
    statistics: Statistics


def describe_snapshot(snapshot: Snapshot, page: str | None = None) -> str:
    """Write `croissant.json` for a snapshot in its lake, unless it is there; returns its key. `page` is the
    dataset's landing page."""
    key, made = f"{catalog_folder(snapshot.version)}/croissant.json", tables(snapshot)
    if not snapshot.lake.exists(key):
        document = describe(snapshot.version, snapshot.root, made.statistics, made.files, page=page)
        snapshot.lake.put(key, to_json(document))
        seal(snapshot.lake, catalog_folder(snapshot.version))
    return key


def write_card(snapshot: Snapshot, page: str | None = None) -> str:
    """Write `README.md` and its figures for a snapshot in its lake, unless they are there; returns the
    card's key. `page` is the dataset's landing page."""
    lake, folder = snapshot.lake, catalog_folder(snapshot.version)
    key, made = f"{folder}/README.md", tables(snapshot)
    cited = write_citations(snapshot, page)
    if not lake.exists(key):
        photographs = shown(_manifest(snapshot), made.statistics)
        links: dict[str, str] = {}
        for name in illustrate(snapshot, made.statistics):
            links[Path(name).stem] = name
        card = render_card(
            snapshot.version,
            snapshot.root,
            made.statistics,
            made.files,
            links,
            page,
            photographs=photographs,
            changed=changed_labels(snapshot),
        )
        lake.put(key, card.encode())
    elif not cited:
        return key
    seal(lake, folder)
    return key


def changed_labels(snapshot: Snapshot) -> tuple[LabelChanges, ...]:
    """What changed for each label since the version before, most first; nothing where that is gone."""
    parent = snapshot.version.parent
    if parent is None:
        return ()
    try:
        before = refs.read_root(snapshot.lake, parent)
    except NotFoundError:
        return ()  # taken out of the lake by a removal
    with snapshot.lake.connect() as connection:
        return diff(connection, snapshot.lake, before, snapshot.root).labels


def write_citations(snapshot: Snapshot, page: str | None = None) -> bool:
    """Write `CITATION.cff`, `datacite.json` and `dataset.jsonld` for a snapshot in its lake, unless they are
    there; whether any was not."""
    folder = catalog_folder(snapshot.version)
    missing = [name for name in CITATIONS if not snapshot.lake.exists(f"{folder}/{name}")]
    if missing:
        made = tables(snapshot)
        written = citations(snapshot, made.statistics, made.files, page)
        for name in missing:
            snapshot.lake.put(f"{folder}/{name}", written[name])
    return bool(missing)


def citations(
    snapshot: Snapshot, statistics: Statistics, files: Sequence[DatasetFile], page: str | None = None
) -> dict[str, bytes]:
    """How a snapshot is cited and found: bytes by the names of `CITATIONS`; `page` is its landing page."""
    version, root = snapshot.version, snapshot.root
    registered = datacite(version, root, statistics, files, page=page, lineage=lineage_of(snapshot))
    found = dataset_jsonld(version, root, statistics, files, page=page)
    cited = citation_cff(version, root, statistics, page=page)
    return dict(zip(CITATIONS, (cited, to_json(registered), to_json(found)), strict=True))


def is_described(snapshot: Snapshot) -> bool:
    """Whether the lake holds the whole description of this very snapshot."""
    lake, folder = snapshot.lake, catalog_folder(snapshot.version)
    try:
        listed = json.loads(lake.get(f"{folder}/files.json"))
    except (NotFoundError, ValueError):
        return False
    whole = all(lake.exists(f"{folder}/{name}") for name in ("croissant.json", "README.md"))
    return whole and isinstance(listed, dict) and listed.get("snapshot_id") == snapshot.version.snapshot_id


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


def illustrate(snapshot: Snapshot, statistics: Statistics) -> dict[str, bytes]:
    """The card's figures and small pictures in its lake, drawn unless they are there: bytes by file name."""
    lake, folder = snapshot.lake, catalog_folder(snapshot.version)
    if lake.exists(f"{folder}/{_LAST}"):
        return {key.removeprefix(f"{folder}/"): lake.get(key) for key in lake.list(f"{folder}/figures")}
    photographs = shown(_manifest(snapshot), statistics)
    drawn = pictures(statistics, photographs, images(snapshot, photographs))
    # Last: this one says that the others are there.
    for name in sorted(drawn, key=lambda name: name == _LAST):
        lake.put(f"{folder}/{name}", drawn[name])
    return drawn


def _manifest(snapshot: Snapshot) -> pl.LazyFrame:
    lake = snapshot.lake
    uri = lake.uri(f"{catalog_folder(snapshot.version)}/manifest.parquet")
    return pl.scan_parquet(uri, storage_options=lake.storage_options)


def tables(snapshot: Snapshot) -> Described:
    """The manifest, attribution and statistics of a snapshot in its lake, made unless they are there.

    What is there of another snapshot is erased first: a version out of which photographs were taken keeps its
    number, and nothing that describes them may stay.
    """
    lake, folder = snapshot.lake, catalog_folder(snapshot.version)
    try:
        listed = json.loads(lake.get(f"{folder}/files.json"))
        if listed["snapshot_id"] == snapshot.version.snapshot_id:
            statistics = Statistics.model_validate_json(lake.get(f"{folder}/statistics.json"))
            return Described(tuple(DatasetFile(**file) for file in listed["files"]), statistics)
        erase(lake, folder)
    except NotFoundError:
        pass  # not made yet
    except (ValueError, KeyError, TypeError):
        erase(lake, folder)  # in the form of an earlier release
    with lake.scratch() as scratch:
        statistics, written = write_tables(snapshot, scratch)
        files = (
            *_shards(snapshot, folder),
            *(file for file in written if file.role != "taxa"),
            # It is a part of the snapshot, so it is in the lake already.
            replace(only(written, "taxa"), url=_up(folder) + snapshot.root.taxa.key),
        )
        for file in written:
            if file.role != "taxa":
                lake.publish(scratch / file.name, f"{folder}/{file.name}")
    lake.put(f"{folder}/statistics.json", statistics.model_dump_json(indent=1).encode())
    # Last: this list says that the others are there.
    listed = {"snapshot_id": snapshot.version.snapshot_id, "files": [asdict(file) for file in files]}
    lake.put(f"{folder}/files.json", json.dumps(listed, indent=1).encode())
    return Described(files, statistics)


def erase(lake: Lake, folder: str) -> None:
    """Delete what describes a version; the list that says whose it is goes last, so that an erasure which is
    broken off is seen and done again."""
    for key in sorted(lake.list(folder), key=lambda key: key == f"{folder}/files.json"):
        lake.delete(key)


def write_tables(
    snapshot: Snapshot, folder: Path, placement: Path | None = None
) -> tuple[Statistics, list[DatasetFile]]:
    """Write `manifest.parquet`, `taxa.parquet`, `attribution.parquet` and `ATTRIBUTION.txt.gz` to a folder of
    this disk, and count what the manifest holds; `placement` is as for `snapshots.export.write_manifest`."""
    manifest, attribution = folder / "manifest.parquet", folder / "attribution.parquet"
    credits, taxa = folder / "ATTRIBUTION.txt.gz", folder / "taxa.parquet"
    write_manifest(snapshot, manifest, placement)
    frame = pl.scan_parquet(manifest)
    write_attribution(frame, attribution, changes_of(str(snapshot.root.parameters["image"])))
    write_attribution_text(attribution, credits, snapshot.version)
    with taxa.open("wb") as stream:
        for chunk in snapshot.lake.chunks(snapshot.root.taxa.key):
            stream.write(chunk)
    written = [
        describe_file(manifest, manifest.name, "manifest"),
        describe_file(attribution, attribution.name, "attribution"),
        describe_file(credits, credits.name, "credits"),
        describe_file(taxa, taxa.name, "taxa"),
    ]
    return summarize(frame), written


def _up(folder: str) -> str:
    return "../" * (folder.count("/") + 1)


def _shards(snapshot: Snapshot, folder: str) -> Iterator[DatasetFile]:
    up = _up(folder)
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


def _earlier(snapshot: Snapshot) -> Iterator[DatasetFile]:
    """The Croissant descriptions of the versions before, newest first, as far as they are described."""
    lake, number = snapshot.lake, snapshot.version.version
    before = [one for one in refs.versions(lake, snapshot.version.campaign) if one.version < number]
    for version in reversed(before[-_EARLIER:]):
        try:
            data = lake.get(f"{catalog_folder(version)}/croissant.json")
        except NotFoundError:
            continue
        described = describe_bytes(data, f"v{version.version}/croissant.json", "earlier")
        yield replace(described, url=f"../{described.name}")


def landing_page(campaign: str, target: CkanTarget | None, settings: Settings) -> str | None:
    """Where people find a campaign's dataset: its page in CKAN, if it is published there for all to see."""
    if target is None or target.private or settings.ckan_url is None:
        return None
    return f"{settings.ckan_url.rstrip('/')}/dataset/{campaign}"


def outlets(campaign: Campaign, settings: Settings) -> dict[str, bool]:
    """The assets that publish a campaign, and whether the settings say how to reach each of them."""
    ckan_set = bool(settings.ckan_url and settings.ckan_token)
    known = (
        ("ckan_entry", campaign.publish.ckan, ckan_set),
        ("huggingface", campaign.publish.huggingface, settings.hf_token is not None),
    )
    return {asset: is_set for asset, target, is_set in known if target}


def publish_to_ckan(snapshot: Snapshot, target: CkanTarget, settings: Settings) -> ckan.CkanEntry:
    """Create or update the CKAN entry of a snapshot's campaign, after every byte of the snapshot was checked;
    raises CatalogError."""

    def problems() -> Sequence[str]:
        return verify(snapshot.lake, snapshot.version.ref).problems

    return ckan.publish(*_announced(snapshot), target, settings, problems)


def renew(lake: Lake, campaign: str, target: CkanTarget | None, settings: Settings) -> ckan.CkanEntry | None:
    """After photographs were taken out of a campaign's versions: nothing that describes them stays.

    The descriptions of versions that are gone are erased, and those of versions that now name another
    snapshot are made again. In CKAN the entry then shows the newest version, or is withdrawn if none is
    left; without a `target` CKAN is left alone. Done twice, it changes nothing.

    Returns
    -------
    CkanEntry or None
        The entry as it is then; None if there is none.

    Raises
    ------
    CatalogError
        As `publish_to_ckan`; the lake is in order then, and the entry is not.
    """
    page, versions = landing_page(campaign, target, settings), refs.versions(lake, campaign)
    _describe_again(lake, campaign, page)
    if target is None:
        return None
    if not versions:
        ckan.withdraw(campaign, settings)
        return None
    return publish_to_ckan(Snapshot(lake, versions[-1]), target, settings)


def renew_entries(
    lake: Lake, names: Iterable[str], campaigns: Mapping[str, Campaign], settings: Settings
) -> list[str]:
    """`renew` those of the named campaigns that publish to a CKAN which the settings reach; returns their
    names. The campaign files are looked up in `campaigns` by name."""
    renewed = []
    for name in sorted(set(names) & set(campaigns)):
        target = campaigns[name].publish.ckan
        if target and outlets(campaigns[name], settings)["ckan_entry"]:
            renew(lake, name, target, settings)
            renewed.append(name)
    return renewed


def describe_again(lake: Lake, campaigns: Mapping[str, Campaign]) -> list[str]:
    """After photographs were taken out of a lake: erase the descriptions of versions that are gone, and make
    those again that were erased with the photographs; returns the versions described. The campaign files in
    `campaigns` say where a dataset has its page."""
    described = []
    for name in refs.campaigns(lake):
        target = campaigns[name].publish.ckan if name in campaigns else None
        described += _describe_again(lake, name, landing_page(name, target, lake.settings))
    return described


def _describe_again(lake: Lake, campaign: str, page: str | None = None) -> list[str]:
    versions, described = refs.versions(lake, campaign), []
    kept = {f"catalog/{campaign}/{name}" for name in lake.folders(f"catalog/{campaign}")}
    for folder in sorted(kept - {catalog_folder(version) for version in versions}):
        erase(lake, folder)
    for version in versions:
        snapshot = Snapshot(lake, version)
        stale = version.redacts or catalog_folder(version) in kept
        if stale and snapshot.root.counts.photos and not is_described(snapshot):
            describe_snapshot(snapshot, page)
            write_card(snapshot, page)
            described.append(version.ref)
    return described


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
    files += _earlier(snapshot)
    lake = snapshot.lake
    if lake.is_local and lake.settings.public_url is None:
        # Nobody else can read this disk, and its paths are private: files are named by digest.
        addresses = tuple(replace(file, url=f"urn:sha256:{file.sha256}") for file in files)
    else:
        addresses = resolved(files, lake.public_uri(folder))
    return snapshot.version, snapshot.root, made.statistics, addresses
