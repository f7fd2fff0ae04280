"""`make bench-operations`: what Dagster itself costs.

Each figure is printed with what it was measured on; CPU seconds stand beside wall-clock ones, for a shared
machine delays the latter only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.operations import bucket
from benchmarks.operations.control import ROOT, Control, dagster
from lakehouse.campaign import Campaign, load_campaign
from lakehouse.cli import runs
from lakehouse.images.partition import build_partition
from lakehouse.lake import Lake, open_lake
from lakehouse.metadata.partitions import load_plan
from lakehouse.sources import open_source

HEAVY = ("matplotlib", "mlcroissant", "deltalake")
_LOAD = """
import json, sys, time
began, cpu = time.perf_counter(), time.process_time()
import lakehouse.definitions as code
jobs = len(list(code.defs().resolve_all_job_defs()))
print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "jobs": jobs,
                  "heavy": [name for name in %r if name in sys.modules]}))
"""


def tell(what: str, **figures: Any) -> None:
    """Print one line of figures."""
    shown = ", ".join(
        f"{name.replace('_', ' ')} {value:,.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in figures.items()
    )
    print(f"{what}: {shown}", flush=True)


@contextlib.contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Wall-clock and CPU seconds of the block, in this process and those it waited for."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    found: dict[str, float] = {}
    began, before = time.perf_counter(), cpu()
    yield found
    found.update(seconds=time.perf_counter() - began, cpu=cpu() - before)


def load_time(folder: Path, campaigns: int, rounds: int = 3) -> None:
    """How long the code location loads with so many campaigns."""
    folder.mkdir()
    text = (ROOT / "campaigns" / "demo.yaml").read_text()
    for number in range(campaigns):
        (folder / f"c{number}.yaml").write_text(text.replace("name: demo", f"name: campaign-{number}", 1))
    environment = {**os.environ, "LAKEHOUSE_CAMPAIGNS": str(folder), "LAKEHOUSE_ROOT": str(folder / "lake")}
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _LOAD % (HEAVY,)],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout.splitlines()[-1]
        )
        for _ in range(rounds)
    ]
    best = min(found, key=lambda one: one["seconds"])
    tell(f"code location with {campaigns} campaigns (best of {rounds})", **best)


def size(home: Path) -> int:
    """Bytes of an instance's databases."""
    return sum(path.stat().st_size for path in home.rglob("*.db"))


def overhead(lake: Lake, campaign: Campaign, home: Path) -> None:
    """A run over all partitions, all up to date, against the same calls without Dagster."""
    plan = load_plan(lake, campaign.name)
    keys = [partition.key for partition in plan.partitions]
    with timed() as bare, open_source(campaign.source, lake) as source, lake.connect() as connection:
        for key in keys:
            build_partition(lake, campaign, plan, key, source, connection)
    before = size(home)
    with timed() as whole, runs._session(lake, campaign) as session:
        events = session.build_taxa(plan, keys)
    assert len(events) == 2 * len(keys)
    tell(
        f"{len(keys)} partitions in one run, all up to date",
        seconds=whole["seconds"],
        cpu=whole["cpu"],
        without_dagster=bare["seconds"],
        overhead_per_partition=(whole["seconds"] - bare["seconds"]) / len(keys),
        overhead_cpu_per_partition=(whole["cpu"] - bare["cpu"]) / len(keys),
        log_bytes_per_partition=round((size(home) - before) / len(keys)),
    )


