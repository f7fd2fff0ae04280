"""Dagster's view of the demo's lake."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from lakehouse.campaign import Campaign
from lakehouse.definitions import build_definitions
from lakehouse.settings import Settings
from tests.conftest import DemoLake


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An empty instance that lives in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(scope="session")
def definitions(demo: DemoLake) -> dg.Definitions:
    """The demo campaign's definitions on the demo's lake."""
    return define(demo)


def define(demo: DemoLake, campaign: Campaign | None = None) -> dg.Definitions:
    """A campaign's definitions on a lake."""
    settings = Settings(_env_file=None).model_copy(update={"root": str(demo.path)})
    return build_definitions([campaign or demo.campaign], settings)
