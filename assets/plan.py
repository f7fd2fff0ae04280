"""The plan: how a campaign's taxa are cut into partitions."""

from collections.abc import Iterable

import dagster as dg

from assets import describe
from assets.failures import told_plainly
from assets.names import OWNER, asset_key, identifier, partitions_of
from lakehouse.campaign import Campaign
from lakehouse.metadata.partitions import build_plan
from lakehouse.metadata.state import newest_release
from lakehouse.sources import source_name_of
from resources.lake import LakeResource


def build_plan_asset(campaign: Campaign) -> dg.AssetsDefinition:
    """The asset `<campaign>/plan`, which also registers the partitions it names."""
    source = source_name_of(campaign.source)

    @dg.asset(
        key=asset_key(campaign.name, "plan"),
        deps=[asset_key(source, "photos"), asset_key(source, "taxa")],
        group_name=identifier(campaign.name),
        kinds={"python"},
        owners=[OWNER],
        description=f"How the taxa of “{campaign.title}” are cut into partitions of at most "
        f"{campaign.partition.max_photos:,} photos.",
    )
    def plan(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        with told_plainly():
            opened = lake.open()
            made = build_plan(opened, campaign, source, newest_release(opened, source))
        register(context.instance, campaign.name, [partition.key for partition in made.partitions])
        photos = {partition.key: partition.photos for partition in made.partitions}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(made.digest),
            metadata={
                "release": made.release,
                "partitions": len(photos),
                "dagster/row_count": sum(photos.values()),
                "photos by partition": describe.count_table(dict(list(photos.items())[:200]), "partition"),
            },
        )

    return plan


def register(instance: dg.DagsterInstance, campaign: str, keys: Iterable[str]) -> None:
    """Register the partitions that are not registered yet, in one call."""
    name = partitions_of(campaign).name
    assert name is not None
    known = set(instance.get_dynamic_partitions(name))
    new = [key for key in keys if key not in known]
    if new:
        instance.add_dynamic_partitions(name, new)
