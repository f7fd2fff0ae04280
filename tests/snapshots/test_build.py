"""Building: equal rows have one identity however they came together, and nothing new is no version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import duckdb
import polars as pl
import pytest

from lakehouse.campaign import Campaign, Gate
from lakehouse.demo import hazards
from lakehouse.errors import GateError, LakeError
from lakehouse.images.partition import build_partition
from lakehouse.lake import Lake
from lakehouse.metadata.partitions import build_plan, load_plan
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import SnapshotBuild, build_snapshot, content_id, is_current
from lakehouse.snapshots.model import Root
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.schema import LABELS, RECORDS, TAXA
from lakehouse.sources import open_source


def build(lake: Lake, campaign: Campaign, connection: duckdb.DuckDBPyConnection) -> SnapshotBuild:
    return build_snapshot(lake, campaign, "embedded", "embedded:", connection)


def with_gate(campaign: Campaign, max_failed: float) -> Campaign:
    return campaign.model_copy(update={"gate": Gate(max_failed=max_failed)})


# --- identity


def test_refreshed_or_built_from_scratch_the_content_is_the_same(
    second: Snapshot, from_scratch: Root
) -> None:
    assert from_scratch.content_id == second.root.content_id
    assert from_scratch.counts == second.root.counts


def test_shards_differ_where_photos_came_in_one_go(second: Snapshot, from_scratch: Root) -> None:
    """Otherwise the equality of the content would say nothing."""
    assert from_scratch.shards != second.root.shards


def test_neither_the_order_of_rows_nor_the_size_of_partitions_matters(
    second: Snapshot, otherwise: Root
) -> None:
    assert len(otherwise.partitions) > len(second.root.partitions)
    assert otherwise.content_id == second.root.content_id


def test_a_month_later_the_content_is_another(first: Snapshot, second: Snapshot) -> None:
    assert first.root.content_id != second.root.content_id


def test_the_content_id_is_that_of_the_rows(second: Snapshot, connection: duckdb.DuckDBPyConnection) -> None:
    assert content_id(connection, second.lake, second.root) == second.root.content_id


@pytest.mark.parametrize("change", [{"split": "other"}, {"license": "CC-BY-NC"}, {"label_id": 34}])
def test_one_changed_value_changes_the_content_id(
    harmed: Snapshot,
    rewrite: Callable[..., None],
    connection: duckdb.DuckDBPyConnection,
    change: dict[str, object],
) -> None:
    rewrite(harmed.samples()[-1].photo_id, **change)
    assert content_id(connection, harmed.lake, harmed.root) != harmed.root.content_id


def test_the_parameters_are_part_of_the_content(
    second: Snapshot, connection: duckdb.DuckDBPyConnection
) -> None:
    other = second.root.model_copy(update={"parameters": {**second.root.parameters, "label": "genus"}})
    assert content_id(connection, second.lake, other) != second.root.content_id


# --- what is written


def test_parts_have_the_columns_of_their_schemas(second: Snapshot) -> None:
    root = second.root
    tables = ((root.partitions[0].labels, LABELS), (root.partitions[0].records, RECORDS), (root.taxa, TAXA))
    for file, schema in tables:
        assert second.lake.read_table(file.key).column_names == schema.names
        assert second.lake.read_table(file.key).num_rows == file.rows


def test_an_unchanged_partition_keeps_its_parts(first: Snapshot, second: Snapshot) -> None:
    before = {parts.partition: parts for parts in first.root.partitions}
    kept = [parts for parts in second.root.partitions if before.get(parts.partition) == parts]
    assert kept


def test_what_was_stored_in_the_first_month_is_stored_once(first: Snapshot, second: Snapshot) -> None:
    assert {shard.tar for shard in first.root.shards} & {shard.tar for shard in second.root.shards}
    both = first.manifest.join(second.manifest, on="photo_id", suffix="_later").collect()
    assert both.filter(pl.col("shard") != pl.col("shard_later")).is_empty()


def test_a_photo_in_a_snapshot_is_one_that_the_source_still_has(second: Snapshot) -> None:
    faults = hazards(photos=300).faults
    bad = {photo for photo, fault in faults.items() if fault in ("404", "403", "html", "corrupt")}
    got = {photo for photo, fault in faults.items() if fault.endswith("then-200")}
    there = set(second.manifest.select("photo_id").collect()["photo_id"])
    assert not bad & there
    assert got & there


def test_every_photo_considered_is_accounted_for(demo: Any) -> None:
    accounting = Counter(demo.second.version.accounting)
    reasons = sum(count for name, count in accounting.items() if name.startswith("excluded."))
    assert accounting["considered"] == accounting["selected"] + reasons
    assert accounting["selected"] == accounting["stored"] + accounting["gone"] + accounting["rejected"]


# --- again


def test_building_again_makes_no_new_version(harmed_demo: Any, connection: duckdb.DuckDBPyConnection) -> None:
    built = build(harmed_demo.lake, harmed_demo.campaign, connection)
    assert not built.created
    assert built.version == harmed_demo.second.version
    assert len(refs.versions(harmed_demo.lake, "demo")) == 2


def test_other_partitions_of_the_same_photos_are_a_version_of_the_same_content(
    harmed_demo: Any, connection: duckdb.DuckDBPyConnection
) -> None:
    lake = harmed_demo.lake
    one = harmed_demo.campaign.partition.model_copy(update={"max_photos": 30})
    campaign = harmed_demo.campaign.model_copy(update={"partition": one})
    release = load_plan(lake, "demo").release
    with open_source("embedded", lake) as source:
        plan = build_plan(lake, campaign, "embedded", release)
        for partition in plan.partitions:
            build_partition(lake, campaign, plan, partition.key, source, connection)
    built = build(lake, campaign, connection)
    assert (built.created, built.version.ref) == (True, "demo@v3")
    assert built.root.content_id == Snapshot(lake, harmed_demo.second.version).root.content_id
    assert set(built.version.changes.values()) == {0}


def test_a_lake_is_current_until_its_campaign_changes(demo: Any) -> None:
    assert is_current(demo.lake, demo.campaign)
    assert not is_current(demo.lake, with_gate(demo.campaign, 0.5))


def test_a_campaign_that_was_never_built_is_not_current(demo: Any) -> None:
    assert not is_current(demo.lake, demo.campaign.model_copy(update={"name": "frogs"}))


# --- refusals


def test_too_many_failures_exceed_the_gate_and_make_no_version(
    harmed_demo: Any, connection: duckdb.DuckDBPyConnection
) -> None:
    with pytest.raises(GateError, match=r"2 rejected.* above the gate of 0\.0%; what was fetched is kept"):
        build(harmed_demo.lake, with_gate(harmed_demo.campaign, 0), connection)
    assert len(refs.versions(harmed_demo.lake, "demo")) == 2


def test_what_is_gone_at_the_source_does_not_count_for_the_gate(
    harmed_demo: Any, connection: duckdb.DuckDBPyConnection
) -> None:
    accounting = harmed_demo.second.version.accounting
    rejected = accounting["rejected"] / accounting["selected"]
    assert accounting["gone"]
    assert not build(harmed_demo.lake, with_gate(harmed_demo.campaign, rejected), connection).created


def test_a_partition_that_was_not_selected_is_named(
    harmed_demo: Any, connection: duckdb.DuckDBPyConnection
) -> None:
    key = load_plan(harmed_demo.lake, "demo").partitions[0].key
    harmed_demo.lake.delete(f"campaigns/demo/selection/{key}.json")
    with pytest.raises(LakeError, match=f"partition {key} of 'demo' was not selected for release"):
        build(harmed_demo.lake, harmed_demo.campaign, connection)


def test_a_photo_that_was_never_tried_stops_the_build(
    harmed_demo: Any, connection: duckdb.DuckDBPyConnection
) -> None:
    small = harmed_demo.campaign.image.model_copy(update={"size": "small"})
    campaign = harmed_demo.campaign.model_copy(update={"image": small})
    with pytest.raises(LakeError, match=r"photos of partition .* were never tried"):
        build(harmed_demo.lake, campaign, connection)


def test_a_shard_that_is_gone_is_named(harmed_demo: Any, connection: duckdb.DuckDBPyConnection) -> None:
    lake = harmed_demo.lake
    for version in refs.versions(lake, "demo"):
        lake.delete(f"refs/demo/v{version.version}")
    tar = Snapshot(harmed_demo.lake, harmed_demo.second.version).root.shards[0].tar.key
    lake.delete(tar)
    with pytest.raises(LakeError, match=f"{tar} is missing although the ledger names it"):
        build(lake, harmed_demo.campaign, connection)
