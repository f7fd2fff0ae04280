"""A list of photographs to take back is watched: what is new on it goes out of every version."""

import hashlib

import dagster as dg

from lakehouse.errors import LakehouseError
from lakehouse.settings import load_settings
from lakehouse.snapshots import removal
from resources.lake import LakeResource
from sensors.attempts import decide, under_way
from sensors.automation import AUTOMATED


def build_removal_sensor(job: dg.JobDefinition) -> dg.SensorDefinition:
    """`removal_list`: starts `job` when photographs on the list LAKEHOUSE_REMOVALS are still in the lake."""

    @dg.sensor(
        name="removal_list",
        job=job,
        minimum_interval_seconds=60,
        description="Takes back what is new on the list LAKEHOUSE_REMOVALS.",
    )
    def removal_list(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> dg.SensorResult | dg.SkipReason:
        path = load_settings().removals
        if path is None:
            return dg.SkipReason("no list is set; name it in LAKEHOUSE_REMOVALS")
        try:
            opened = lake.open()
            requests = removal.read_requests(path)
            left = len(removal.pending(opened, requests)) + removal.unfinished(opened)
        except LakehouseError as error:
            # A list that cannot be read asks for nothing, and is no reason to forget what it asked for.
            return dg.SkipReason(f"the list cannot be read, so nothing is taken back: {error}")
        digest = hashlib.sha256(",".join(str(one.photo_id) for one in requests).encode()).hexdigest()[:12]
        to_do = f"{left:,} photos are to be taken back" if left else ""
        found = decide(digest, to_do, context.cursor, under_way(context.instance, job.name))
        if isinstance(found, str):
            return dg.SkipReason(found)
        request = dg.RunRequest(run_key=f"removals:{found}", tags=AUTOMATED)
        return dg.SensorResult(run_requests=[request], cursor=str(found))

    return removal_list
