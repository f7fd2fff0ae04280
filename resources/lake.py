"""The lake, and the DuckDB connections that work on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import Field

from lakehouse.lake import DUCKDB_CONFIG, Lake, open_lake
from lakehouse.settings import Settings, load_settings
from resources.webhook import WebhookResource


class LakeResource(dg.ConfigurableResource[Lake]):
    """The lake at `root`; credentials stay in the environment and never enter a run's configuration."""

    root: str = Field(description="A local path or s3://bucket/prefix")

    def open(self) -> Lake:
        """The lake, ready for use."""
        return open_lake(self.root, load_settings())


class LakeDuckDB(DuckDBResource):
    """In-memory DuckDB that spills into the lake's scratch space and reads the lake's files."""

    @contextmanager
    def on(self, lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that can read `lake`."""
        with self.get_connection() as connection:
            lake.attach(connection)
            try:
                yield connection
            finally:
                lake.detach(connection)


def build_resources(settings: Settings) -> dict[str, Any]:
    """The resources that assets and sensors ask for by name: `lake`, `duckdb`, `webhook`."""
    return {
        "lake": LakeResource(root=settings.root),
        "duckdb": LakeDuckDB(database=":memory:", connection_config={**DUCKDB_CONFIG, "memory_limit": "2GB"}),
        "webhook": WebhookResource(),
    }
