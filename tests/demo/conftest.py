"""One small embedded source of both months for all tests of this folder, and a server for each test."""

from __future__ import annotations

import csv
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.demo import EmbeddedServer, serve, write_bucket

PHOTOS = 300  # the smallest bucket that has every hazard


def table(directory: Path, name: str) -> list[dict[str, str]]:
    """The whole rows of one table, read as the exporter writes them: tabs, no quoting."""
    lines = text(directory, name).splitlines()
    header = lines[0].split("\t")
    rows = [line.split("\t") for line in lines[1:]]
    return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


def text(directory: Path, name: str) -> str:
    """One table as it stands in its file."""
    return gzip.decompress((directory / f"{name}.csv.gz").read_bytes()).decode("utf-8")


def quoted(directory: Path, name: str) -> int:
    """How many rows a reader that believes in quotes finds."""
    csv.field_size_limit(10_000_000)
    return sum(1 for _ in csv.reader(text(directory, name).splitlines(keepends=True), delimiter="\t")) - 1


@pytest.fixture(scope="session")
def month_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first month."""
    directory = tmp_path_factory.mktemp("demo") / "one"
    write_bucket(directory, month=1, photos=PHOTOS)
    return directory


@pytest.fixture(scope="session")
def month_two(tmp_path_factory: pytest.TempPathFactory, month_one: Path) -> Path:
    """The second month, written over a copy of the first."""
    directory = tmp_path_factory.mktemp("demo") / "two"
    shutil.copytree(month_one, directory)
    write_bucket(directory, month=2, photos=PHOTOS)
    return directory


@pytest.fixture
def server(month_one: Path) -> Iterator[EmbeddedServer]:
    """A server of its own for each test, so that first-request faults strike anew."""
    with serve(month_one) as running:
        yield running
