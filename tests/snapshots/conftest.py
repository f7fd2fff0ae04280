"""The demo's two snapshots, and the second one built again from nothing."""

from __future__ import annotations

import copy
import gzip
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.campaign import Campaign
from lakehouse.cli import runs
from lakehouse.images.partition import build_partition
from lakehouse.lake import Lake, open_lake
from lakehouse.metadata.ingest import ingest_release
from lakehouse.metadata.partitions import build_plan
from lakehouse.metadata.photos import build_photos
from lakehouse.metadata.taxonomy import build_taxa
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import SnapshotBuild, build_snapshot
from lakehouse.snapshots.model import Root
from lakehouse.snapshots.read import Snapshot
from lakehouse.sources import open_source
from tests.snapshots.mini import Pond, Ponds, build, frogs, second_month, stock


@pytest.fixture(scope="session")
def first(demo: Any) -> Snapshot:
    """demo@v1."""
    return Snapshot(demo.lake, demo.first.version)


@pytest.fixture(scope="session")
def second(demo: Any) -> Snapshot:
    """demo@v2."""
    return Snapshot(demo.lake, demo.second.version)


@pytest.fixture(scope="session")
def manifest(second: Snapshot) -> pl.DataFrame:
    """The manifest of demo@v2."""
    return second.manifest.collect()


@pytest.fixture
def run() -> Callable[..., str]:
    """Runs a command and gives what it printed; fails if the command does."""

    def call(*command: str, cwd: str) -> str:
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout

    return call


@pytest.fixture(scope="session")
def ponds(tmp_path_factory: pytest.TempPathFactory) -> Ponds:
    """The frogs' lake after the first and after the second month, to be copied."""
    path = tmp_path_factory.mktemp("frogs")
    pond, lake = Pond(path / "pond"), Lake(str(path / "lake"), Settings(_env_file=None))
    stock(pond)
    one = build(lake, pond, frogs())
    shutil.copytree(path, path / "first")
    first = copy.deepcopy(pond)
    second_month(pond)
    return Ponds(path, first, one, pond, build(lake, pond, frogs()))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake; empty, unless the test asks for `one` or `two` versions too."""
    return Lake(str(tmp_path / "lake"), Settings(_env_file=None))


@pytest.fixture
def pond(tmp_path: Path) -> Pond:
    """A pond of 18 frogs of three species, two photos a person; one picture is under two ids and splits."""
    return Pond(tmp_path / "pond")


@pytest.fixture
def one(lake: Lake, pond: Pond, ponds: Ponds) -> SnapshotBuild:
    """frogs@v1."""
    return ponds.into(lake, pond, second=False)


@pytest.fixture
def two(lake: Lake, pond: Pond, ponds: Ponds) -> SnapshotBuild:
    """frogs@v2 after frogs@v1: photos withdrawn, closed, identified anew, relicensed, added."""
    return ponds.into(lake, pond, second=True)


@pytest.fixture
def connection(demo: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    with demo.lake.connect() as connection:
        yield connection


@pytest.fixture
def harmed(harmed_demo: Any) -> Snapshot:
    """demo@v2 in a lake that a test may harm."""
    return Snapshot(harmed_demo.lake, harmed_demo.second.version)


@pytest.fixture(scope="session")
def from_scratch(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The second month built through Dagster in a lake that never saw the first."""
    path = tmp_path_factory.mktemp("scratch") / "lake"
    shutil.copytree(demo.path / "embedded-source", path / "embedded-source")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setenv("LAKEHOUSE_ROOT", str(path))
        built = runs.build(open_lake(str(path), Settings()), demo.campaign)
        patch.delenv("DAGSTER_HOME", raising=False)
    assert isinstance(built, runs.Built)
    return refs.read_root(open_lake(str(path), Settings()), built.version.snapshot_id)


@pytest.fixture(scope="session")
def otherwise(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The second month with its rows in another order and smaller partitions, built without Dagster."""
    path = tmp_path_factory.mktemp("otherwise") / "lake"
    shutil.copytree(demo.path / "embedded-source", path / "embedded-source")
    for table in (path / "embedded-source").glob("*.csv.gz"):
        _shuffle(table)
    partition = demo.campaign.partition.model_copy(update={"max_photos": 30})
    campaign = demo.campaign.model_copy(update={"partition": partition})
    return build_by_hand(open_lake(str(path), Settings()), campaign).root


def _shuffle(table: Path) -> None:
    """Change the order of a table's rows; the last one, which may be cut short, stays the last."""
    header, *rows, last = gzip.decompress(table.read_bytes()).decode().split("\n")
    random.Random(7).shuffle(rows)
    table.write_bytes(gzip.compress("\n".join([header, *rows, last]).encode(), mtime=0))


def build_by_hand(lake: Lake, campaign: Campaign) -> SnapshotBuild:
    """All that the Dagster jobs do, by the library alone."""
    with open_source(campaign.source, lake) as source, lake.connect() as connection:
        release = ingest_release(lake, source, source.current_release()).release_id
        build_taxa(lake, source.name, release)
        build_photos(lake, source.name, release, connection)
        plan = build_plan(lake, campaign, source.name, release)
        for partition in plan.partitions:
            build_partition(lake, campaign, plan, partition.key, source, connection)
        return build_snapshot(lake, campaign, source.name, source.reference_url, connection)


@pytest.fixture
def rewrite(harmed: Snapshot) -> Callable[..., None]:
    """Give a photo other values in its labels part, as a faulty build would; the file keeps its name."""

    def run(photo_id: int, **values: object) -> None:
        lake = harmed.lake
        for key in (parts.labels.key for parts in harmed.root.partitions):
            rows = lake.read_table(key).to_pylist()
            if any(row["photo_id"] == photo_id for row in rows):
                rows = [{**row, **(values if row["photo_id"] == photo_id else {})} for row in rows]
                schema = pq.read_schema(lake.uri(key))
                pq.write_table(pa.Table.from_pylist(rows, schema), lake.uri(key))
                return
        raise AssertionError(f"photo {photo_id} is not in the snapshot")

    return run
