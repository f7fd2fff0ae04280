"""How sources, campaigns and their parts are named in Dagster."""

import dagster as dg

OWNER = "team:data"
RAW_TABLES = ("observations", "observers", "photos", "taxa")


def identifier(name: str) -> str:
    """A source's or campaign's name as Dagster takes it in group, job and asset names."""
    return name.replace("-", "_")


def asset_key(owner: str, asset: str) -> dg.AssetKey:
    """The key of an asset of a source or campaign."""
    return dg.AssetKey([identifier(owner), asset])


def partitions_of(campaign: str) -> dg.DynamicPartitionsDefinition:
    """The campaign's partitions by taxon."""
    return dg.DynamicPartitionsDefinition(name=f"{identifier(campaign)}_taxa")
