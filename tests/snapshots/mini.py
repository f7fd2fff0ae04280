"""A lake of a few frogs, built in a second by the library alone, that a test may refresh and harm."""

from __future__ import annotations

import io
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

from lakehouse.campaign import Campaign
from lakehouse.images.partition import build_partition
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import ingest_release
from lakehouse.metadata.partitions import build_plan
from lakehouse.metadata.photos import build_photos
from lakehouse.metadata.splits import split_of
from lakehouse.metadata.taxonomy import build_taxa
from lakehouse.snapshots.build import SnapshotBuild, build_snapshot
from lakehouse.sources.inaturalist import InaturalistSource
from tests.metadata.conftest import Bucket, uuid_of


def picture(seed: int, quality: int = 90) -> bytes:
    """A photograph of blurred noise; other seeds look nothing like it, another quality looks the same."""
    noise = Image.frombytes("L", (64, 48), random.Random(seed).randbytes(64 * 48))
    image = noise.filter(ImageFilter.GaussianBlur(3)).point(
        lambda value: max(0, min(255, (value - 128) * 8 + 128))
    )
    data = io.BytesIO()
    image.resize((256, 192)).save(data, "JPEG", quality=quality)
    return data.getvalue()


@dataclass
class Pond(Bucket):
    """A bucket of frogs with photographs, each of an observation of its own unless told otherwise."""

    def frog(
        self,
        photo_id: int,
        taxon: int = 102,
        *,
        seed: int | None = None,
        quality: int = 90,
        observation: int | None = None,
        observer: int = 1,
        licence: str = "CC-BY",
    ) -> None:
        """Add a research-grade photo."""
        number = observation or photo_id
        if uuid_of(number) not in {row[0] for row in self.observations}:
            self.observe(number, taxon)
            self.observations[-1] = (uuid_of(number), observer, *tuple(self.observations[-1])[2:])
        self.photograph(photo_id, number, licence=licence, observer=observer)
        if observer > 2 and observer not in {row[0] for row in self.observers}:
            self.observers.append((observer, f"login{observer}", f"Person Number{observer}"))
        file = self.directory / "photos" / str(photo_id) / "medium.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(photo_id if seed is None else seed, quality))

    def without(self, photo_id: int) -> None:
        """Let the source have the photo no more."""
        self.photos = [row for row in self.photos if row[1] != photo_id]


def frogs(**values: Any) -> Campaign:
    """A campaign of frogs."""
    said = {
        "name": "frogs",
        "title": "Frogs",
        "description": "Frogs of a pond.",
        "creators": [{"name": "Ann Other"}],
        "taxa": ["Rana", "Hyla"],
        **values,
    }
    return Campaign.model_validate(said)


def build(lake: Lake, pond: Pond, campaign: Campaign) -> SnapshotBuild:
    """Write the bucket, take it in and make the next version."""
    pond.write()
    # By name, for a folder's name follows from where it lies, and tests copy it.
    with (
        InaturalistSource("inaturalist", str(pond.directory), lake.settings) as source,
        lake.connect() as connection,
    ):
        release = ingest_release(lake, source, source.current_release(), accept_shrink=True).release_id
        build_taxa(lake, source.name, release)
        build_photos(lake, source.name, release, connection)
        plan = build_plan(lake, campaign, source.name, release)
        for partition in plan.partitions:
            build_partition(lake, campaign, plan, partition.key, source, connection)
        return build_snapshot(lake, campaign, source.name, "https://example.org", connection)


FIRST = 777_000_001  # photo ids that nothing else in a lake looks like
GONE, CLOSED, RENAMED, OPENED, NEW = (FIRST + number for number in (4, 7, 10, 13, 100))
COPY = FIRST + 50  # the same picture as that of the first photo whose split is another one


def stock(pond: Pond) -> None:
    """The first month: 18 frogs, and a copy of one in another split."""
    for number in range(18):
        pond.frog(FIRST + number, (102, 103, 111)[number % 3], observer=10 + number // 2)
    splits = {"train": 0.8, "val": 0.1, "test": 0.1}
    split = split_of(uuid_of(COPY), splits)
    original = next(
        FIRST + number for number in range(18) if split_of(uuid_of(FIRST + number), splits) != split
    )
    pond.frog(COPY, 102, seed=original, observer=40)


def second_month(pond: Pond) -> None:
    """What a refresh finds: a photo withdrawn, one closed, one identified anew, one relicensed, one added."""
    pond.without(GONE)
    licences = {CLOSED: "CC-BY-NC", OPENED: "CC0"}
    pond.photos = [(*row[:5], licences.get(row[1], row[5]), *row[6:]) for row in pond.photos]
    pond.observations = [
        (*row[:5], 102 if row[0] == uuid_of(RENAMED) else row[5], *row[6:]) for row in pond.observations
    ]
    pond.frog(NEW, 103, observer=41)


@dataclass(frozen=True, slots=True)
class Ponds:
    """Two months of a lake in the folder `path`, with the pond of each and what was built of it."""

    path: Path
    first: Pond
    one: SnapshotBuild
    second: Pond
    two: SnapshotBuild

    def into(self, lake: Lake, pond: Pond, *, second: bool) -> SnapshotBuild:
        """Copy a month into an empty lake and a pond without rows."""
        folder, source = (self.path, self.second) if second else (self.path / "first", self.first)
        shutil.copytree(folder / "lake", lake.path, dirs_exist_ok=True)
        shutil.copytree(self.path / "pond", pond.directory)
        for name in ("taxa", "observers", "observations", "photos"):
            setattr(pond, name, list(getattr(source, name)))
        return self.two if second else self.one
