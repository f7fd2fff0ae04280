"""What keeps a campaign going for months: pools, retries, links, removals, runs that died, pruning."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import httpx
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from assets import taxa as taxa_module
from assets.names import pool_of
from lakehouse.catalog import links
from lakehouse.catalog.links import check_links, problems
from lakehouse.cli import runs
from lakehouse.errors import UnreachableError
from lakehouse.metadata.partitions import load_plan
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.read import Snapshot
from lakehouse.sources import open_source
from resources.events import purge_events
from tests.assets.conftest import define
from tests.conftest import DemoLake


@pytest.fixture
def at_home(harmed_demo: DemoLake, monkeypatch: pytest.MonkeyPatch) -> DemoLake:
    """A copy of the demo's lake, and the environment pointing at it."""
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(harmed_demo.path))
    monkeypatch.setenv("DAGSTER_HOME", str(harmed_demo.path / "dagster"))
    return harmed_demo


def newest(demo: DemoLake) -> Snapshot:
    return Snapshot(demo.lake, refs.resolve(demo.lake, "demo@latest"))


def test_campaigns_on_one_host_share_a_pool() -> None:
    settings = Settings(_env_file=None)
    one = pool_of("https://user:secret@photos.example.org/a", settings)
    assert one == pool_of("https://Photos.example.org/b/c", settings) == "host/photos.example.org"
    assert pool_of("inaturalist", settings) == "host/inaturalist-open-data.s3.amazonaws.com"


def test_no_event_of_any_run_is_above_100_kb(at_home: DemoLake) -> None:
    with dg.DagsterInstance.get() as instance:
        events = [event for run in instance.get_runs() for event in instance.all_logs(run.run_id)]
    assert len(events) > 100
    assert max(len(event.to_json()) for event in events) < 100_000


