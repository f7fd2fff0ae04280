"""Real tables and photographs laid out as the bucket they came from, and served on loopback."""

from __future__ import annotations

import csv
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import Lakehouse
from tests.images.conftest import free_port

TABLES = ("observations", "observers", "photos", "taxa")
BROKEN = "african_elephants_truncated_file.jpg"
LIFE = 48460


@dataclass(frozen=True, slots=True)
class Mirror:
    """A bucket in a directory, and which file lies under the key of which photo (None: no file does)."""

    directory: Path
    photos: dict[int, Path | None]

    def lines(self, table: str) -> list[str]:
        """The lines of a table without its header."""
        return (self.directory / f"{table}.csv").read_text(encoding="utf-8").splitlines()[1:]

    def served_as(self, name: str) -> set[int]:
        """The photos that are the file called `name`."""
        return {photo for photo, file in self.photos.items() if file is not None and file.name == name}

    @property
    def missing(self) -> set[int]:
        """The photos that have a row and no file."""
        return {photo for photo, file in self.photos.items() if file is None}


@pytest.fixture(scope="session")
def mirror(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    """The four tables as they are; every seventh photo is missing, the others are real pictures in turn."""
    directory = tmp_path_factory.mktemp("mirror")
    for table in TABLES:
        source = shared_data / "inat_open_data_sample" / "inaturalist-open-data" / f"{table}.csv"
        shutil.copyfile(source, directory / source.name)
    folders = ("images_speciesnet", "images_exif_orientation")
    pictures = [file for folder in folders for file in sorted((shared_data / folder).glob("*.jpg"))]
    photos: dict[int, Path | None] = {}
    rows = csv.DictReader(
        (directory / "photos.csv").read_text(encoding="utf-8").splitlines(),
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
    )
    for number, row in enumerate(sorted(rows, key=lambda row: int(row["photo_id"]))):
        picture = None if number % 7 == 6 else pictures[number % len(pictures)]
        photos[int(row["photo_id"])] = picture
        if picture:
            target = directory / "photos" / row["photo_id"] / f"medium.{row['extension']}"
            target.parent.mkdir(parents=True)
            shutil.copyfile(picture, target)
    return Mirror(directory, photos)


@pytest.fixture(scope="session")
def named_mirror(mirror: Mirror, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    """The same bucket with a place in the tree for every observed taxon.

    The sample's 50 taxa are not those of its 50 observations. Those that the sample's taxonomy has are taken
    from there with all that is above them; of the others only the id is known, and they are put below Life
    as species named after it.
    """
    directory = tmp_path_factory.mktemp("named") / "bucket"
    shutil.copytree(mirror.directory, directory)
    with (shared_data / "inat_open_data_sample" / "taxonomy.csv").open(encoding="utf-8") as file:
        known = {int(row["id"]): row for row in csv.DictReader(file)}
    present = {int(line.split("\t")[0]) for line in mirror.lines("taxa")}
    observed = {int(line.split("\t")[5]) for line in mirror.lines("observations")}
    added: dict[int, str] = {}
    for taxon in observed - present:
        path = _path(taxon, known)
        for depth, one in enumerate(path):
            above = "/".join(map(str, path[:depth]))
            added[one] = f"{one}\t{above}\t\t{known[one]['rank']}\t{known[one]['name']}\ttrue"
        if not path:
            added[taxon] = f"{taxon}\t{LIFE}\t10\tspecies\tSpecies numero {taxon}\ttrue"
    with (directory / "taxa.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{added[one]}\n" for one in sorted(added.keys() - present))
    return Mirror(directory, mirror.photos)


def _path(taxon: int, known: dict[int, dict[str, str]]) -> list[int]:
    """From the root to the taxon, empty if the taxonomy does not have it."""
    path: list[int] = []
    while taxon in known:
        path.insert(0, taxon)
        above = known[taxon]["parent_id"]
        if not above:
            break
        taxon = int(above)
    return path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, because another of its requests was quicker, is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """The address of an ordinary web server on `directory`, while the block runs."""
    with _Server(("127.0.0.1", free_port()), partial(_Quiet, directory=directory)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def lakehouse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Lakehouse:
    """The command on a new lake."""
    return Lakehouse(capsys, monkeypatch).at(tmp_path / "lake")
