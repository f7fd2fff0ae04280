"""A small bucket to ingest: what a test does not say is ordinary."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from lakehouse.campaign import Campaign
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import RawRelease, ingest_release
from lakehouse.metadata.photos import build_photos
from lakehouse.metadata.taxonomy import build_taxa
from lakehouse.settings import Settings
from lakehouse.sources.inaturalist import InaturalistSource

HEADERS = {
    "observations": "observation_uuid observer_id latitude longitude positional_accuracy taxon_id "
    "quality_grade observed_on anomaly_score",
    "observers": "observer_id login name",
    "photos": "photo_uuid photo_id observation_uuid observer_id extension license width height position",
    "taxa": "taxon_id ancestry rank_level rank name active",
}

TAXA = """
48460;;100;stateofmatter;Life;true
1;48460;70;kingdom;Animalia;true
2;48460/1;60;phylum;Chordata;true
100;48460/1/2;30;family;Ranidae;true
101;48460/1/2/100;20;genus;Rana;true
102;48460/1/2/100/101;10;species;Rana una;true
103;48460/1/2/100/101;10;species;Rana dua;true
104;48460/1/2/100/101/103;5;subspecies;Rana dua minor;true
105;48460/1/2/100/101;10;hybrid;Rana una × dua;true
110;48460/1/2/100;20;genus;Hyla;true
111;48460/1/2/100/110;10;species;Hyla una;true
210;48460/1/2;20;genus;Prunella;true
47126;48460;70;kingdom;Plantae;true
200;48460/47126;20;genus;Prunella;true
201;48460/47126/200;10;species;Prunella vulgaris;true
900;48460/1/2/100/101;10;species;Rana prisca;false
"""


def uuid_of(number: int) -> str:
    return str(uuid.UUID(int=number))


def text_of(table: str, rows: Sequence[Sequence[object]]) -> bytes:
    lines = ["\t".join(HEADERS[table].split()), *("\t".join(str(cell) for cell in row) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


@dataclass
class Bucket:
    """Rows to be written to `directory` as a dump; add to the lists, or give a table's bytes in `raw`."""

    directory: Path
    taxa: list[Sequence[object]] = field(
        default_factory=lambda: [line.split(";") for line in TAXA.strip().splitlines()]
    )
    observers: list[Sequence[object]] = field(
        default_factory=lambda: [(1, "ann", "Ann Other"), (2, "bob", "")]
    )
    observations: list[Sequence[object]] = field(default_factory=list)
    photos: list[Sequence[object]] = field(default_factory=list)
    raw: dict[str, bytes] = field(default_factory=dict)

    def observe(
        self,
        number: int,
        taxon: object,
        grade: str = "research",
        on: str = "2020-05-01",
        at: tuple[object, object] = ("41.1234567890", "-70.9876543210"),
        accuracy: object = 10,
    ) -> str:
        """Add observation `number`; returns its UUID."""
        self.observations.append((uuid_of(number), 1, *at, accuracy, taxon, grade, on, ""))
        return uuid_of(number)

    def photograph(
        self,
        photo_id: int,
        observation: int,
        licence: str = "CC-BY",
        observer: object = 1,
        extension: str = "jpg",
        position: int = 0,
    ) -> None:
        """Add a row for a photo of observation `number`."""
        row = (uuid_of(10**6 + photo_id), photo_id, uuid_of(observation), observer, extension, licence)
        self.photos.append((*row, 2048, 1536, position))

    def write(self) -> None:
        """Write the four tables."""
        self.directory.mkdir(exist_ok=True)
        for table in HEADERS:
            data = self.raw.get(table)
            if data is None:
                data = gzip.compress(text_of(table, getattr(self, table)), mtime=0)
            (self.directory / f"{table}.csv.gz").write_bytes(data)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), Settings())


@pytest.fixture
def connection(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect() as connection:
        yield connection


@pytest.fixture
def ingest(lake: Lake) -> Callable[..., RawRelease]:
    def run(bucket: Bucket, **options: bool) -> RawRelease:
        if not bucket.observations:
            bucket.observe(1, 102)
        if not bucket.photos:
            bucket.photograph(1, 1)
        bucket.write()
        with InaturalistSource("mini", str(bucket.directory), lake.settings) as source:
            return ingest_release(lake, source, source.current_release(), **options)

    return run


@pytest.fixture
def build(
    lake: Lake, ingest: Callable[..., RawRelease], connection: duckdb.DuckDBPyConnection
) -> Callable[[Bucket], str]:
    """Ingest a bucket and build its taxa and photos; gives the release's id."""

    def run(bucket: Bucket) -> str:
        release = ingest(bucket).release_id
        build_taxa(lake, "mini", release)
        build_photos(lake, "mini", release, connection)
        return release

    return run


@pytest.fixture
def campaign() -> Callable[..., Campaign]:
    def make(**values: object) -> Campaign:
        given = {"name": "frogs", "title": "Frogs", "description": "Frogs.", "creators": [{"name": "A"}]}
        return Campaign.model_validate({**given, "taxa": [100], **values})

    return make
