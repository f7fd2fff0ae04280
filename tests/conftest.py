"""A small lake built once by the real command, from the embedded source, and copies that a test may harm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakehouse.campaign import Campaign, load_campaign
from lakehouse.cli import runs
from lakehouse.demo.bucket import write_bucket
from lakehouse.lake import Lake, open_lake
from lakehouse.settings import Settings

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PHOTOS = 300  # the smallest embedded source that has every hazard


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tests see only the settings they make; those against real servers keep the environment."""
    if not any(request.node.get_closest_marker(name) for name in ("ckan", "s3")):
        forget_settings(monkeypatch)


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every setting out of the environment."""
    for name in [*os.environ]:
        if name.startswith(("LAKEHOUSE_", "AWS_", "HF_")) or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)


@dataclass(frozen=True, slots=True)
class DemoLake:
    """A lake that holds demo@v1 (month 1 of the embedded source) and demo@v2 (month 2)."""

    path: Path
    campaign: Campaign
    first: runs.Built
    second: runs.Built

    @property
    def lake(self) -> Lake:
        return open_lake(str(self.path), Settings(_env_file=None))


@pytest.fixture(scope="session")
def demo_campaign() -> Campaign:
    """The campaign of the demo."""
    return load_campaign(ROOT / "campaigns" / "demo.yaml")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, demo_campaign: Campaign) -> Iterator[DemoLake]:
    """The demo's lake, made as `lakehouse demo` makes it; read only: take `harmed_demo` to break things."""
    path = tmp_path_factory.mktemp("demo") / "lake"
    with pytest.MonkeyPatch.context() as patch:
        forget_settings(patch)
        patch.setenv("LAKEHOUSE_ROOT", str(path))
        lake = open_lake(str(path), Settings(_env_file=None))
        write_bucket(path / "embedded-source", 1, photos=PHOTOS)
        first = runs.build(lake, demo_campaign)
        write_bucket(path / "embedded-source", 2, photos=PHOTOS)
        second = runs.build(lake, demo_campaign, refresh=True)
        patch.delenv("DAGSTER_HOME", raising=False)
    assert isinstance(first, runs.Built)
    assert isinstance(second, runs.Built)
    yield DemoLake(path, demo_campaign, first, second)


@pytest.fixture
def harmed_demo(demo: DemoLake, tmp_path: Path) -> DemoLake:
    """A copy of the demo's lake."""
    shutil.copytree(demo.path, tmp_path / "lake")
    return DemoLake(tmp_path / "lake", demo.campaign, demo.first, demo.second)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside a checkout; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the real data of {SHARED.name}/data, which is not beside this checkout")
    return SHARED / "data"
