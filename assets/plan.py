"""The plan: how a campaign's taxa are cut into partitions."""

from collections.abc import Iterable
from datetime import timedelta

import dagster as dg

from assets import describe
from assets.failures import told_plainly, verdict
from assets.names import OWNER, asset_key, identifier, partitions_of
from lakehouse.campaign import Campaign
from lakehouse.metadata.partitions import build_plan, load_plan, overlaps
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
        # Every dump taken in makes the plan anew, even one that changes nothing in the dataset.
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(days=campaign.freshness.fail_days),
            warn_window=timedelta(days=campaign.freshness.warn_days),
        ),
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


def build_plan_checks(campaign: Campaign) -> list[dg.AssetChecksDefinition]:
    """Partitions are apart, and bounded."""
    asset = asset_key(campaign.name, "plan")

    @dg.asset_check(
        asset=asset, blocking=True, description="No photo is in two partitions, and no partition is empty."
    )
    def partitions_are_apart(lake: LakeResource) -> dg.AssetCheckResult:
        plan = load_plan(lake.open(), campaign.name)
        problems = [
            *overlaps(plan),
            *(f"{one.key} has no photos" for one in plan.partitions if one.photos < 1),
        ]
        return verdict(problems, f"{len(plan.partitions):,} partitions share no taxon")

    @dg.asset_check(asset=asset, description="Partitions keep to the size that the campaign asks for.")
    def partitions_are_bounded(lake: LakeResource) -> dg.AssetCheckResult:
        plan, most = load_plan(lake.open(), campaign.name), campaign.partition.max_photos
        # A label is never cut, so one that is larger makes a partition that is.
        problems = [
            f"{one.key} has {one.photos:,} photos, above partition.max_photos ({most:,})"
            for one in plan.partitions
            if one.photos > most
        ]
        if not plan.partitions:
            problems.append("the source has no photo under the campaign's taxa")
        largest = max((one.photos for one in plan.partitions), default=0)
        well = f"the largest of {len(plan.partitions):,} partitions has {largest:,} photos"
        return verdict(problems, well, dg.AssetCheckSeverity.WARN)

    return [partitions_are_apart, partitions_are_bounded]


def register(instance: dg.DagsterInstance, campaign: str, keys: Iterable[str]) -> None:
    """Register the partitions that are not registered yet, in one call."""
    name = partitions_of(campaign).name
    assert name is not None
    known = set(instance.get_dynamic_partitions(name))
    new = [key for key in keys if key not in known]
    if new:
        instance.add_dynamic_partitions(name, new)
