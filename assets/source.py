"""The shared assets of one source: its dump, the raw tables, the taxonomy, the photo table."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from assets.describe import column_schema, count_table
from assets.failures import told_plainly, verdict
from assets.names import OWNER, asset_key, identifier
from lakehouse.metadata.ingest import ingest_release, load_raw_release, raw_table_key
from lakehouse.metadata.photos import build_photos, load_photos_report
from lakehouse.metadata.schema import PHOTOS, RAW_TABLES
from lakehouse.metadata.state import newest_release
from lakehouse.metadata.taxonomy import build_taxa, taxa_key
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


def build_source(address: str) -> SourceAssets:
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
                metadata={"dagster/column_schema": column_schema(RAW_TABLES[table].schema)},
            )
            for table, text in RAW_DESCRIPTIONS.items()
        ],
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
        metadata={"dagster/column_schema": column_schema(PHOTOS)},
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

    return SourceAssets([dump, raw, taxa, photos], [rows_accounted_for])
