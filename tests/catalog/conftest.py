"""A small real dataset, as an exported directory and as it lies in a lake."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lakehouse.campaign import Creator
from lakehouse.catalog.attribution import changes_of, write_attribution
from lakehouse.catalog.files import DatasetFile, describe_file, shard_name
from lakehouse.catalog.statistics import Statistics, summarize
from lakehouse.licences import LICENCES, attribution
from lakehouse.snapshots.model import About, Counts, FileRef, Inputs, PartitionParts, Root, ShardRef, Version
from lakehouse.snapshots.schema import MANIFEST, TAXA

CLASSIFICATION = {
    "Apis mellifera": (47219, "Animalia", "Arthropoda", "Insecta", "Hymenoptera", "Apidae", "Apis"),
    "Turdus merula": (12716, "Animalia", "Chordata", "Aves", "Passeriformes", "Turdidae", "Turdus"),
    "Danaus plexippus": (48662, "Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Nymphalidae", "Danaus"),
    "Quercus robur": (56133, "Plantae", "Tracheophyta", "Magnoliopsida", "Fagales", "Fagaceae", "Quercus"),
    "Amanita muscaria": (
        48715,
        "Fungi",
        "Basidiomycota",
        "Agaricomycetes",
        "Agaricales",
        "Amanitaceae",
        "Amanita",
    ),
}
SPLITS = ("train", "train", "train", "val", "test")
CODES = ("CC-BY", "CC-BY", "CC0", "CC-BY-NC")


@dataclass(frozen=True)
class Published:
    """One dataset on disk: `folder` is where its croissant.json stands."""

    folder: Path
    version: Version
    root: Root
    manifest: pl.LazyFrame
    statistics: Statistics
    files: tuple[DatasetFile, ...]


def jpeg(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A small JPEG that differs by seed."""
    random = np.random.default_rng(seed)
    picture = Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((width, height))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def shard(path: Path, images: dict[int, bytes]) -> dict[int, int]:
    """Write a deterministic tar and return the offset of each image's bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for photo_id, data in sorted(images.items()):
            member = tarfile.TarInfo(f"{photo_id}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with tarfile.open(path) as tar:
        return {int(Path(member.name).stem): member.offset_data for member in tar}


def row(number: int, data: bytes, seed: int) -> dict[str, object]:
    """One manifest row; the numbers follow a long tail and hold every kind of gap."""
    names = list(CLASSIFICATION)
    label = names[min(int(np.random.default_rng(seed + number).geometric(0.4)) - 1, len(names) - 1)]
    label_id, *ranks = CLASSIFICATION[label]
    code, creator = CODES[number % 4], f"Person {number % 13 if number % 3 else 0}"
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    return {
        "photo_id": 1000 + number,
        "file_name": f"{1000 + number}.jpg",
        "split": SPLITS[number % 5],
        "label_id": label_id,
        "label": label,
        "taxon_rank": "species",
        **dict(zip(("kingdom", "phylum", "class", "order", "family", "genus"), ranks, strict=True)),
        "taxon_id": label_id,
        "license": code,
        "license_url": LICENCES[code].url,
        "creator": creator,
        "attribution": attribution(code, creator),
        "photo_url": f"https://example.org/photos/{1000 + number}/medium.jpg",
        "observation_url": f"https://example.org/observations/{number // 2}",
        "observation_uuid": f"00000000-0000-4000-8000-{number // 2:012d}",
        "quality_grade": "research",
        "observed_on": None if number % 11 == 0 else date(2019, 1, 1) + timedelta(days=37 * number),
        "latitude": None if number % 7 == 0 else round(30 + number % 17 * 1.3, 1),
        "longitude": None if number % 7 == 0 else round(-120 + number % 23 * 2.1, 1),
        "positional_accuracy": None if number % 5 == 0 else 10 * number,
        "width": width,
        "height": height,
        "format": "jpeg",
        "sha256": hashlib.sha256(data).hexdigest(),
        "dhash": f"{number:016x}",
        "size": len(data),
    }


def records(manifest: pl.DataFrame, name: str, shards: list[tuple[Path, int]]) -> tuple[Version, Root]:
    """The version and root of a manifest."""

    def ref(key: str, sha256: str = "0" * 64, size: int = 1, rows: int = 1) -> FileRef:
        return FileRef(key=key, sha256=sha256, size=size, rows=rows)

    root = Root(
        campaign=name,
        content_id=hashlib.sha256(manifest.write_csv().encode()).hexdigest(),
        parameters={
            "label": "species",
            "image": "medium",
            "where": {"quality": ["research"]},
            "taxa": [47219],
        },
        split_salt="salt",
        counts=Counts(
            photos=len(manifest),
            labels=manifest["label_id"].n_unique(),
            observations=manifest["observation_uuid"].n_unique(),
            bytes=int(manifest["size"].sum()),
            splits=dict(manifest["split"].value_counts().iter_rows()),
            licenses=dict(manifest["license"].value_counts().iter_rows()),
        ),
        shards=tuple(ShardRef(tar=ref(path.name, rows=rows), index=ref(path.name)) for path, rows in shards),
        partitions=(PartitionParts(partition="apidae-47221", labels=ref("labels"), records=ref("records")),),
        taxa=ref("taxa"),
        inputs=Inputs(
            source="embedded",
            reference_url="https://example.org/open-data",
            release="20260101-0123456789ab",
            tables={"photos": "1" * 64, "observations": "2" * 64},
        ),
    )
    about = About(
        title="Pollinators & friends",
        description="Photographs of pollinators and what else was met, for trying the software.",
        creators=(
            Creator(name="Ada_Example", url="https://orcid.org/0000-0002-1825-0097"),
            Creator(name="Institute of Bees"),
        ),
    )
    version = Version(
        campaign=name,
        version=2,
        snapshot_id=hashlib.sha256(root.model_dump_json().encode()).hexdigest(),
        parent=None,
        created_at="2026-11-22T10:00:00+00:00",
        changes={"added": len(manifest)},
        accounting={"considered": len(manifest) + 7, "included": len(manifest), "licence": 4, "failed": 3},
        about=about,
    )
    return version, root


def table(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=MANIFEST).sort("photo_id")


def build_export(folder: Path, *, photos: int = 60, seed: int = 0, name: str = "pollinators") -> Published:
    """An exported directory: shards per split, manifest.parquet, attribution.parquet."""
    images = {number: jpeg(seed + number) for number in range(photos)}
    rows = [row(number, data, seed) for number, data in images.items()]
    files, shards = [], []
    for split in dict.fromkeys(SPLITS):
        mine = [entry for entry in rows if entry["split"] == split]
        if not mine:
            continue
        members = {int(str(entry["photo_id"])): images[int(str(entry["photo_id"])) - 1000] for entry in mine}
        draft = folder / "draft.tar"
        offsets = shard(draft, members)
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()
        path = folder / shard_name(split, 0, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(path)
        for entry in mine:
            entry |= {"shard": digest, "offset": offsets[int(str(entry["photo_id"]))]}
        files.append(describe_file(path, str(path.relative_to(folder)), "shard", split))
        shards.append((path, len(mine)))
    return _finish(folder, table(rows), name, files, shards)


def build_lake(folder: Path, *, photos: int = 40, others: int = 15, seed: int = 100) -> Published:
    """A lake: shards by digest that also hold photographs of others, and the catalogue folder beside them."""
    catalog = folder / "catalog" / "pollinators" / "v2"
    catalog.mkdir(parents=True)
    images = {number: jpeg(seed + number) for number in range(photos + others)}
    rows, files, shards = [], [], []
    for part in range(2):
        members = {1000 + number: data for number, data in images.items() if number % 2 == part}
        draft = folder / "draft.tar"
        offsets = shard(draft, members)
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()
        key = f"shards/medium/{digest[:2]}/{digest}.tar"
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        draft.rename(folder / key)
        mine = [row(number, images[number], seed) for number in range(photos) if number % 2 == part]
        rows += [entry | {"shard": digest, "offset": offsets[int(str(entry["photo_id"]))]} for entry in mine]
        size = (folder / key).stat().st_size
        files.append(
            DatasetFile(f"{digest}.tar", f"../../../{key}", digest, size, "application/x-tar", "shard")
        )
        shards.append((folder / key, len(mine)))
    return _finish(catalog, table(rows), "pollinators", files, shards)


def _finish(
    folder: Path, manifest: pl.DataFrame, name: str, files: list[DatasetFile], shards: list[tuple[Path, int]]
) -> Published:
    manifest.write_parquet(folder / "manifest.parquet")
    lazy = pl.scan_parquet(folder / "manifest.parquet")
    write_attribution(lazy, folder / "attribution.parquet", changes_of("medium"))
    lazy.select(TAXA.names).unique().sort("label_id").sink_parquet(folder / "taxa.parquet")
    files.append(describe_file(folder / "manifest.parquet", "manifest.parquet", "manifest"))
    files.append(describe_file(folder / "attribution.parquet", "attribution.parquet", "attribution"))
    files.append(describe_file(folder / "taxa.parquet", "taxa.parquet", "taxa"))
    version, root = records(manifest, name, shards)
    return Published(folder, version, root, lazy, summarize(lazy), tuple(files))


@pytest.fixture(scope="session")
def make_export() -> Callable[..., Published]:
    """A function that makes an export in a folder; takes `photos`, `seed` and `name`."""
    return build_export


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return build_export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return build_lake(tmp_path_factory.mktemp("lake"))
