"""How sources, campaigns and their parts are named in Dagster."""

from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg

from lakehouse.settings import Settings

OWNER = "team:data"
RAW_TABLES = ("observations", "observers", "photos", "taxa")


def identifier(name: str) -> str:
    """A source's or campaign's name as Dagster takes it in group, job and asset names."""
    return name.replace("-", "_")


def asset_key(owner: str, asset: str) -> dg.AssetKey:
    """The key of an asset of a source or campaign."""
    return dg.AssetKey([identifier(owner), asset])


def pool_of(source: str, settings: Settings) -> str:
    """The concurrency pool of the host that serves a source's photographs: whoever fetches from one host
    waits for the other, whatever campaigns call it."""
    address = settings.source if source == "inaturalist" else source
    host = urlsplit(address).netloc.rpartition("@")[2] if "://" in address else Path(address).name
    return f"host/{host.lower() or 'local'}"


def partitions_of(campaign: str) -> dg.DynamicPartitionsDefinition:
    """The campaign's partitions by taxon."""
    return dg.DynamicPartitionsDefinition(name=f"{identifier(campaign)}_taxa")
