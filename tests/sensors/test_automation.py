"""What the sensors and schedules of a campaign decide."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.campaign import Campaign, load_campaign
from lakehouse.demo.bucket import write_bucket
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import list_releases
from lakehouse.metadata.partitions import load_plan
from lakehouse.snapshots import refs
from sensors.automation import AUTOMATED
from tests.assets.conftest import define
from tests.conftest import PHOTOS, DemoLake


@pytest.fixture
def instance() -> Any:
    """An empty instance that lives in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(
    demo: DemoLake,
    name: str,
    instance: dg.DagsterInstance,
    cursor: str | None = None,
    campaign: Campaign | None = None,
) -> dg.SensorResult | dg.SkipReason:
    """One evaluation of a sensor."""
    definitions = define(demo, campaign)
    sensor = definitions.get_repository_def().get_sensor_def(f"demo_{name}")
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        resources={"lake": (definitions.resources or {})["lake"]},
        definitions=definitions,
    )
    found = sensor(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def reason(found: object) -> str:
    assert isinstance(found, dg.SkipReason), found
    return found.skip_message or ""


def test_a_dump_that_is_in_the_lake_starts_nothing(demo: DemoLake, instance: dg.DagsterInstance) -> None:
    assert list_releases(demo.lake, "embedded")[-1] in reason(tick(demo, "new_dump", instance))


def test_a_new_dump_starts_one_refresh_and_waits_for_it(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    write_bucket(harmed_demo.path / "embedded-source", 1, photos=PHOTOS)
    found = tick(harmed_demo, "new_dump", instance)
    assert isinstance(found, dg.SensorResult)
    [request] = found.run_requests or []
    assert request.tags["automation"] == "refresh"
    running = define(harmed_demo).resolve_job_def("demo_prepare")
    instance.create_run_for_job(running, status=dg.DagsterRunStatus.STARTED)
    assert "under way" in reason(tick(harmed_demo, "new_dump", instance, found.cursor))


def test_a_refresh_that_failed_is_started_again_with_another_key(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    write_bucket(harmed_demo.path / "embedded-source", 1, photos=PHOTOS)
    first = tick(harmed_demo, "new_dump", instance)
    assert isinstance(first, dg.SensorResult)
    second = tick(harmed_demo, "new_dump", instance, first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert (first.run_requests or [])[0].run_key != (second.run_requests or [])[0].run_key


def test_a_source_that_cannot_be_read_is_no_new_dump(
    demo: DemoLake, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    campaign = demo.campaign.model_copy(update={"source": str(tmp_path)})
    assert "nothing is concluded" in reason(tick(demo, "new_dump", instance, "before 1", campaign))


def test_a_dump_that_is_half_uploaded_is_waited_for(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    bucket = harmed_demo.path / "embedded-source"
    write_bucket(bucket, 1, photos=PHOTOS)
    for table in ("photos", "observations"):  # these are a month older than the others
        old = time.time() - 40 * 86400
        os.utime(bucket / f"{table}.csv.gz", (old, old))
    assert "different months" in reason(tick(harmed_demo, "new_dump", instance))


def edited(demo: DemoLake, folder: Path, old: str, new: str) -> Campaign:
    """The demo's campaign as a file of its own, read, and edited afterwards."""
    assert demo.campaign.path is not None
    path = folder / "demo.yaml"
    shutil.copy(demo.campaign.path, path)
    campaign = load_campaign(path)
    path.write_text(path.read_text().replace(old, new))
    return campaign


def test_an_edited_campaign_file_is_planned_anew(
    demo: DemoLake, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    campaign = edited(demo, tmp_path, "max_photos: 160", "max_photos: 50")
    found = tick(demo, "edited", instance, campaign=campaign)
    assert isinstance(found, dg.SensorResult)
    [request] = found.run_requests or []
    assert request.asset_selection == [dg.AssetKey(["demo", "plan"])]


def test_a_campaign_file_that_asks_for_the_same_starts_nothing(
    demo: DemoLake, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    campaign = edited(demo, tmp_path, "title: Insects", "title: Six legs")
    assert "nothing to do" in reason(tick(demo, "edited", instance, campaign=campaign))


def test_a_campaign_file_that_became_wrong_changes_nothing(
    demo: DemoLake, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    campaign = edited(demo, tmp_path, "label: species", "label: specie")
    assert "cannot be used" in reason(tick(demo, "edited", instance, campaign=campaign))


def test_partitions_follow_the_plan(demo: DemoLake, instance: dg.DagsterInstance) -> None:
    planned = {partition.key for partition in load_plan(demo.lake, "demo").partitions}
    instance.add_dynamic_partitions("demo_taxa", ["gone-1", min(planned)])
    found = tick(demo, "partitions", instance)
    assert isinstance(found, dg.SensorResult)
    added, deleted = found.dynamic_partitions_requests or []
    assert set(added.partition_keys) == planned - {min(planned)}
    assert deleted.partition_keys == ["gone-1"]


def test_a_partition_is_not_retired_under_a_run(demo: DemoLake, instance: dg.DagsterInstance) -> None:
    planned = [partition.key for partition in load_plan(demo.lake, "demo").partitions]
    instance.add_dynamic_partitions("demo_taxa", ["gone-1", *planned])
    run = instance.create_run_for_job(
        define(demo).resolve_job_def("demo_taxa"), status=dg.DagsterRunStatus.STARTED
    )
    assert "when no run is under way" in reason(tick(demo, "partitions", instance))
    instance.report_run_failed(run)
    assert isinstance(tick(demo, "partitions", instance), dg.SensorResult)


def test_a_plan_that_cannot_be_read_retires_nothing(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions("demo_taxa", ["aves-3"])
    (harmed_demo.path / "campaigns" / "demo" / "plan.json").unlink()
    assert "no partition is touched" in reason(tick(harmed_demo, "partitions", instance))


def test_a_retired_partition_stays_readable_through_its_snapshots(
    demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    version = refs.resolve(demo.lake, "demo@v1")
    retired = refs.read_root(demo.lake, version.snapshot_id).partitions[0].partition
    instance.add_dynamic_partitions("demo_taxa", [retired])
    instance.delete_dynamic_partition("demo_taxa", retired)
    from lakehouse.snapshots.read import Snapshot

    sample = Snapshot(demo.lake, version).samples()[0]
    assert sample.image


def hand_over(demo: DemoLake, name: str, after: str, tags: dict[str, str]) -> object:
    """One evaluation of a run-status sensor after a run of `after` with `tags`."""
    definitions = define(demo)
    sensor = definitions.get_repository_def().get_sensor_def(f"demo_{name}")
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(definitions.resolve_job_def(after), tags=tags)
        event = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_instance=instance,
            dagster_run=run,
            dagster_event=event,
            resources={"lake": (definitions.resources or {})["lake"]},
        )
        return sensor(context)


def forget_a_partition(lake: Lake) -> None:
    """Make one partition unfinished."""
    key = load_plan(lake, "demo").partitions[0].key
    (lake.path / "campaigns" / "demo" / "shards" / f"{key}.json").unlink()


@pytest.mark.parametrize(("tags", "follows"), [(AUTOMATED, True), ({}, False)])
def test_a_phase_follows_only_runs_that_automation_started(
    harmed_demo: DemoLake, tags: dict[str, str], follows: bool
) -> None:
    forget_a_partition(harmed_demo.lake)
    found = hand_over(harmed_demo, "then_taxa", "demo_prepare", tags)
    assert isinstance(found, dg.RunRequest) is follows


def test_partitions_that_a_photo_was_taken_out_of_are_selected_anew(harmed_demo: DemoLake) -> None:
    forget_a_partition(harmed_demo.lake)
    found = hand_over(harmed_demo, "then_taxa", "removals", AUTOMATED)
    assert isinstance(found, dg.RunRequest)


def test_a_snapshot_follows_where_the_newest_is_not_described(demo: DemoLake) -> None:
    # This instance is new: it knows of no materialization, so all is to be told again.
    assert isinstance(hand_over(demo, "then_snapshot", "demo_taxa", AUTOMATED), dg.RunRequest)