def refresh(lake: Lake, campaign: Campaign, files: Path, taxa: int) -> None:
    """A dump in which three taxa have a new photo."""
    bucket.write(files, taxa, changed=(1, taxa // 2, taxa - 2))
    with timed() as spent:
        built = runs.build(lake, campaign, refresh=True)
    assert isinstance(built, runs.Built)
    tell(
        f"refresh, 3 of {taxa} taxa changed",
        materialized=len(built.partitions),
        fetched=built.fetched,
        **spent,
    )
    assert len(built.partitions) == 3, built.partitions
    with timed() as spent:
        again = runs.build(lake, campaign, refresh=True)
    assert isinstance(again, runs.Built)
    tell("the same dump again", materialized=len(again.partitions), new_version=again.created, **spent)


def year(lake: Lake, campaign: Campaign, home: Path, months: int) -> None:
    """Every partition materialized month after month, and pruned as the guide says."""
    plan = load_plan(lake, campaign.name)
    keys = [partition.key for partition in plan.partitions]
    began = size(home)
    for _ in range(months):
        with runs._session(lake, campaign) as session:
            session.build_taxa(plan, keys)
    grown = size(home)
    pruned = runs.prune(lake, keep_days=0)
    per_month = (grown - began) / months
    tell(
        f"event log, {months} months in which all of {len(keys)} partitions change",
        megabytes_a_month=per_month / 1e6,
        year_without_pruning_MB=12 * per_month / 1e6,
        after_pruning_MB=size(home) / 1e6,
        runs_deleted=pruned.runs,
    )


def daemon(control: Control, name: str, keys: list[str]) -> None:
    """Backfills through a real daemon: explicit keys, a range, scattered partitions from the dialog."""
    assets = [f"{name}/selection", f"{name}/shards"]
    for what, chosen in ((f"{len(keys)} keys", keys), (f"every other of {len(keys)} keys", keys[::2])):
        with timed() as spent:
            run = control.launch(
                f"{name}_taxa", {"ops": {f"{name}_build_taxa": {"config": {"partitions": chosen}}}}
            )
            status = control.wait_run(run, 1800)
        tell(
            f"job {name}_taxa, {what}",
            status=status,
            runs=1,
            seconds=spent["seconds"],
            seconds_per_partition=spent["seconds"] / len(chosen),
        )
    for what, chosen in ((f"dialog, all {len(keys)}", keys), ("dialog, 8 scattered", keys[10:26:2])):
        with timed() as spent:
            backfill = control.backfill(assets, chosen)
            state = control.wait(
                lambda id=backfill: (s := control.backfill_state(id))["status"] != "REQUESTED" and s,
                what,
                1800,
            )
        tell(
            what,
            status=state["status"],
            runs=len(state["runs"]),
            seconds=spent["seconds"],
            seconds_per_partition=spent["seconds"] / len(chosen),
        )


def _ended(control: Control, backfill: str) -> dict[str, Any] | None:
    state = control.backfill_state(backfill)
    return state if state["status"] != "REQUESTED" else None


def large(control: Control, home: Path, name: str, partitions: int) -> None:
    """So many partitions, all materialized, in the web server."""
    os.environ["DAGSTER_HOME"] = str(home)
    keys = [f"genus-{number}" for number in range(partitions)]
    with dg.DagsterInstance.get() as instance:
        with timed() as spent:
            instance.add_dynamic_partitions(f"{name}_taxa", keys)
        tell(f"{partitions} partitions registered", **spent)
        for key in keys:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(dg.AssetKey([name, "shards"]), partition=key)
            )
    control.partition_states(f"{name}/shards")
    with timed() as spent:
        states = control.partition_states(f"{name}/shards")
    tell(f"partition status of {len(states['materialized'])} partitions by GraphQL", seconds=spent["seconds"])
    control.start_sensor(f"{name}_partitions")
    began = time.perf_counter()
    control.wait(lambda: control.ticks(f"{name}_partitions"), "a tick", 120)
    tick = control.ask(
        """query ($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor { sensorState {
           ticks(limit: 1) { timestamp endTimestamp status } } } } }""",
        s={
            "sensorName": f"{name}_partitions",
            "repositoryLocationName": "lakehouse",
            "repositoryName": "__repository__",
        },
    )["sensorOrError"]["sensorState"]["ticks"][0]
    tell(
        "sensor that retires them",
        status=tick["status"],
        waited=time.perf_counter() - began,
        seconds=float((tick["endTimestamp"] or tick["timestamp"]) - tick["timestamp"]),
    )
    page_time(control, name, partitions)


def page_time(control: Control, name: str, partitions: int) -> None:
    """How long Chromium takes to show the partitions."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("page in Chromium: not measured, it or playwright is not installed")
        return
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page()
        page.goto(control.url)
        with timed() as spent:
            page.goto(f"{control.url}/assets/{name}/shards?view=partitions")
            page.get_by_text("Partitions Selected").wait_for(timeout=120_000)
            page.get_by_text(f"genus-{partitions - 1}").or_(page.get_by_text("genus-0")).first.wait_for()
        tell(f"partitions page in Chromium, {partitions} partitions", seconds=spent["seconds"])
        browser.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument(
        "--large", type=int, default=5000, help="partitions in the web server; 0 leaves it out"
    )
    parser.add_argument("--months", type=int, default=2)
    parser.add_argument("--campaigns", type=int, default=20)
    options = parser.parse_args()
    print(f"dagster {dg.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        load_time(folder / "load", options.campaigns)
        files, path, campaigns = folder / "bucket", folder / "lake", folder / "campaigns"
        campaigns.mkdir()
        bucket.write(files, options.partitions)
        with bucket.serve(files) as address:
            (campaigns / "many.yaml").write_text(bucket.campaign("many", address))
            campaign = load_campaign(campaigns / "many.yaml")
            os.environ["LAKEHOUSE_ROOT"] = str(path)
            lake, home = open_lake(str(path)), path / "dagster"
            with timed() as spent:
                built = runs.build(lake, campaign)
            assert isinstance(built, runs.Built)
            tell("first build", partitions=len(built.partitions), photos=built.fetched, **spent)
            overhead(lake, campaign, home)
            refresh(lake, campaign, files, options.partitions)
            year(lake, campaign, home, options.months)
            keys = [partition.key for partition in load_plan(lake, "many").partitions]
            environment = {"LAKEHOUSE_ROOT": str(path), "LAKEHOUSE_CAMPAIGNS": str(campaigns)}
            with dagster(home, environment) as control:
                daemon(control, "many", keys)
                if options.large:
                    large(control, home, "many", options.large)


if __name__ == "__main__":
    main()
