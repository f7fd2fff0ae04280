"""What of a source's metadata, and of a campaign's plan, is in the lake already."""

from __future__ import annotations

from lakehouse.campaign import Campaign
from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import latest_release
from lakehouse.metadata.partitions import load_plan, parameters_digest
from lakehouse.metadata.photos import load_photos_report
from lakehouse.metadata.taxonomy import load_taxa_report

STEPS = ("raw", "taxa", "photos", "plan")


def newest_release(lake: Lake, source_name: str) -> str:
    """The release of a source that was taken in last; raises NotFoundError if there is none."""
    release = latest_release(lake, source_name)
    if release is None:
        raise NotFoundError(
            f"the lake has no release of {source_name!r} yet; materialize its raw tables first"
        )
    return release


def steps_to_do(lake: Lake, campaign: Campaign, source_name: str) -> tuple[str, ...]:
    """The steps from dump to plan that are still to be done for the newest release: a tail of `STEPS`."""
    release = latest_release(lake, source_name)
    if release is None:
        return STEPS
    for number, load in enumerate((load_taxa_report, load_photos_report), start=1):
        try:
            load(lake, source_name, release)
        except NotFoundError:
            return STEPS[number:]
    try:
        plan = load_plan(lake, campaign.name)
    except NotFoundError:
        return STEPS[3:]
    current = (plan.source, plan.release, plan.parameters) == (
        source_name,
        release,
        parameters_digest(campaign),
    )
    return () if current else STEPS[3:]
