"""Selection and shards by taxon, one partition or many in a run."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from lakehouse.metadata.partitions import load_plan
from tests.assets.conftest import define
from tests.conftest import DemoLake

BOTH = [dg.AssetKey(["demo", "selection"]), dg.AssetKey(["demo", "shards"])]


def run_taxa(
    demo: DemoLake, instance: dg.DagsterInstance, keys: list[str], **options: Any
) -> dg.ExecuteInProcessResult:
    job = define(demo).resolve_job_def("demo_taxa")
    config = {"ops": {"demo_build_taxa": {"config": {"partitions": keys}}}}
    return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False, **options)


def materialized(result: dg.ExecuteInProcessResult) -> list[tuple[str, str | None]]:
    return [
        (event.asset_key.path[-1], event.partition)
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key
    ]


def test_nothing_is_materialized_when_every_partition_is_up_to_date(
    demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    result = run_taxa(demo, instance, [])
    assert result.success
    assert materialized(result) == []


def test_partitions_asked_for_by_key_are_materialized(demo: DemoLake, instance: dg.DagsterInstance) -> None:
    keys = [partition.key for partition in load_plan(demo.lake, "demo").partitions][::2]
    result = run_taxa(demo, instance, keys)
    assert sorted(materialized(result)) == sorted(
        (asset, key) for key in keys for asset in ("selection", "shards")
    )


def test_the_run_registers_its_partitions(demo: DemoLake, instance: dg.DagsterInstance) -> None:
    run_taxa(demo, instance, [])
    planned = {partition.key for partition in load_plan(demo.lake, "demo").partitions}
    assert set(instance.get_dynamic_partitions("demo_taxa")) == planned


def test_a_partition_that_fails_is_named_and_the_others_are_materialized(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    good = load_plan(harmed_demo.lake, "demo").partitions[0].key
    result = run_taxa(harmed_demo, instance, ["no-such-taxon-1", good])
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert (
        "1 of 2 partitions failed (no-such-taxon-1)"
        in failure.step_failure_data.user_failure_data.description
    )
    assert ("shards", good) in materialized(result)
    assert instance.get_dynamic_partitions("demo_taxa") == [good]  # a key that is mistyped becomes none


@pytest.mark.parametrize("asset", ["selection", "shards"])
def test_a_partition_can_be_materialized_by_itself(
    demo: DemoLake, instance: dg.DagsterInstance, asset: str
) -> None:
    key = load_plan(demo.lake, "demo").partitions[0].key
    instance.add_dynamic_partitions("demo_taxa", [key])
    job = define(demo).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(["demo", asset])], partition_key=key
    )
    assert materialized(result) == [(asset, key)]


def test_a_partitions_data_version_is_that_of_its_content(
    demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    key = load_plan(demo.lake, "demo").partitions[0].key
    versions = set()
    for _ in range(2):
        run_taxa(demo, instance, [key])
        event = instance.get_latest_materialization_event(BOTH[1])
        assert event is not None and event.asset_materialization is not None
        versions.add((event.asset_materialization.tags or {})["dagster/data_version"])
    assert len(versions) == 1


def test_no_event_is_above_100_kb(demo: DemoLake, instance: dg.DagsterInstance) -> None:
    run_taxa(demo, instance, [partition.key for partition in load_plan(demo.lake, "demo").partitions])
    records = instance.all_logs(instance.get_runs()[0].run_id)
    largest = max(len(record.to_json()) for record in records)
    assert largest < 100_000
