"""A campaign refreshes itself: new dump → prepare → taxa → snapshot, each phase its own run.

One mechanism per purpose. `<campaign>_new_dump` polls the source's ETags and starts `prepare`; a run-status
sensor starts `taxa` when `prepare` succeeded and `snapshot` when `taxa` did; `<campaign>_monthly` starts
`prepare` even if the sensor was off. Whoever runs a phase by hand gets only that phase: the hand-over follows
only runs that automation started.
"""

from dataclasses import dataclass

import dagster as dg

from assets.campaign import CampaignAssets, Job
from assets.names import identifier
from lakehouse.campaign import Campaign
from lakehouse.errors import LakehouseError
from lakehouse.metadata.ingest import latest_release
from lakehouse.sources import open_source, source_name_of
from resources.lake import LakeResource

AUTOMATED = {"automation": "refresh"}
# The dump appeared on the 27th whenever it was dated; nobody promises the day, and the sensor watches for it
# anyway.
MONTHLY = "0 3 28 * *"


@dataclass(frozen=True, slots=True)
class CampaignAutomation:
    """The sensors and schedules of one campaign."""

    sensors: list[dg.SensorDefinition]
    schedules: list[dg.ScheduleDefinition]


def build_automation(campaign: Campaign, assets: CampaignAssets) -> CampaignAutomation:
    """The automation of `campaign` over its three jobs."""
    group = identifier(campaign.name)

    @dg.sensor(
        name=f"{group}_new_dump",
        job=assets.prepare,
        minimum_interval_seconds=6 * 3600,
        description="Starts a refresh when the source serves a dump with other ETags.",
    )
    def new_dump(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
        try:
            opened = lake.open()
            with open_source(campaign.source, opened) as source:
                release = source.current_release()
            known = context.cursor or latest_release(opened, source_name_of(campaign.source))
        except LakehouseError as error:
            # A failed read says nothing about the source: the cursor stays, and the next tick looks again.
            return dg.SkipReason(f"the source could not be read, so nothing is concluded: {error}")
        if release.release_id == known:
            return dg.SkipReason(f"the source still serves {release.release_id}")
        request = dg.RunRequest(run_key=f"{campaign.name}:{release.release_id}", tags=AUTOMATED)
        return dg.SensorResult(run_requests=[request], cursor=release.release_id)

    def hand_over(
        name: str,
        after: Job,
        then: Job,
    ) -> dg.SensorDefinition:
        @dg.run_status_sensor(
            name=f"{group}_{name}",
            run_status=dg.DagsterRunStatus.SUCCESS,
            monitored_jobs=[after],
            request_job=then,
            description=f"Starts {then.name} when an automated {after.name} succeeded.",
        )
        def follow(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
            if context.dagster_run.tags.get("automation") != AUTOMATED["automation"]:
                return dg.SkipReason(f"{after.name} was started by hand")
            return dg.RunRequest(run_key=context.dagster_run.run_id, tags=AUTOMATED)

        return follow

    monthly = dg.ScheduleDefinition(
        name=f"{group}_monthly",
        job=assets.prepare,
        cron_schedule=MONTHLY,
        execution_timezone="UTC",
        tags=AUTOMATED,
        description="The backstop: a refresh on the day after the dump's usual date.",
    )
    sensors = [
        new_dump,
        hand_over("then_taxa", assets.prepare, assets.taxa),
        hand_over("then_snapshot", assets.taxa, assets.snapshot),
    ]
    return CampaignAutomation(sensors, [monthly])
