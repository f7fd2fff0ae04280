"""The snapshot asset and the rules that every snapshot must keep."""

from collections.abc import Iterator

import dagster as dg
import duckdb

from assets import describe, lineage
from assets.failures import chosen, told_plainly, verdict
from assets.names import OWNER, asset_key, identifier
from lakehouse.campaign import Campaign
from lakehouse.catalog.publish import illustrate, tables
from lakehouse.images.partition import Account, account
from lakehouse.lake import Lake
from lakehouse.snapshots import checks, refs
from lakehouse.snapshots.build import SnapshotBuild, build_snapshot
from lakehouse.snapshots.diff import diff
from lakehouse.snapshots.duplicates import Duplicates, duplicates, examples
from lakehouse.snapshots.model import fates
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.schema import MANIFEST
from lakehouse.sources import open_source, source_name_of
from resources.lake import LakeDuckDB, LakeResource

# A version with fewer photos than this share of the one before is worth a look.
_SHRINK = 0.1


def build_snapshot_asset(campaign: Campaign, retry: dg.RetryPolicy | None = None) -> dg.AssetsDefinition:
    """The asset `<campaign>/snapshot`."""

    @dg.asset(
        key=asset_key(campaign.name, "snapshot"),
        deps=[asset_key(campaign.name, "shards")],
        group_name=identifier(campaign.name),
        kinds={"parquet", "dataset"},
        owners=[OWNER],
        description=f"“{campaign.title}” as one immutable version: photos, labels, splits, licences.",
        metadata={
            "dagster/column_schema": describe.polars_columns("snapshot", MANIFEST),
            "dagster/column_lineage": lineage.snapshot(source_name_of(campaign.source), campaign.name),
        },
        retry_policy=retry,
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
                changes = _changes(connection, opened, built)
        context.log.info(f"{built.version.ref}: {'new version' if built.created else 'nothing new'}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(built.version.snapshot_id),
            metadata={
                "new": built.created,
                "release": built.root.inputs.release,
                **_described(Snapshot(opened, built.version)),
                **changes,
            },
        )

    return snapshot


def _changes(
    connection: duckdb.DuckDBPyConnection, lake: Lake, built: SnapshotBuild
) -> dict[str, dg.MetadataValue]:
    """What is different from the version before, by label; of a first version nothing is."""
    if not built.created or built.version.parent is None:
        return {}
    before = refs.read_root(lake, built.version.parent)
    return {"changes by label": describe.diff_table(diff(connection, lake, before, built.root))}


def _described(snapshot: Snapshot) -> dict[str, dg.MetadataValue | int | str]:
    version, root = snapshot.version, snapshot.root
    statistics = tables(snapshot).statistics
    drawn = illustrate(snapshot, statistics)
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
        "photos per label": describe.picture(drawn["figures/rank_abundance.png"], "photos per label"),
        "map": describe.picture(drawn["figures/map.png"], "where the photographs were taken"),
        "thumbnails": describe.picture(drawn["figures/strip.jpg"], "thumbnails"),
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
            found = duplicates(connection, newest.lake, newest.root) if problems else None
        shown = examples(newest, found.flagged("cross_split")) if found else []
        return verdict(
            problems,
            "no image is in two splits",
            metadata={"pictures": describe.sheet(shown)} if shown else None,
        )

    copies = {
        ("cross_label", "exact"): dg.AssetCheckSpec(
            "no_copies_across_labels", asset=asset, description="No image is under two labels byte for byte."
        ),
        ("cross_split", "near"): dg.AssetCheckSpec(
            "no_near_copies_across_splits",
            asset=asset,
            description="No two splits share images that look alike.",
        ),
    }

    @dg.multi_asset_check(
        name=f"{identifier(campaign.name)}_copies", can_subset=True, specs=[*copies.values()]
    )
    def copies_found(
        context: dg.AssetCheckExecutionContext, lake: LakeResource, duckdb: LakeDuckDB
    ) -> Iterator[dg.AssetCheckResult]:
        newest = newest_snapshot(lake.open(), campaign.name)
        with duckdb.on(newest.lake) as connection:
            found = duplicates(connection, newest.lake, newest.root)
        yield from chosen(context, copy_results(newest, found))

    def copy_results(newest: Snapshot, found: Duplicates) -> Iterator[dg.AssetCheckResult]:
        for (flag, kind), spec in copies.items():
            problems = list(checks.copied(found, flag, kind))
            shown = examples(newest, found.flagged(flag, kind)) if problems else []
            yield verdict(
                problems,
                f"none among {newest.root.counts.photos:,} photos",
                dg.AssetCheckSeverity.WARN,
                check=spec.key,
                metadata={"pictures": describe.sheet(shown)} if shown else None,
            )

    @dg.asset_check(
        asset=asset, blocking=True, description="No photo moved to another split since the version before."
    )
    def splits_are_stable(lake: LakeResource, duckdb: LakeDuckDB) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), campaign.name)
        if newest.version.parent is None:
            return verdict([], f"{newest.version.ref} is the first version")
        before = refs.read_root(newest.lake, newest.version.parent)
        with duckdb.on(newest.lake) as connection:
            problems = list(checks.moved_samples(connection, newest.lake, before, newest.root))
        return verdict(problems, "every photo is in the split it was in")

    @dg.asset_check(asset=asset, description="The version did not lose a notable share of its photos.")
    def photos_did_not_shrink(lake: LakeResource) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), campaign.name)
        now, parent = newest.root.counts.photos, newest.version.parent
        before = refs.read_root(newest.lake, parent).counts.photos if parent else 0
        lost = f"{newest.version.ref} has {now:,} photos, {before - now:,} fewer than the version before"
        problems = [lost] if now < (1 - _SHRINK) * before else []
        return verdict(
            problems,
            f"{now:,} photos" + (f", before {before:,}" if parent else ""),
            dg.AssetCheckSeverity.WARN,
        )

    return [
        every_photo_licensed,
        counts_add_up,
        splits_do_not_leak,
        no_copies_across_splits,
        copies_found,
        splits_are_stable,
        photos_did_not_shrink,
    ]


