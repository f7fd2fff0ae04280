"""The job that takes photographs back: those on the list LAKEHOUSE_REMOVALS that are still in the lake."""

from functools import partial
from pathlib import Path

import dagster as dg

from assets.failures import told_plainly
from lakehouse.campaign import load_campaigns
from lakehouse.catalog.publish import describe_again, renew_entries
from lakehouse.errors import UsageError
from lakehouse.settings import load_settings
from lakehouse.snapshots import removal
from resources.events import purge_events
from resources.lake import LakeResource


def build_removal_job() -> dg.JobDefinition:
    """`removals`: completes what was interrupted, takes back what is new on the list, and describes anew the
    versions that it was taken out of."""

    @dg.op(name="take_photos_back", description="Takes the listed photographs out of every version.")
    def take_photos_back(context: dg.OpExecutionContext, lake: LakeResource) -> None:
        with told_plainly():
            opened, path = lake.open(), load_settings().removals
            if path is None:
                raise UsageError("no list is set; name it in LAKEHOUSE_REMOVALS")
            requests = removal.read_requests(path)
            forget = partial(purge_events, Path(context.instance.root_directory))
            report = removal.remove(opened, requests, progress=context.log.info, forget=forget)
            campaigns = load_campaigns(opened.settings.campaigns)
            described = describe_again(opened, campaigns)
            renewed = renew_entries(opened, report.campaigns, campaigns, opened.settings)
        # Numbers only: which photographs they were is what must not stay.
        anew = ", ".join(described) or "none"
        context.log.info(
            f"{sum(report.photos.values()):,} photos taken back ({report.copies:,} of them copies), "
            f"{report.already:,} were before; {report.shards:,} shards rewritten, {report.bytes:,} bytes "
            f"deleted; {report.events:,} events lost their pictures; described anew: {anew}; "
            f"CKAN entries renewed: {', '.join(renewed) or 'none'}"
        )
        for ref, (old, new) in report.versions.items():
            context.log.info(f"{ref} was {old}, is {new}")

    @dg.job(
        name="removals",
        executor_def=dg.in_process_executor,
        description="Take the photographs listed in LAKEHOUSE_REMOVALS back, for good.",
    )
    def removals() -> None:
        take_photos_back()

    return removals
