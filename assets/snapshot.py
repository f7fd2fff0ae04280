"""The snapshot asset and the rules that every snapshot must keep."""

import dagster as dg

from assets import describe
from assets.failures import told_plainly, verdict
from assets.names import OWNER, asset_key, identifier
from lakehouse.campaign import Campaign
from lakehouse.catalog.publish import tables
from lakehouse.lake import Lake
from lakehouse.snapshots import checks, refs
from lakehouse.snapshots.build import build_snapshot
from lakehouse.snapshots.model import fates
from lakehouse.snapshots.read import Snapshot
from lakehouse.sources import open_source
from resources.lake import LakeDuckDB, LakeResource


def build_snapshot_asset(campaign: Campaign) -> dg.AssetsDefinition:
    """The asset `<campaign>/snapshot`."""

    @dg.asset(
        key=asset_key(campaign.name, "snapshot"),
        deps=[asset_key(campaign.name, "shards")],
        group_name=identifier(campaign.name),
        kinds={"parquet", "dataset"},
        owners=[OWNER],
        description=f"“{campaign.title}” as one immutable version: photos, labels, splits, licences.",
    )
    def snapshot(
        context: dg.AssetExecutionContext, lake: LakeResource, duckdb: LakeDuckDB
    ) -> dg.MaterializeResult:
        with told_plainly():
            opened = lake.open()
            with open_source(campaign.source, opened) as source, duckdb.on(opened) as connection:
                built = build_snapshot(
                    opened, campaign, source.name, source.reference_url, connection, context.run.run_id
                )
        context.log.info(f"{built.version.ref}: {'new version' if built.created else 'nothing new'}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(built.version.snapshot_id),
            metadata={"new": built.created, **_described(Snapshot(opened, built.version))},
        )

    return snapshot


def _described(snapshot: Snapshot) -> dict[str, dg.MetadataValue | int | str]:
    version, root = snapshot.version, snapshot.root
    statistics = tables(snapshot).statistics
    return {
        "version": version.ref,
        "snapshot_id": version.snapshot_id,
        "content_id": root.content_id,
        "dagster/row_count": root.counts.photos,
        "labels": root.counts.labels,
        "observations": root.counts.observations,
        "bytes": root.counts.bytes,
        "licences": describe.licence_table(root.counts.licenses),
        "splits": describe.count_table(root.counts.splits, "split"),
        "accounting": describe.count_table(dict(fates(version.accounting))),
        "changes": describe.count_table(version.changes, "change"),
        "photos per label": describe.long_tail(statistics),
        "thumbnails": describe.snapshot_thumbnails(snapshot),
        "file": dg.MetadataValue.path(snapshot.lake.uri(refs.root_key(version.snapshot_id))),
    }


def build_snapshot_checks(campaign: Campaign) -> list[dg.AssetChecksDefinition]:
    """The checks of `<campaign>/snapshot`; they keep a bad snapshot from being described or published."""
    asset = asset_key(campaign.name, "snapshot")

    @dg.asset_check(
        asset=asset, blocking=True, description="No photo without an accepted licence and its attribution."
    )
    def every_photo_licensed(lake: LakeResource, duckdb: LakeDuckDB) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), campaign.name)
        with duckdb.on(newest.lake) as connection:
            problems = list(checks.unlicensed(connection, newest.lake, newest.root))
        return verdict(
            problems, "every photo has an accepted licence, an attribution line and its observation's URL"
        )

    @dg.asset_check(
        asset=asset, blocking=True, description="Every photo considered is in the snapshot or has a reason."
    )
    def counts_add_up(lake: LakeResource) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), campaign.name)
        considered = newest.version.accounting["considered"]
        problems = list(checks.miscounted(newest.version, newest.root))
        return verdict(problems, f"all {considered:,} photos considered are accounted for")

    @dg.asset_check(asset=asset, blocking=True, description="No observation and no photo is in two splits.")
    def splits_do_not_leak(lake: LakeResource, duckdb: LakeDuckDB) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), campaign.name)
        with duckdb.on(newest.lake) as connection:
            problems = list(checks.leaks(connection, newest.lake, newest.root))
        return verdict(problems, "each observation and each photo is in one split")

    @dg.asset_check(asset=asset, blocking=True, description="No two splits share an image byte for byte.")
    def no_copies_across_splits(lake: LakeResource, duckdb: LakeDuckDB) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), campaign.name)
        with duckdb.on(newest.lake) as connection:
            problems = list(checks.shared_bytes(connection, newest.lake, newest.root))
        return verdict(problems, "no image is in two splits")

    return [every_photo_licensed, counts_add_up, splits_do_not_leak, no_copies_across_splits]


def newest_snapshot(lake: Lake, campaign: str) -> Snapshot:
    """The campaign's newest snapshot; raises NotFoundError if it has none."""
    return Snapshot(lake, refs.resolve(lake, f"{campaign}@latest"))
