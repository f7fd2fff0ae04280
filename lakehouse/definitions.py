"""The Dagster code location: one set of shared assets per source, one set of assets, jobs and automation
per campaign."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import dagster as dg

from assets import build_campaign, build_removal_job, build_source
from assets.failures import RETRY
from lakehouse.campaign import Campaign, load_campaigns
from lakehouse.settings import Settings, load_settings
from lakehouse.sources import source_name_of
from resources import build_resources
from sensors import build_automation, build_failure_sensor, build_removal_sensor


def build_definitions(
    campaigns: Iterable[Campaign], settings: Settings, retry: dg.RetryPolicy | None = None
) -> dg.Definitions:
    """Everything Dagster shows for these campaigns; `retry` is how faults that may pass are tried again."""
    # backfill_policy is called beta by Dagster; nothing else says "one run for a range of partitions".
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    campaigns = list(campaigns)
    addresses = {source_name_of(campaign.source): campaign.source for campaign in campaigns}
    sources = [build_source(address, retry) for _, address in sorted(addresses.items())]
    built = [(campaign, build_campaign(campaign, settings, retry)) for campaign in campaigns]
    removals = build_removal_job()
    automation = [build_automation(campaign, assets, settings, removals) for campaign, assets in built]
    return dg.Definitions(
        assets=[
            *(asset for source in sources for asset in source.assets),
            *(asset for _, campaign in built for asset in campaign.assets),
        ],
        asset_checks=[
            *(check for source in sources for check in source.checks),
            *(check for _, campaign in built for check in campaign.checks),
        ],
        jobs=[*(job for _, campaign in built for job in campaign.jobs), removals],
        sensors=[
            *(sensor for part in automation for sensor in part.sensors),
            build_removal_sensor(removals),
            build_failure_sensor(),
        ],
        schedules=[schedule for part in automation for schedule in part.schedules],
        resources=build_resources(settings),
        # A process for each step of a run would cost seconds a step; the work uses its own threads.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The campaigns of LAKEHOUSE_CAMPAIGNS, read when Dagster loads the code location."""
    settings = load_settings()
    return build_definitions(load_campaigns(settings.campaigns).values(), settings, RETRY)
