"""Selection and shards by taxon: the partitioned assets, and the job that builds many taxa in one run.

Both run the same function. The job takes an explicit list of keys because a range of partitions must be
contiguous and one run a taxon costs seconds of overhead; without keys it builds every partition that is not
up to date. Materializations are logged one by one as they are done, so a run that fails at the end leaves the
taxa that went well materialized, and marks the others failed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from pydantic import Field

from assets import describe, lineage
from assets.failures import told_plainly
from assets.live import LogDisplay
from assets.names import OWNER, asset_key, identifier, partitions_of, pool_of
from assets.plan import register
from lakehouse.campaign import Campaign
from lakehouse.errors import LakehouseError, UnreachableError
from lakehouse.images.partition import PartitionBuild, build_partition, stored_images
from lakehouse.images.schema import INDEX
from lakehouse.lake import Lake
from lakehouse.metadata.partitions import load_plan
from lakehouse.metadata.schema import SELECTION
from lakehouse.metadata.selection import label_counts, selection_key
from lakehouse.progress import shown_by, task
from lakehouse.settings import Settings
from lakehouse.sources import open_source, source_name_of
from resources.lake import LakeDuckDB, LakeResource

Context = dg.AssetExecutionContext | dg.OpExecutionContext

# A source that did not answer for so many partitions on end is down, and not one of them is to blame.
_UNREACHABLE = 3
_SHOWN_FAILURES = 100


class Partitions(dg.Config):
    """Which partitions to build."""

    partitions: list[str] = Field([], description="Keys; none named: every partition that is not up to date")


@dataclass(frozen=True, slots=True)
class TaxaDefinitions:
    """The two partitioned assets, and the job over many partitions."""

    assets: dg.AssetsDefinition
    job: dg.JobDefinition


def build_taxa(
    campaign: Campaign, settings: Settings, retry: dg.RetryPolicy | None = None
) -> TaxaDefinitions:
    """`<campaign>/selection` and `<campaign>/shards`, and the job `<campaign>_taxa`."""
    group = identifier(campaign.name)

    source = source_name_of(campaign.source)
    pool = pool_of(campaign.source, settings)

    def spec(
        asset: str,
        deps: list[dg.AssetKey],
        kinds: set[str],
        description: str,
        metadata: dict[str, dg.TableSchema | dg.TableColumnLineage],
    ) -> dg.AssetSpec:
        return dg.AssetSpec(
            asset_key(campaign.name, asset),
            deps=deps,
            group_name=group,
            owners=[OWNER],
            kinds=kinds,
            description=description,
            metadata=metadata,
            skippable=True,
        )

    @dg.multi_asset(
        name=f"{group}_selection_and_shards",
        specs=[
            spec(
                "selection",
                [
                    asset_key(campaign.name, "plan"),
                    asset_key(source, "photos"),
                    asset_key(source, "raw_observers"),
                ],
                {"duckdb", "parquet"},
                "The photos of one taxon that the campaign wants, with label and split; each one left out is "
                "counted under the rule (licence, quality, place, …) that left it out.",
                {
                    "dagster/column_schema": describe.column_schema("selection", SELECTION),
                    "dagster/column_lineage": lineage.selection(source),
                },
            ),
            spec(
                "shards",
                [asset_key(campaign.name, "selection")],
                {"python", "http", "webdataset"},
                "The photographs of one taxon: fetched once, checked, kept in WebDataset shards.",
                {"dagster/column_schema": describe.column_schema("shards", INDEX)},
            ),
        ],
        partitions_def=partitions_of(campaign.name),
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        pool=pool,
        retry_policy=retry,
    )
    def selection_and_shards(
        context: dg.AssetExecutionContext, lake: LakeResource, duckdb: LakeDuckDB
    ) -> Iterator[dg.AssetMaterialization]:
        wanted = {key.path[-1] for key in context.selected_asset_keys}
        yield from _build_partitions(context, campaign, lake, duckdb, list(context.partition_keys), wanted)

    @dg.op(
        name=f"{group}_build_taxa",
        out={},
        pool=pool,
        retry_policy=retry,
        description="Builds the named partitions, or all that are not up to date, in one run.",
    )
    def build_many(
        context: dg.OpExecutionContext, config: Partitions, lake: LakeResource, duckdb: LakeDuckDB
    ) -> Iterator[dg.AssetMaterialization]:
        both = {"selection", "shards"}
        yield from _build_partitions(context, campaign, lake, duckdb, config.partitions, both)

    @dg.job(
        name=f"{group}_taxa",
        executor_def=dg.in_process_executor,
        tags={"campaign": campaign.name},
        description="Select and fetch the photographs of many taxa in one run.",
    )
    def taxa() -> None:
        build_many()

    return TaxaDefinitions(selection_and_shards, taxa)


def _build_partitions(
    context: Context,
    campaign: Campaign,
    lake: LakeResource,
    duckdb: LakeDuckDB,
    keys: Sequence[str],
    wanted: set[str],
) -> Iterator[dg.AssetMaterialization]:
    """Build partitions one after the other; the ones that failed are named when the others are done.

    Events are yielded, which stores them at once; logged ones would be lost if the step failed later.
    """
    failures: dict[str, LakehouseError] = {}
    unreachable = tried = 0
    # A second try of the same run has logged what went well the first time.
    asked = keys if context.retry_number == 0 else []
    with told_plainly():
        opened = lake.open()
        plan = load_plan(opened, campaign.name)
        planned = {partition.key for partition in plan.partitions}
        chosen = list(dict.fromkeys(keys)) or [partition.key for partition in plan.partitions]
        # A key that somebody mistyped fails below, and becomes no partition.
        register(context.instance, campaign.name, [key for key in chosen if key in planned])
        with (
            open_source(campaign.source, opened) as source,
            duckdb.on(opened) as connection,
            task("taxa", len(chosen), "partition") as progress,
        ):
            for key in chosen:
                try:
                    with shown_by(_live(context, campaign, key)):
                        built = build_partition(opened, campaign, plan, key, source, connection)
                except LakehouseError as error:
                    failures[key] = error
                    context.log.error(f"{key}: {error}")
                    unreachable = unreachable + 1 if isinstance(error, UnreachableError) else 0
                else:
                    unreachable = 0
                    # What was asked for by name is logged even if it was up to date; the rest only if it
                    # changed.
                    if "selection" in wanted and (asked or built.selected_anew):
                        yield _selection_event(campaign, opened, built, plan.release)
                    if "shards" in wanted and (asked or built.fetch):
                        yield _shards_event(campaign, opened, built)
                progress.advance(note=key)
                tried += 1
                if unreachable == _UNREACHABLE:
                    break
    if failures:
        _mark_failed(context, campaign, [key for key in failures if key in planned], wanted)
        named = ", ".join(list(failures)[:20]) + (", …" if len(failures) > 20 else "")
        left = f", {len(chosen) - tried} were not tried" if tried < len(chosen) else ""
        first = next(iter(failures.values()))
        shown = {key: str(error) for key, error in list(failures.items())[:_SHOWN_FAILURES]}
        raise dg.Failure(
            f"{len(failures)} of {len(chosen)} partitions failed ({named}){left}; the first: {first}",
            metadata={"failures": dg.MetadataValue.json(shown)},
            allow_retries=any(error.transient for error in failures.values()),
        )


def _mark_failed(context: Context, campaign: Campaign, keys: Sequence[str], wanted: set[str]) -> None:
    """Say which partitions this run was to materialize and does not, so that they show as failed.

    Dagster shows a partition as failed if a failed run had announced it; it announces those of asset jobs
    itself, and knows nothing of those in an op's configuration.
    """
    if context.run.asset_selection:
        return
    for key in keys:
        for asset in sorted(wanted):
            planned = AssetMaterializationPlannedData(asset_key(campaign.name, asset), partition=key)
            event = DagsterEvent.build_asset_materialization_planned_event(
                context.job_name, f"{identifier(campaign.name)}_build_taxa", planned
            )
            context.instance.report_dagster_event(event, run_id=context.run_id)


def _live(context: Context, campaign: Campaign, key: str) -> LogDisplay:
    """Progress of one partition in the log, and on the page of its asset."""
    shards = asset_key(campaign.name, "shards")
    return LogDisplay(
        lambda line: context.log.info(f"{key}: {line}"),
        lambda figures: context.log_event(
            dg.AssetObservation(shards, partition=key, metadata={"progress": dg.MetadataValue.json(figures)})
        ),
    )


def _selection_event(
    campaign: Campaign, lake: Lake, built: PartitionBuild, release: str
) -> dg.AssetMaterialization:
    report = built.selection
    return dg.AssetMaterialization(
        asset_key(campaign.name, "selection"),
        partition=built.key,
        tags={"dagster/data_version": report.digest},
        metadata={
            "release": release,
            "considered": report.considered,
            "dagster/row_count": report.selected,
            "labels": report.labels,
            "share taken": round(report.selected / report.considered, 4) if report.considered else 0.0,
            "left out": describe.count_table(report.excluded, "rule"),
            "file": dg.MetadataValue.path(lake.uri(selection_key(campaign.name, built.key))),
        },
    )


def _shards_event(campaign: Campaign, lake: Lake, built: PartitionBuild) -> dg.AssetMaterialization:
    state, fetch = built.state, built.fetch
    images = stored_images(lake, campaign, source_name_of(campaign.source), built.key, describe.THUMBNAILS)
    return dg.AssetMaterialization(
        asset_key(campaign.name, "shards"),
        partition=built.key,
        tags={"dagster/data_version": state.digest},
        metadata={
            **state.outcomes,
            "dagster/row_count": state.outcomes["stored"],
            "failed share": round(state.failed_share, 4),
            "bytes": state.bytes,
            "fetched now": fetch.fetched_now if fetch else 0,
            "photos per second": round(fetch.fetched_now / fetch.seconds, 1)
            if fetch and fetch.seconds
            else 0.0,
            **({"not stored": describe.failure_table(fetch)} if fetch and fetch.by_reason else {}),
            "pictures": describe.partition_pictures(label_counts(lake, campaign.name, built.key), images),
        },
    )
