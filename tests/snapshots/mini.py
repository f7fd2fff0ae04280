"""A lake of a few frogs, built in a second by the library alone, that a test may refresh and harm."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

from lakehouse.campaign import Campaign
from lakehouse.images.partition import build_partition
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import ingest_release
from lakehouse.metadata.partitions import build_plan
from lakehouse.metadata.photos import build_photos
from lakehouse.metadata.taxonomy import build_taxa
from lakehouse.snapshots.build import SnapshotBuild, build_snapshot
from lakehouse.sources import open_source
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

    people: dict[int, str] = field(default_factory=dict)

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


def frogs(pond: Pond, **values: Any) -> Campaign:
    """A campaign of the pond's frogs."""
    said = {
        "name": "frogs",
        "title": "Frogs",
        "description": "Frogs of a pond.",
        "creators": [{"name": "Ann Other"}],
        "source": str(pond.directory),
        "taxa": ["Rana", "Hyla"],
        **values,
    }
    return Campaign.model_validate(said)


def build(lake: Lake, pond: Pond, campaign: Campaign) -> SnapshotBuild:
    """Write the bucket, take it in and make the next version."""
    pond.write()
    with open_source(campaign.source, lake) as source, lake.connect() as connection:
        release = ingest_release(lake, source, source.current_release(), accept_shrink=True).release_id
        build_taxa(lake, source.name, release)
        build_photos(lake, source.name, release, connection)
        plan = build_plan(lake, campaign, source.name, release)
        for partition in plan.partitions:
            build_partition(lake, campaign, plan, partition.key, source, connection)
        return build_snapshot(lake, campaign, source.name, source.reference_url, connection)


def new_pond(folder: Path) -> Pond:
    """An empty one."""
    return Pond(folder / "pond")
