"""One campaign's definitions put together, and its three jobs."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from assets.catalog import build_catalog_assets, build_catalog_checks
from assets.names import RAW_TABLES, asset_key, identifier
from assets.plan import build_plan_asset
from assets.snapshot import build_snapshot_asset, build_snapshot_checks
from assets.taxa import build_taxa
from lakehouse.campaign import Campaign
from lakehouse.catalog.publish import outlets
from lakehouse.settings import Settings
from lakehouse.sources import source_name_of

# What define_asset_job returns has no public name.
Job = Any


@dataclass(frozen=True, slots=True)
class CampaignAssets:
    """The definitions of one campaign; a refresh is `prepare`, then `taxa`, then `snapshot`."""

    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    prepare: Job
    taxa: Job
    snapshot: Job

    @property
    def jobs(self) -> list[Job]:
        """The three jobs in their order."""
        return [self.prepare, self.taxa, self.snapshot]


def build_campaign(campaign: Campaign, settings: Settings) -> CampaignAssets:
    """The assets, checks and jobs of `campaign`."""
    group, source = identifier(campaign.name), source_name_of(campaign.source)
    taxa = build_taxa(campaign)
    catalog = build_catalog_assets(campaign)
    # Without a catalogue to talk to, the entry stays in the graph and out of the job.
    reachable = outlets(campaign, settings)
    last = [asset.key for asset in catalog if reachable.get(asset.key.path[-1], True)]
    return CampaignAssets(
        assets=[build_plan_asset(campaign), taxa.assets, build_snapshot_asset(campaign), *catalog],
        checks=[*build_snapshot_checks(campaign), *build_catalog_checks(campaign)],
        prepare=dg.define_asset_job(
            f"{group}_prepare",
            selection=dg.AssetSelection.assets(
                *(asset_key(source, f"raw_{table}") for table in RAW_TABLES),
                asset_key(source, "taxa"),
                asset_key(source, "photos"),
                asset_key(campaign.name, "plan"),
            ),
            executor_def=dg.in_process_executor,
            description="Take in the newest dump and cut the campaign's taxa into partitions.",
            tags={"campaign": campaign.name},
        ),
        taxa=taxa.job,
        snapshot=dg.define_asset_job(
            f"{group}_snapshot",
            selection=dg.AssetSelection.assets(asset_key(campaign.name, "snapshot"), *last),
            executor_def=dg.in_process_executor,
            description="Make the next version of the dataset and describe it.",
            tags={"campaign": campaign.name},
        ),
    )
