"""What the sensors decide."""

from __future__ import annotations

import dagster as dg
import pytest

from lakehouse.campaign import Campaign
from lakehouse.demo.bucket import write_bucket
from lakehouse.metadata.ingest import list_releases
from tests.assets.conftest import define
from tests.conftest import PHOTOS, DemoLake


def tick(
    demo: DemoLake, cursor: str | None, campaign: Campaign | None = None
) -> dg.SensorResult | dg.SkipReason:
    """One evaluation of the new-dump sensor."""
    definitions = define(demo, campaign)
    sensor = (
        definitions.resolve_sensor_def("demo_new_dump")
        if hasattr(definitions, "resolve_sensor_def")
        else definitions.get_sensor_def("demo_new_dump")
    )
    resources = definitions.resources or {}
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"lake": resources["lake"]}, definitions=definitions
        )
        found = sensor(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def test_a_dump_that_is_in_the_lake_starts_nothing(demo: DemoLake) -> None:
    newest = list_releases(demo.lake, "embedded")[-1]
    found = tick(demo, cursor=None)
    assert isinstance(found, dg.SkipReason)
    assert newest in (found.skip_message or "")


def test_a_new_dump_starts_one_refresh_and_is_remembered(harmed_demo: DemoLake) -> None:
    write_bucket(harmed_demo.path / "embedded-source", 1, photos=PHOTOS)
    found = tick(harmed_demo, cursor=list_releases(harmed_demo.lake, "embedded")[-1])
    assert isinstance(found, dg.SensorResult)
    assert [request.tags["automation"] for request in found.run_requests or []] == ["refresh"]
    again = tick(harmed_demo, cursor=found.cursor)
    assert isinstance(again, dg.SkipReason)


def test_a_source_that_cannot_be_read_is_no_new_dump(
    demo: DemoLake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    found = tick(demo, cursor="before", campaign=demo.campaign.model_copy(update={"source": str(empty)}))
    assert isinstance(found, dg.SkipReason)
    assert "nothing is concluded" in (found.skip_message or "")


@pytest.mark.parametrize(("tags", "follows"), [({"automation": "refresh"}, True), ({}, False)])
def test_a_phase_follows_only_runs_that_automation_started(
    demo: DemoLake, tags: dict[str, str], follows: bool
) -> None:
    definitions = define(demo)
    sensor = next(
        sensor for sensor in definitions.get_repository_def().sensor_defs if sensor.name == "demo_then_taxa"
    )
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(define_probe(), tags=tags)
        event = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name, dagster_instance=instance, dagster_run=run, dagster_event=event
        )
        found = sensor(context)
    assert isinstance(found, dg.RunRequest) is follows


def define_probe() -> dg.JobDefinition:
    """A job that stands for the phase before."""

    @dg.op
    def nothing() -> None:
        return None

    @dg.job
    def demo_prepare() -> None:
        nothing()

    return demo_prepare
