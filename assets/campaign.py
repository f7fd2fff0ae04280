"""One campaign's definitions put together, its jobs, and what of them is still to be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from assets.catalog import build_catalog_assets, build_catalog_checks
from assets.names import RAW_TABLES, asset_key, identifier
from assets.plan import build_plan_asset, build_plan_checks
from assets.snapshot import build_snapshot_asset, build_snapshot_checks, build_taxa_checks
from assets.taxa import build_taxa
from assets.upkeep import build_upkeep_checks, build_upkeep_jobs
from lakehouse.campaign import Campaign
from lakehouse.catalog.publish import outlets
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import is_current
from lakehouse.sources import source_name_of

# What define_asset_job returns has no public name.
Job = Any


@dataclass(frozen=True, slots=True)
class CampaignAssets:
    """The definitions of one campaign; a refresh is `prepare`, then `taxa`, then `snapshot`, and `verify` and
    `links` look after what is there."""

    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    prepare: Job
    taxa: Job
    snapshot: Job
    verify: Job
    links: Job

    @property
    def jobs(self) -> list[Job]:
        """All jobs, those of a refresh first, in their order."""
        return [self.prepare, self.taxa, self.snapshot, self.verify, self.links]


def build_campaign(
    campaign: Campaign, settings: Settings, retry: dg.RetryPolicy | None = None
) -> CampaignAssets:
    """The assets, checks and jobs of `campaign`; `retry` is how faults that may pass are tried again."""
    group, source = identifier(campaign.name), source_name_of(campaign.source)
    taxa = build_taxa(campaign, settings, retry)
    catalog = build_catalog_assets(campaign, retry)
    snapshot_asset, snapshot_checks = build_snapshot_asset(campaign, retry), build_snapshot_checks(campaign)
    taxa_checks, upkeep = build_taxa_checks(campaign), build_upkeep_checks(campaign)
    last = [asset_key(campaign.name, name) for name in described_by(campaign, settings)]
    verify, links = build_upkeep_jobs(campaign, asset_key(source, "dump"))
    return CampaignAssets(
        assets=[build_plan_asset(campaign), taxa.assets, snapshot_asset, *catalog],
        checks=[
            *build_plan_checks(campaign),
            *taxa_checks,
            *snapshot_checks,
            *build_catalog_checks(campaign),
            *upkeep,
        ],
        prepare=dg.define_asset_job(
            f"{group}_prepare",
            selection=dg.AssetSelection.assets(*prepared_by(campaign, ("raw", "taxa", "photos", "plan"))),
            executor_def=dg.in_process_executor,
            description="Take in the newest dump and cut the campaign's taxa into partitions.",
            tags={"campaign": campaign.name},
        ),
        taxa=taxa.job,
        snapshot=dg.define_asset_job(
            f"{group}_snapshot",
            selection=(
                dg.AssetSelection.assets(asset_key(campaign.name, "snapshot"), *last)
                | dg.AssetSelection.checks_for_assets(*taxa.assets.keys)
            )
            - dg.AssetSelection.checks(*upkeep),
            executor_def=dg.in_process_executor,
            description="Make the next version of the dataset and describe it.",
            tags={"campaign": campaign.name},
        ),
        verify=verify,
        links=links,
    )


def prepared_by(campaign: Campaign, steps: Sequence[str]) -> list[dg.AssetKey]:
    """The assets of the steps `raw`, `taxa`, `photos`, `plan` of a campaign and its source."""
    source = source_name_of(campaign.source)
    keys = {
        "raw": [asset_key(source, f"raw_{table}") for table in RAW_TABLES],
        "taxa": [asset_key(source, "taxa")],
        "photos": [asset_key(source, "photos")],
        "plan": [asset_key(campaign.name, "plan")],
    }
    return [key for step in steps for key in keys[step]]


def described_by(campaign: Campaign, settings: Settings) -> list[str]:
    """The assets that tell of a version: without a catalogue to talk to, the entry stays in the graph and out
    of the job."""
    reachable = [asset for asset, is_set in outlets(campaign, settings).items() if is_set]
    return ["croissant", "dataset_card", *reachable]


def snapshot_to_do(
    instance: dg.DagsterInstance, lake: Lake, campaign: Campaign, settings: Settings
) -> list[str]:
    """What the snapshot job still has to make: all of it if anything the snapshot is built from changed, else
    what does not describe the newest version yet."""
    names = ["snapshot", *described_by(campaign, settings)]
    newest = refs.latest(lake, campaign.name)
    if newest is None or not is_current(lake, campaign):
        return names
    return [name for name in names if _data_version(instance, campaign, name) != newest.snapshot_id]


def _data_version(instance: dg.DagsterInstance, campaign: Campaign, asset: str) -> str | None:
    event = instance.get_latest_materialization_event(asset_key(campaign.name, asset))
    tags = event.asset_materialization.tags if event and event.asset_materialization else None
    return tags.get("dagster/data_version") if tags else None
