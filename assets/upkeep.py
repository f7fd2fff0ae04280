"""What is looked at between two versions: every byte, now and then, and the source's links. Both are checks
of the snapshot with jobs of their own, for they take time and change nothing."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from assets import describe
from assets.failures import told_plainly, verdict
from assets.names import asset_key, identifier
from assets.snapshot import newest_snapshot
from lakehouse.campaign import Campaign
from lakehouse.catalog import links
from lakehouse.snapshots.verify import verify
from lakehouse.sources import open_source
from resources.lake import LakeResource

# More than this share of a sample gone or changed since the last refresh is more than a month's loss.
_LINKS = 0.05


class Sample(dg.Config):
    """How many photographs to ask the source for."""

    photos: int = Field(200, ge=1, description="Photographs whose address is asked for")


class Share(dg.Config):
    """How much to read."""

    share: float = Field(0.1, gt=0, le=1, description="Share of the files whose every byte is read")


def build_upkeep_checks(campaign: Campaign) -> list[dg.AssetChecksDefinition]:
    """`every_byte_verifies` and `links_work` of `<campaign>/snapshot`; neither runs with the snapshot."""
    asset = asset_key(campaign.name, "snapshot")

    @dg.asset_check(
        asset=asset, description="A sample of the newest version's files has the bytes it was recorded with."
    )
    def every_byte_verifies(config: Share, lake: LakeResource) -> dg.AssetCheckResult:
        with told_plainly():
            newest = newest_snapshot(lake.open(), campaign.name)
            # The day is the seed: other files each night, so that in time all are read.
            day = datetime.now(UTC).toordinal()
            found = verify(newest.lake, newest.version.ref, sample=config.share, seed=day)
        read = f"{found.files:,} of {found.files_total:,} files, {found.bytes:,} bytes"
        return verdict(
            list(found.problems),
            f"{newest.version.ref}: {read}, all as recorded",
            metadata={"files": found.files, "bytes": found.bytes},
        )

    @dg.asset_check(
        asset=asset, description="A sample of the newest version's photographs is still at the source."
    )
    def links_work(config: Sample, lake: LakeResource) -> dg.AssetCheckResult:
        with told_plainly():
            newest = newest_snapshot(lake.open(), campaign.name)
            # The week is the seed: another sample each time, the same one if it is asked for again.
            week = int(datetime.now(UTC).strftime("%G%V"))
            with open_source(campaign.source, newest.lake) as source:
                report = links.check_links(newest, source, sample=config.photos, seed=week)
        well = f"{report.counts['there']:,} of {report.asked:,} sampled photographs are as they were fetched"
        return verdict(
            list(links.problems(report, _LINKS)),
            well,
            dg.AssetCheckSeverity.WARN,
            metadata={
                "sample": describe.count_table(report.counts, "state"),
                "gone": round(report.share("gone"), 4),
                "changed": round(report.share("changed"), 4),
                "examples": dg.MetadataValue.json(report.examples),
            },
        )

    return [every_byte_verifies, links_work]


def build_upkeep_jobs(campaign: Campaign, dump: dg.AssetKey) -> list[Any]:
    """`<campaign>_verify` and `<campaign>_links`."""
    group, asset = identifier(campaign.name), asset_key(campaign.name, "snapshot")

    def job(name: str, checks: list[dg.AssetCheckKey], description: str) -> Any:
        return dg.define_asset_job(
            f"{group}_{name}",
            selection=dg.AssetSelection.checks(*checks),
            executor_def=dg.in_process_executor,
            description=description,
            tags={"campaign": campaign.name},
        )

    return [
        job(
            "verify",
            [dg.AssetCheckKey(asset, "every_byte_verifies")],
            "Read files of the newest version and hold them against their digests.",
        ),
        job(
            "links",
            [dg.AssetCheckKey(asset, "links_work"), dg.AssetCheckKey(dump, "dump_is_whole")],
            "Ask the source whether a sample of the photographs is still there.",
        ),
    ]
