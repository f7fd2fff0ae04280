"""The shared assets of one source: its dump, the raw tables, the taxonomy, the photo table."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from assets import lineage
from assets.describe import column_schema, count_table
from assets.failures import chosen, told_plainly, verdict
from assets.names import OWNER, asset_key, identifier
from lakehouse.errors import SourceError
from lakehouse.metadata.ingest import (
    RawRelease,
    ingest_release,
    list_releases,
    load_raw_release,
    raw_table_key,
)
from lakehouse.metadata.photos import build_photos, load_photos_report
from lakehouse.metadata.schema import PHOTOS, RAW_TABLES, taxa_schema
from lakehouse.metadata.state import newest_release
from lakehouse.metadata.taxonomy import TaxaReport, build_taxa, load_taxa_report, taxa_key
from lakehouse.sources import open_source, source_name_of
from resources.lake import LakeDuckDB, LakeResource

RAW_DESCRIPTIONS = {
    "observations": "Every observation in the dump: who saw what, where and when, and how sure others are.",
    "observers": "The people who made the observations, for attribution.",
    "photos": "Every photo of every observation with its licence and photographer.",
    "taxa": "The tree of life as the dump knows it: names, ranks and ancestry.",
}


class RawTables(dg.Config):
    """How a dump is taken in."""

    accept_shrink: bool = Field(
        False, description="Take in a table that lost more rows than LAKEHOUSE_MAX_SHRINK allows"
    )


@dataclass(frozen=True, slots=True)
class SourceAssets:
    """The definitions of one source."""

    assets: list[dg.AssetsDefinition | dg.AssetSpec]
    checks: list[dg.AssetChecksDefinition]


# A table that lost more than this share of its rows in a month is worth a look; far more is refused.
_SHRINK = 0.05
# Of all taxa, but never fewer than a small dump has by chance.
_ODD_TAXA, _FEW_TAXA = 0.01, 20


def shrunken(release: RawRelease, earlier: RawRelease | None, table: str) -> Iterator[str]:
    """Whether `table` lost a notable share of its rows since the release before."""
    now = release.table(table).rows
    before = next((one.rows for one in earlier.tables if one.name == table), 0) if earlier else 0
    if earlier and now < (1 - _SHRINK) * before:
        yield (
            f"{table} has {now:,} rows, {before - now:,} fewer than in release {earlier.release_id}: look "
            "whether the dump is whole"
        )


def uncounted(release: RawRelease, table: str) -> Iterator[str]:
    """Whether lines of `table` were lost between the file and the lake."""
    report = release.table(table)
    found = report.rows + report.rejected + report.blank + report.taken_back + 1
    if found != report.lines:
        yield (
            f"{table} has {report.lines:,} lines, but {found:,} are accounted for (rows, rejected, blank, "
            "header)"
        )


def broken_taxa(report: TaxaReport) -> Iterator[str]:
    """What makes a tree of life useless."""
    if not report.taxa:
        yield "the taxonomy is empty"
    if report.circular:
        yield f"{report.circular:,} taxa are their own ancestors"


def odd_taxa(report: TaxaReport) -> Iterator[str]:
    """What is wrong with a tree of life beyond what every dump has; a mirror of a part of the source lacks
    branches, and may."""
    for what, count in (("orphans", report.orphans), ("ungrafted", report.ungrafted)):
        if count > max(_FEW_TAXA, _ODD_TAXA * report.taxa):
            yield f"{count:,} of {report.taxa:,} taxa are {what}: parts of the tree are missing"


def build_source(address: str, retry: dg.RetryPolicy | None = None) -> SourceAssets:
    """The assets of the source that campaign files call `address`."""
    source_name = source_name_of(address)

    def key(table: str) -> dg.AssetKey:
        return asset_key(source_name, table)

    dump = dg.AssetSpec(
        key("dump"),
        description="The files that the source serves; a new dump is noticed by their ETags.",
        group_name="source",
        kinds={"csv"},
        owners=[OWNER],
    )

    @dg.multi_asset(
        name=f"{identifier(source_name)}_raw",
        specs=[
            dg.AssetSpec(
                key(f"raw_{table}"),
                deps=[dump.key],
                description=f"{text} Typed and loss-free; rows that break the format are kept apart.",
                group_name="source",
                kinds={"python", "arrow", "parquet"},
                owners=[OWNER],
                metadata={"dagster/column_schema": column_schema(f"raw_{table}", RAW_TABLES[table].schema)},
            )
            for table, text in RAW_DESCRIPTIONS.items()
        ],
        retry_policy=retry,
    )
    def raw(config: RawTables, lake: LakeResource) -> Iterator[dg.MaterializeResult]:
        with told_plainly():
            opened = lake.open()
            with open_source(address, opened) as source:
                release = ingest_release(
                    opened, source, source.current_release(), accept_shrink=config.accept_shrink
                )
        for table in release.tables:
            if table.name in RAW_DESCRIPTIONS:
                yield dg.MaterializeResult(
                    asset_key=key(f"raw_{table.name}"),
                    data_version=dg.DataVersion(f"{release.release_id}:{table.sha256[:12]}"),
                    metadata={
                        "release": release.release_id,
                        "dagster/row_count": table.rows,
                        "rejected rows": table.rejected,
                        "source bytes": table.size,
                        "ETag": table.etag or (release.archive.etag if release.archive else ""),
                        "ETag checked by": release.archive.etag_check
                        if release.archive
                        else table.etag_check,
                        "file": dg.MetadataValue.path(
                            opened.uri(raw_table_key(source_name, release.release_id, table.name))
                        ),
                    },
                )

    @dg.asset(
        key=key("taxa"),
        deps=[key("raw_taxa")],
        group_name="source",
        kinds={"python", "numpy", "parquet"},
        owners=[OWNER],
        description="Every taxon with the names of the ranks above it; a subtree is one range of rows.",
    )
    def taxa(lake: LakeResource) -> dg.MaterializeResult:
        with told_plainly():
            opened = lake.open()
            release = newest_release(opened, source_name)
            report = build_taxa(opened, source_name, release)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(release),
            metadata={
                "release": release,
                "dagster/row_count": report.taxa,
                "inactive": report.inactive,
                "orphans": report.orphans,
                "ungrafted": report.ungrafted,
                "stale paths": report.stale,
                "circular": report.circular,
                "homonyms": report.homonyms,
                "dagster/column_schema": column_schema("taxa", taxa_schema(report.ranks)),
                "file": dg.MetadataValue.path(opened.uri(taxa_key(source_name, release))),
            },
        )

    @dg.asset(
        key=key("photos"),
        deps=[key("raw_photos"), key("raw_observations"), key("taxa")],
        group_name="source",
        kinds={"duckdb", "parquet"},
        owners=[OWNER],
        description="One row per photo with its observation, sorted so that any taxon is one range of rows.",
        metadata={
            "dagster/column_schema": column_schema("photos", PHOTOS),
            "dagster/column_lineage": lineage.photos(source_name),
        },
    )
    def photos(lake: LakeResource, duckdb: LakeDuckDB) -> dg.MaterializeResult:
        with told_plainly():
            opened = lake.open()
            release = newest_release(opened, source_name)
            with duckdb.on(opened) as connection:
                report = build_photos(opened, source_name, release, connection)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(release),
            metadata={
                "release": release,
                "dagster/row_count": report.photos,
                "rows accounted for": count_table(report.accounting()),
            },
        )

    @dg.asset_check(
        asset=key("photos"),
        blocking=True,
        description="Every row of the dump's photo table is kept or has a reason.",
    )
    def rows_accounted_for(lake: LakeResource) -> dg.AssetCheckResult:
        opened = lake.open()
        release = newest_release(opened, source_name)
        rows = {table.name: table.rows for table in load_raw_release(opened, source_name, release).tables}
        report = load_photos_report(opened, source_name, release)
        found = sum(report.accounting().values())
        problems = (
            []
            if found == rows["photos"]
            else [f"{found:,} of {rows['photos']:,} raw photo rows are accounted for"]
        )
        return verdict(problems, f"all {found:,} raw photo rows are accounted for")

    @dg.asset_check(
        asset=key("taxa"),
        blocking=True,
        description="The tree of life is one: no circles, few taxa without a place in it.",
    )
    def taxonomy_sane(lake: LakeResource) -> dg.AssetCheckResult:
        opened = lake.open()
        report = load_taxa_report(opened, source_name, newest_release(opened, source_name))
        broken = list(broken_taxa(report))
        return verdict(
            [*broken, *odd_taxa(report)],
            f"{report.taxa:,} taxa hang together",
            dg.AssetCheckSeverity.ERROR if broken else dg.AssetCheckSeverity.WARN,
        )

    @dg.multi_asset_check(
        name=f"{identifier(source_name)}_raw_checks",
        can_subset=True,
        specs=[
            dg.AssetCheckSpec(
                "rows_plausible",
                asset=key(f"raw_{table}"),
                description="Every line of the dump's file is accounted for, and the table did not lose a "
                "notable share of its rows since the last dump.",
            )
            for table in RAW_DESCRIPTIONS
        ],
    )
    def raw_checks(
        context: dg.AssetCheckExecutionContext, lake: LakeResource
    ) -> Iterator[dg.AssetCheckResult]:
        opened = lake.open()
        releases = [
            load_raw_release(opened, source_name, release)
            for release in list_releases(opened, source_name)[-2:]
        ]
        earlier = releases[0] if len(releases) > 1 else None
        yield from chosen(context, results(releases[-1], earlier))

    def results(newest: RawRelease, earlier: RawRelease | None) -> Iterator[dg.AssetCheckResult]:
        for table in RAW_DESCRIPTIONS:
            rows = newest.table(table).rows
            lost = list(uncounted(newest, table))
            before = f", before {earlier.table(table).rows:,}" if earlier else ""
            yield verdict(
                [*lost, *shrunken(newest, earlier, table)],
                f"{rows:,} rows{before}; every line of the file is a row, or set aside and counted",
                dg.AssetCheckSeverity.ERROR if lost else dg.AssetCheckSeverity.WARN,
                check=dg.AssetCheckKey(key(f"raw_{table}"), "rows_plausible"),
            )

    @dg.asset_check(
        asset=key("dump"), description="The source answers, and serves a dump whose tables belong together."
    )
    def dump_is_whole(lake: LakeResource) -> dg.AssetCheckResult:
        opened = lake.open()
        try:
            with open_source(address, opened) as source:
                release = source.current_release()
        except SourceError as error:
            return verdict([str(error)], "")
        size = sum(table.size for table in release.tables)
        return verdict([], f"it serves {release.release_id}: {len(release.tables)} tables, {size:,} bytes")

    return SourceAssets(
        [dump, raw, taxa, photos], [rows_accounted_for, taxonomy_sane, raw_checks, dump_is_whole]
    )