def build_taxa_checks(campaign: Campaign) -> list[dg.AssetChecksDefinition]:
    """The checks of `<campaign>/selection` and `<campaign>/shards` over all partitions of the plan."""
    selected = dg.AssetCheckKey(asset_key(campaign.name, "selection"), "every_photo_judged")
    gate = dg.AssetCheckKey(asset_key(campaign.name, "shards"), "failures_under_the_gate")
    counted = dg.AssetCheckKey(asset_key(campaign.name, "shards"), "every_photo_tried")

    @dg.multi_asset_check(
        name=f"{identifier(campaign.name)}_taxa_checks",
        can_subset=True,
        specs=[
            dg.AssetCheckSpec(
                selected.name,
                asset=selected.asset_key,
                description="Every photo of the plan is selected or left out for one reason.",
            ),
            dg.AssetCheckSpec(
                counted.name,
                asset=counted.asset_key,
                description="Every selected photo is stored, or has an outcome that says why not.",
            ),
            dg.AssetCheckSpec(
                gate.name,
                asset=gate.asset_key,
                description=f"At most {campaign.gate.max_failed:.1%} of the photos failed, were refused or "
                "rejected.",
            ),
        ],
    )
    def taxa_checks(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> Iterator[dg.AssetCheckResult]:
        found = account(lake.open(), campaign)
        yield from chosen(context, results(found))

    def results(found: Account) -> Iterator[dg.AssetCheckResult]:
        well = f"all {found.considered:,} photos are judged, {found.selected:,} are selected"
        yield verdict(list(found.unjudged), well, check=selected)
        yield verdict(list(found.untried), f"all {found.selected:,} photos have an outcome", check=counted)
        share, most = found.failed_share, campaign.gate.max_failed
        said = f"{share:.2%} of the photos failed"
        too_many = [f"{said}, above the gate of {most:.1%}"] if share > most else []
        yield verdict(too_many, said, check=gate, metadata={"outcomes": describe.count_table(found.outcomes)})

    return [taxa_checks]


def newest_snapshot(lake: Lake, campaign: str) -> Snapshot:
    """The campaign's newest snapshot; raises NotFoundError if it has none."""
    return Snapshot(lake, refs.resolve(lake, f"{campaign}@latest"))
