"""The campaign's automation and backfills in a real daemon and web server."""

from __future__ import annotations

import re
import shutil
import time

import pytest

from lakehouse.lake import open_lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.read import Snapshot
from tests.daemon.conftest import Running

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(600)]
SENSORS = ("new_dump", "then_taxa", "then_snapshot", "partitions")


def keys_of(running: Running) -> list[str]:
    return running.dagster.partition_states("demo/shards")["materialized"]


def test_a_new_dump_becomes_one_new_version_and_then_there_is_peace(running: Running) -> None:
    before = len(running.dagster.runs())
    running.month(2)
    for sensor in SENSORS:
        running.dagster.start_sensor(f"demo_{sensor}")

    def finished() -> list[dict[str, str]]:
        found = running.dagster.runs_after(before)
        return found if found and found[0]["jobName"] == "demo_snapshot" and found[0]["endTime"] else []

    found = running.dagster.wait(finished, "the snapshot after a new dump", 300)
    assert [(run["jobName"], run["status"]) for run in reversed(found)] == [
        ("demo_prepare", "SUCCESS"),
        ("demo_taxa", "SUCCESS"),
        ("demo_snapshot", "SUCCESS"),
    ]
    assert (running.path / "refs" / "demo" / "v2").exists()
    time.sleep(35)  # every sensor but those of hours ticks again
    assert len(running.dagster.runs()) == before + 3


def test_scattered_partitions_are_one_run_in_which_good_ones_succeed_and_bad_ones_fail(
    running: Running,
) -> None:
    scattered, known = keys_of(running)[::2], keys_of(running)
    state = running.path / "campaigns" / "demo" / "shards" / f"{scattered[1]}.json"
    state.unlink()
    (state / "in the way").mkdir(parents=True)
    config = {"ops": {"demo_build_taxa": {"config": {"partitions": [*scattered, "no-such-taxon-1"]}}}}
    run = running.dagster.launch("demo_taxa", config)
    assert running.dagster.wait_run(run) == "FAILURE"
    states = running.dagster.partition_states("demo/shards")
    assert states["failed"] == [scattered[1]]
    assert states["materialized"] == sorted({*known} - {scattered[1]})
    shutil.rmtree(state)
    assert running.dagster.wait_run(running.dagster.launch("demo_taxa")) == "SUCCESS"
    assert running.dagster.partition_states("demo/shards") == {
        "materialized": known,
        "failed": [],
        "unmaterialized": [],
    }


def test_a_failed_run_is_told_of_in_one_clear_message(running: Running) -> None:
    [told] = running.dagster.wait(lambda: running.told, "a message to the webhook", 120)
    assert told["job"] == "demo_taxa"
    assert re.match(r"demo_taxa failed: 2 of \d+ partitions failed \(.*, no-such-taxon-1\)", told["text"])
    assert "secret-path" not in running.dagster.log.read_text()


def test_a_backfill_from_the_partitions_page_materializes_what_it_names(running: Running) -> None:
    chosen = keys_of(running)[:2]
    backfill = running.dagster.backfill(["demo/selection", "demo/shards"], chosen)

    def ended() -> dict[str, object] | None:
        state = running.dagster.backfill_state(backfill)
        return state if state["status"] != "REQUESTED" else None

    state = running.dagster.wait(ended, "the backfill's end", 300)
    assert state["status"] == "COMPLETED_SUCCESS"
    assert len(state["runs"]) == 1  # they are neighbours


def test_a_photo_on_the_list_of_removals_goes_out_of_every_version(running: Running) -> None:
    lake = open_lake(str(running.path), Settings(_env_file=None))
    before = {version.ref: version.snapshot_id for version in refs.versions(lake, "demo")}
    known = len(running.dagster.runs())
    photo_id = Snapshot(lake, refs.resolve(lake, "demo@v1")).samples()[0].photo_id
    running.dagster.start_sensor("removal_list")
    running.dagster.wait(lambda: running.dagster.ticks("removal_list"), "a tick that finds nothing to do", 90)
    with running.removals.open("a") as listed:
        listed.write(f"{photo_id}\n")

    def done() -> bool:
        """The list's sensor looked again after all that it started had ended."""
        said = running.dagster.ticks("removal_list")[0]["skipReason"] or ""
        new = running.dagster.runs_after(known)
        return len(new) > 2 and all(run["endTime"] for run in new) and "is taken in" in said

    running.dagster.wait(done, "the removal, and what follows from it", 300)
    found = running.dagster.runs_after(known)
    assert [(run["jobName"], run["status"]) for run in reversed(found)] == [
        ("removals", "SUCCESS"),
        ("demo_taxa", "SUCCESS"),
        ("demo_snapshot", "SUCCESS"),
    ]
    after = {version.ref: version.snapshot_id for version in refs.versions(lake, "demo")}
    assert after.keys() == before.keys()
    assert after["demo@v1"] != before["demo@v1"]
    for version in refs.versions(lake, "demo"):
        ids = Snapshot(lake, version).manifest.select("photo_id").collect()["photo_id"].to_list()
        assert photo_id not in ids
    logs = b"".join(path.read_bytes() for path in (running.path / "dagster" / "history").rglob("*.db*"))
    assert f"/photos/{photo_id}/".encode() not in logs


def test_two_runs_that_fetch_from_one_host_wait_for_each_other(running: Running) -> None:
    config = {"ops": {"demo_build_taxa": {"config": {"partitions": keys_of(running)}}}}
    first, second = (running.dagster.launch("demo_taxa", config) for _ in range(2))
    assert {running.dagster.wait_run(first), running.dagster.wait_run(second)} == {"SUCCESS"}
    data = running.dagster.ask(
        """query ($a: ID!, $b: ID!) {
             a: runOrError(runId: $a) { ... on Run { stepStats { startTime endTime } } }
             b: runOrError(runId: $b) { ... on Run { stepStats { startTime endTime } } } }""",
        a=first,
        b=second,
    )
    spans = sorted((one["startTime"], one["endTime"]) for run in "ab" for one in data[run]["stepStats"])
    assert len(spans) == 2
    assert spans[0][1] <= spans[1][0]


def test_a_reload_finds_a_new_campaign(running: Running) -> None:
    text = (running.campaigns / "demo.yaml").read_text()
    (running.campaigns / "second.yaml").write_text(text.replace("name: demo", "name: second", 1))
    running.dagster.reload()
    assert "second/snapshot" in running.dagster.assets()