def test_a_source_that_is_down_ends_the_run_early_and_is_tried_again(
    demo: DemoLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise UnreachableError("the source does not answer")

    monkeypatch.setattr(taxa_module, "build_partition", down)
    keys = [partition.key for partition in load_plan(demo.lake, "demo").partitions]
    with dg.DagsterInstance.ephemeral() as instance:
        result = (
            define(demo)
            .resolve_job_def("demo_taxa")
            .execute_in_process(
                instance=instance,
                raise_on_error=False,
                run_config={"ops": {"demo_build_taxa": {"config": {"partitions": keys}}}},
            )
        )
    failure = next(event for event in result.all_events if event.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert f"3 of {len(keys)} partitions failed" in data.description
    assert f"{len(keys) - 3} were not tried" in data.description


def test_links_that_are_gone_or_changed_are_counted(
    harmed_demo: DemoLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A photo of the embedded source keeps whoever asks waiting.
    monkeypatch.setattr(links, "_TIMEOUT", httpx.Timeout(1))
    snapshot = newest(harmed_demo)
    with open_source("embedded", harmed_demo.lake) as source:
        whole = check_links(snapshot, source, sample=8, rate=1000)
        gone, changed = snapshot.manifest.select("photo_id").head(2).collect()["photo_id"]
        bucket = harmed_demo.path / "embedded-source" / "photos"
        for path in (bucket / str(gone)).iterdir():
            path.unlink()
        for path in (bucket / str(changed)).iterdir():
            path.write_bytes(path.read_bytes() + b"\0")
        report = check_links(snapshot, source, sample=10_000, rate=1000)
    assert whole.counts == {"there": 8, "changed": 0, "gone": 0, "unknown": 0}
    assert report.asked == snapshot.root.counts.photos
    assert (report.counts["gone"], report.counts["changed"]) == (1, 1)
    assert len(list(problems(report, most=0.001))) == 2


def test_a_list_of_photographs_is_taken_back_once(
    at_home: DemoLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_id = newest(at_home).manifest.select("photo_id").head(1).collect().item()
    listed = tmp_path / "removals.csv"
    listed.write_text(f"photo_id\n{photo_id}\n")
    definitions = define(at_home)
    sensor = definitions.get_repository_def().get_sensor_def("removal_list")

    def tick(instance: dg.DagsterInstance) -> object:
        context = dg.build_sensor_context(
            instance=instance, resources={"lake": (definitions.resources or {})["lake"]}
        )
        return sensor(context)

    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(tick(instance), dg.SkipReason)
        monkeypatch.setenv("LAKEHOUSE_REMOVALS", str(listed))
        assert isinstance(tick(instance), dg.SensorResult)
        assert definitions.resolve_job_def("removals").execute_in_process(instance=instance).success
        after = tick(instance)
    assert isinstance(after, dg.SkipReason) and "nothing to do" in (after.skip_message or "")
    for version in refs.versions(at_home.lake, "demo"):
        ids = Snapshot(at_home.lake, version).manifest.select("photo_id").collect()["photo_id"]
        assert photo_id not in ids
        assert at_home.lake.exists(f"catalog/demo/v{version.version}/croissant.json")


def test_a_run_whose_command_was_killed_is_failed_by_the_next(at_home: DemoLake) -> None:
    job = define(at_home).resolve_job_def("demo_taxa")
    with dg.DagsterInstance.get() as instance:
        dead = instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.STARTED,
            tags={"launched_by": "lakehouse", ".dagster/lakehouse_owner": "nobody"},
        )
        instance.event_log_storage.initialize_concurrency_limit_to_default("host/embedded")
        claim = instance.event_log_storage.claim_concurrency_slot("host/embedded", dead.run_id, "step")
        assert claim.is_claimed
    built = runs.build(at_home.lake, at_home.campaign)
    assert isinstance(built, runs.Built)
    with dg.DagsterInstance.get() as instance:
        found = instance.get_run_by_id(dead.run_id)
        assert found is not None and found.status is dg.DagsterRunStatus.FAILURE
        info = instance.event_log_storage.get_concurrency_info("host/embedded")
        assert dead.run_id not in info.active_run_ids


def test_pruning_keeps_what_is_materialized(at_home: DemoLake) -> None:
    keys = [partition.key for partition in load_plan(at_home.lake, "demo").partitions]
    with runs._session(at_home.lake, at_home.campaign) as session:
        session.build_taxa(load_plan(at_home.lake, "demo"), keys)
    shards = dg.AssetKey(["demo", "shards"])
    with dg.DagsterInstance.get() as instance:
        before = instance.get_materialized_partitions(shards)
        number = instance.get_runs_count()
    pruned = runs.prune(at_home.lake, keep_days=0)
    assert pruned.runs > 0
    assert pruned.runs + pruned.kept == number
    assert pruned.bytes_after < pruned.bytes_before
    with dg.DagsterInstance.get() as instance:
        assert instance.get_materialized_partitions(shards) == before
    built = runs.build(at_home.lake, at_home.campaign)
    assert isinstance(built, runs.Built) and not built.created and not built.partitions


def test_pruning_keeps_what_the_checks_say(at_home: DemoLake) -> None:
    check = dg.AssetCheckKey(dg.AssetKey(["demo", "snapshot"]), "counts_add_up")

    def results() -> list[AssetCheckExecutionRecord]:
        with dg.DagsterInstance.get() as instance:
            return [*instance.event_log_storage.get_asset_check_execution_history(check, limit=100)]

    before = results()
    assert len(before) == 2  # one for each version
    runs.prune(at_home.lake, keep_days=0)
    [newest] = results()
    assert newest == before[0]
    with dg.DagsterInstance.get() as instance:
        assert instance.has_run(newest.run_id)
        assert not instance.has_run(before[1].run_id)


def test_what_a_check_shows_of_a_photo_is_forgotten(at_home: DemoLake) -> None:
    asset = dg.AssetKey(["demo", "snapshot"])
    seen = {
        "said": "https://example.org/photos/1234567/medium.jpg",
        "pictures": f"data:image/png;base64,{'A' * 99}",
    }
    with dg.DagsterInstance.get() as instance:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=asset,
            check_name="no_copies_across_labels",
            passed=False,
            metadata={name: dg.MetadataValue.md(text) for name, text in seen.items()},
        )
        instance.report_runless_asset_event(evaluation)
    assert purge_events(at_home.path / "dagster", [1234567]) > 0
    check = dg.AssetCheckKey(asset, "no_copies_across_labels")
    with dg.DagsterInstance.get() as instance:
        [newest] = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
    assert newest.event is not None
    assert "1234567" not in newest.event.to_json()
    assert "AAAAAAAAAAAAAAAAA" not in newest.event.to_json()
    history = b"".join(path.read_bytes() for path in (at_home.path / "dagster" / "history").rglob("*.db*"))
    assert b"1234567" not in history
