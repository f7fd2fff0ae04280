"""A campaign looks after itself: one mechanism per purpose.

`<campaign>_new_dump` polls the source and starts `prepare`; `<campaign>_edited` does when the campaign file
asks for something else than the plan; `<campaign>_then_taxa` and `<campaign>_then_snapshot` hand over from
phase to phase where something is left to do; `<campaign>_partitions` keeps Dagster's partitions those of the
plan; `<campaign>_monthly` starts what is undone even if a sensor was off. Whoever runs a phase by hand gets
only that phase: the hand-over follows only runs that automation started.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from assets.campaign import CampaignAssets, Job, prepared_by, snapshot_to_do
from assets.names import identifier, partitions_of
from lakehouse.campaign import Campaign, load_campaign
from lakehouse.errors import LakehouseError, NotFoundError
from lakehouse.images.partition import unfinished
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import latest_release
from lakehouse.metadata.partitions import load_plan, parameters_digest
from lakehouse.metadata.state import STEPS, steps_to_do
from lakehouse.settings import Settings
from lakehouse.sources import open_source, source_name_of
from resources.lake import LakeResource
from sensors.attempts import decide, under_way

AUTOMATED = {"automation": "refresh"}
# The dump appeared on the 27th whenever it was dated; nobody promises the day, and the sensor watches for it
# anyway.
MONTHLY = "0 3 28 * *"
NIGHTLY = "30 1 * * *"
WEEKLY = "0 5 * * 1"
# Keys in one request to Dagster's storage, so that a tick stays far below its minute.
_BATCH = 5_000

Decision = dg.SensorResult | dg.SkipReason


@dataclass(frozen=True, slots=True)
class CampaignAutomation:
    """The sensors and schedules of one campaign."""

    sensors: list[dg.SensorDefinition]
    schedules: list[dg.ScheduleDefinition]


def build_automation(
    campaign: Campaign, assets: CampaignAssets, settings: Settings, removals: Job
) -> CampaignAutomation:
    """The automation of `campaign` over its jobs; `removals` is the job that takes photographs back."""
    group, source_name = identifier(campaign.name), source_name_of(campaign.source)

    @dg.sensor(
        name=f"{group}_new_dump",
        job=assets.prepare,
        minimum_interval_seconds=6 * 3600,
        description="Starts a refresh when the source serves a dump with other ETags.",
    )
    def new_dump(context: dg.SensorEvaluationContext, lake: LakeResource) -> Decision:
        try:
            opened = lake.open()
            with open_source(campaign.source, opened) as source:
                served = source.current_release().release_id
            # The plan is the other sensor's: it knows the campaign file as it is now.
            new = served != latest_release(opened, source_name)
            left = [step for step in steps_to_do(opened, campaign, source_name) if step != "plan"]
            steps = STEPS if new else STEPS[STEPS.index(left[0]) :] if left else ()
        except LakehouseError as error:
            # A failed read says nothing about the source: the cursor stays, and the next tick looks again.
            return dg.SkipReason(f"the source could not be read, so nothing is concluded: {error}")
        to_do = f"{served} is to be taken in ({', '.join(steps)})" if steps else ""
        found = decide(served, to_do, context.cursor, _running(context.instance, assets.prepare))
        if isinstance(found, str):
            return dg.SkipReason(found)
        request = dg.RunRequest(
            run_key=f"{campaign.name}:{found}",
            asset_selection=prepared_by(campaign, steps),
            tags={**AUTOMATED, "release": served},
        )
        return dg.SensorResult(run_requests=[request], cursor=str(found))

    @dg.sensor(
        name=f"{group}_edited",
        job=assets.prepare,
        minimum_interval_seconds=60,
        description="Plans anew when the campaign file asks for other photographs than the plan.",
    )
    def edited(context: dg.SensorEvaluationContext, lake: LakeResource) -> Decision:
        try:
            opened = lake.open()
            # The file as it is now: this process may have read it days ago.
            now = load_campaign(campaign.path) if campaign.path else campaign
            digest = parameters_digest(now)
            steps = steps_to_do(opened, now, source_name)
        except LakehouseError as error:
            return dg.SkipReason(f"the campaign file cannot be used, so nothing changes: {error}")
        if len(steps) > 1:
            return dg.SkipReason(f"{', '.join(steps)} are to be made first; {group}_new_dump sees to it")
        to_do = "the plan is not of this campaign file" if steps else ""
        found = decide(digest[:12], to_do, context.cursor, _running(context.instance, assets.prepare))
        if isinstance(found, str):
            return dg.SkipReason(found)
        request = dg.RunRequest(
            run_key=f"{campaign.name}:plan:{found}",
            asset_selection=prepared_by(campaign, ["plan"]),
            tags=AUTOMATED,
        )
        return dg.SensorResult(run_requests=[request], cursor=str(found))

    @dg.sensor(
        name=f"{group}_partitions",
        minimum_interval_seconds=600,
        description="Adds the partitions of a new plan, and retires those that it no longer has.",
    )
    def partitions(context: dg.SensorEvaluationContext, lake: LakeResource) -> Decision:
        definition = partitions_of(campaign.name)
        try:
            planned = {partition.key for partition in load_plan(lake.open(), campaign.name).partitions}
        except LakehouseError as error:
            # No plan is not an empty one.
            return dg.SkipReason(f"the plan cannot be read, so no partition is touched: {error}")
        registered = set(context.instance.get_dynamic_partitions(str(definition.name)))
        new, retired = sorted(planned - registered), sorted(registered - planned)
        requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
        if new:
            requests.append(definition.build_add_request(new[:_BATCH]))
        if retired and not _running(context.instance, *assets.jobs):
            requests.append(definition.build_delete_request(retired[:_BATCH]))
        elif retired and not requests:
            # A run fails when its partition goes away under it.
            return dg.SkipReason(f"{len(retired)} partitions are retired when no run is under way")
        if not requests:
            return dg.SkipReason(f"Dagster has the {len(planned):,} partitions of the plan")
        return dg.SensorResult(dynamic_partitions_requests=requests)

    def nothing_undone(instance: dg.DagsterInstance, lake: Lake) -> str:
        """Why there is nothing left to do, empty if there is."""
        try:
            plan = load_plan(lake, campaign.name)
        except NotFoundError:
            return ""
        if unfinished(lake, campaign, plan) or snapshot_to_do(instance, lake, campaign, settings):
            return ""
        return f"all {len(plan.partitions):,} partitions are up to date, and so is the newest version"

    def snapshot_is_described(instance: dg.DagsterInstance, lake: Lake) -> str:
        left = snapshot_to_do(instance, lake, campaign, settings)
        return "" if left else "nothing changed since the newest version"

    @dg.schedule(
        name=f"{group}_monthly",
        job=assets.prepare,
        cron_schedule=MONTHLY,
        execution_timezone="UTC",
        description="The backstop: whatever is undone on the day after the dump's usual date.",
    )
    def monthly(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        opened = lake.open()
        steps = steps_to_do(opened, campaign, source_name)
        try:
            with open_source(campaign.source, opened) as source:
                if source.current_release().release_id != latest_release(opened, source_name):
                    steps = STEPS
        except LakehouseError as error:
            if not steps and (why := nothing_undone(context.instance, opened)):
                return dg.SkipReason(f"the source could not be read ({error}); {why}")
        if not steps and (why := nothing_undone(context.instance, opened)):
            return dg.SkipReason(why)
        return dg.RunRequest(asset_selection=prepared_by(campaign, steps or ["plan"]), tags=AUTOMATED)

    nightly = dg.ScheduleDefinition(
        name=f"{group}_nightly_verify",
        job=assets.verify,
        cron_schedule=NIGHTLY,
        execution_timezone="UTC",
        description="Reads files of the newest version and holds them against their digests.",
    )
    weekly = dg.ScheduleDefinition(
        name=f"{group}_weekly_links",
        job=assets.links,
        cron_schedule=WEEKLY,
        execution_timezone="UTC",
        description="Asks the source whether a sample of the photographs is still there.",
    )
    sensors = [
        new_dump,
        edited,
        # Partitions that a photo was taken out of are selected anew before a version is made of them.
        _hand_over(f"{group}_then_taxa", [assets.prepare, removals], assets.taxa, nothing_undone),
        _hand_over(f"{group}_then_snapshot", [assets.taxa], assets.snapshot, snapshot_is_described),
        partitions,
    ]
    return CampaignAutomation(sensors, [monthly, nightly, weekly])


def _hand_over(
    name: str,
    after: Sequence[Job],
    then: Job,
    nothing_left: Callable[[dg.DagsterInstance, Lake], str],
) -> dg.SensorDefinition:
    """A sensor that starts `then` when an automated run of `after` succeeded, unless nothing is left."""

    @dg.run_status_sensor(
        name=name,
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[*after],
        request_job=then,
        minimum_interval_seconds=10,
        description=f"Starts {then.name} when an automated run of {' or '.join(job.name for job in after)} "
        "succeeded and left it work.",
    )
    def follow(context: dg.RunStatusSensorContext, lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        run = context.dagster_run
        if run.tags.get("automation") != AUTOMATED["automation"]:
            return dg.SkipReason(f"{run.job_name} was started by hand")
        try:
            why = nothing_left(context.instance, lake.open())
        except LakehouseError as error:
            return dg.SkipReason(f"the lake could not be read, so nothing is started: {error}")
        if why:
            return dg.SkipReason(f"no {then.name}: {why}")
        return dg.RunRequest(run_key=run.run_id, tags=AUTOMATED)

    return follow


def _running(instance: dg.DagsterInstance, *jobs: Job) -> bool:
    return under_way(instance, *(job.name for job in jobs))
