"""`make bench-operations`: what Dagster itself costs.

Each figure is printed with what it was measured on; CPU seconds stand beside wall-clock ones, for a shared
machine delays the latter only. `--only` measures some parts, `--folder` keeps the lake for the next ones.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.operations import bucket
from benchmarks.operations.control import ROOT, Control, dagster, free_port
from lakehouse.campaign import Campaign, load_campaign
from lakehouse.cli import runs
from lakehouse.images.partition import build_partition
from lakehouse.lake import Lake, open_lake
from lakehouse.metadata.partitions import load_plan
from lakehouse.sources import open_source

PARTS = ("load", "build", "overhead", "refresh", "year", "backfill", "dialog", "large")
CHANGED = 3  # taxa that a refresh finds changed
HEAVY = ("matplotlib", "mlcroissant", "deltalake")
_LOAD = """
import json, sys, time
began, cpu = time.perf_counter(), time.process_time()
import lakehouse.definitions as code
jobs = len(list(code.defs().resolve_all_job_defs()))
print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "jobs": jobs,
                  "heavy": [name for name in %r if name in sys.modules]}))
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """A bucket, a lake and two campaigns over all of the bucket: `many`, built by the command line, and
    `again`, built by a daemon."""

    folder: Path
    partitions: int
    photos: int

    @property
    def files(self) -> Path:
        """The bucket."""
        return self.folder / "bucket"

    @property
    def lake(self) -> Lake:
        """The lake."""
        return open_lake(str(self.folder / "lake"))

    @property
    def home(self) -> Path:
        """Dagster's home, in the lake."""
        return self.folder / "lake" / "dagster"

    @property
    def campaigns(self) -> Path:
        """The folder of campaign files."""
        return self.folder / "campaigns"

    def campaign(self, name: str = "many") -> Campaign:
        """One of the campaigns."""
        return load_campaign(self.campaigns / f"{name}.yaml")

    def keys(self, name: str = "many") -> list[str]:
        """The partitions of a campaign that was planned."""
        return [partition.key for partition in load_plan(self.lake, name).partitions]

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """The bucket, served at the address that the campaign files name."""
        self.campaigns.mkdir(parents=True, exist_ok=True)
        known = self.folder / "port"
        if not known.exists():
            bucket.write(self.files, self.partitions, self.photos)
            known.write_text(str(free_port(27_600)))
        port = int(known.read_text())
        organization = "lakehouse-bench" if "LAKEHOUSE_CKAN_URL" in os.environ else ""
        for name in ("many", "again"):
            entry = organization if name == "many" else ""
            text = bucket.campaign(name, f"http://127.0.0.1:{port}", self.photos, entry)
            (self.campaigns / f"{name}.yaml").write_text(text)
        os.environ["LAKEHOUSE_ROOT"] = str(self.folder / "lake")
        with bucket.serve(self.files, port):
            yield

    @contextlib.contextmanager
    def control(self) -> Iterator[Control]:
        """A real Dagster on the lake."""
        runs.prepare_home(self.lake)
        environment = {
            "LAKEHOUSE_ROOT": str(self.folder / "lake"),
            "LAKEHOUSE_CAMPAIGNS": str(self.campaigns),
        }
        with dagster(self.home, environment) as control:
            yield control


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


def build(bench: Bench) -> None:
    """All partitions from nothing, by the command line's own function."""
    with timed() as spent:
        built = runs.build(bench.lake, bench.campaign())
    assert isinstance(built, runs.Built)
    assert len(built.partitions) in (0, bench.partitions)  # none if the folder is of an earlier run
    tell("first build", partitions=len(built.partitions), photos=built.fetched, **spent)


def overhead(bench: Bench) -> None:
    """A run over all partitions, all up to date, against the same calls without Dagster."""
    lake, campaign = bench.lake, bench.campaign()
    plan, keys = load_plan(lake, campaign.name), bench.keys()
    before = size(bench.home)
    with timed() as whole, runs._session(lake, campaign) as session:
        events = session.build_taxa(plan, keys)
    assert len(events) == 2 * len(keys)
    with timed() as bare, open_source(campaign.source, lake) as source, lake.connect() as connection:
        for key in keys:
            assert build_partition(lake, campaign, plan, key, source, connection).fetch is None
    tell(
        f"{len(keys)} partitions in one run, all up to date",
        seconds=whole["seconds"],
        cpu=whole["cpu"],
        without_dagster=bare["seconds"],
        overhead_per_partition=(whole["seconds"] - bare["seconds"]) / len(keys),
        overhead_cpu_per_partition=(whole["cpu"] - bare["cpu"]) / len(keys),
        log_bytes_per_partition=round((size(bench.home) - before) / len(keys)),
    )


def materialized(home: Path, began: float) -> Counter[str]:
    """How often each asset was materialized since then, by asset."""
    os.environ["DAGSTER_HOME"] = str(home)
    found: Counter[str] = Counter()
    with dg.DagsterInstance.get() as instance:
        for key in instance.all_asset_keys():
            where = dg.AssetRecordsFilter(asset_key=key, after_timestamp=began)
            found[key.path[-1]] += len(instance.fetch_materializations(where, limit=1000).records)
    return +found


def refresh(bench: Bench) -> None:
    """A dump in which three taxa have a new photo: these three, one snapshot, one description each; the same
    dump again: nothing."""
    lake, campaign, taxa = bench.lake, bench.campaign(), bench.partitions
    bucket.write(bench.files, taxa, bench.photos, changed=(1, taxa // 2, taxa - 2))
    before = _activities(campaign.name) if campaign.publish.ckan else []
    began = time.time()
    with timed() as spent:
        built = runs.build(lake, campaign, refresh=True)
    assert isinstance(built, runs.Built)
    found = materialized(bench.home, began)
    tell(f"refresh, {CHANGED} of {taxa} taxa changed", fetched=built.fetched, **spent, **found)
    described = ["snapshot", "croissant", "dataset_card", *(["ckan_entry"] if campaign.publish.ckan else [])]
    assert {name: found[name] for name in described} == dict.fromkeys(described, 1), found
    assert (len(built.partitions), found["selection"], found["shards"]) == (CHANGED, CHANGED, CHANGED)
    if campaign.publish.ckan:
        activities = _activities(campaign.name)
        tell("CKAN's own account of the entry", activities=activities)
        assert activities == [*before, "changed package"]
    began = time.time()
    with timed() as spent:
        again = runs.build(lake, campaign, refresh=True)
    assert isinstance(again, runs.Built)
    assert not again.created and not materialized(bench.home, began)
    tell("the same dump again", materialized=0, new_version=again.created, **spent)


def _activities(name: str) -> list[str]:
    """What CKAN noted of an entry, oldest first."""
    import ckanapi

    with ckanapi.RemoteCKAN(
        os.environ["LAKEHOUSE_CKAN_URL"], apikey=os.environ["LAKEHOUSE_CKAN_TOKEN"]
    ) as ckan:
        return [event["activity_type"] for event in ckan.action.package_activity_list(id=name)][::-1]


def year(bench: Bench, months: int, keep_days: int = 90) -> None:
    """Every partition materialized month after month, and pruned each month as the guide says."""
    lake, campaign = bench.lake, bench.campaign()
    plan, keys = load_plan(lake, campaign.name), bench.keys()
    grown, after = [], []
    for _ in range(months):
        with sqlite3.connect(bench.home / "history" / "runs.db") as database:  # a month goes by
            database.execute("UPDATE runs SET create_timestamp = datetime(create_timestamp, '-30 days')")
        database.close()
        before = size(bench.home)
        with runs._session(lake, campaign) as session:
            session.build_taxa(plan, keys)
            month = size(bench.home)
            session.run("verify")
        grown.append(month - before)
        night = size(bench.home) - month
        pruned = runs.prune(lake, keep_days=keep_days)
        after.append(size(bench.home))
    tell(
        f"event log, {months} months in which all of {len(keys)} partitions change",
        kB_a_partition=max(grown) / 1e3 / len(keys),
        kB_a_night=night / 1e3,
        runs_deleted_last=pruned.runs,
        MB_after_each_month=[round(one / 1e6, 1) for one in after],
    )


def backfill(bench: Bench) -> None:
    """All partitions of a campaign through a real daemon by GraphQL, a few of which cannot be built; then the
    rest of them."""
    job, op = "again_taxa", "again_build_taxa"
    runs.prepare(bench.lake, bench.campaign("again"), refresh=False)
    keys = bench.keys("again")
    bad = sorted(keys)[:: max(1, len(keys) // 3)][:3]
    obstacles = [Path(bench.lake.uri(f"campaigns/again/shards/{key}.json")) for key in bad]
    for path in obstacles:
        path.unlink(missing_ok=True)
        (path / "in the way").mkdir(parents=True)
    with bench.control() as control:
        with timed() as spent:
            run = control.launch(job, {"ops": {op: {"config": {"partitions": keys}}}})
            status = control.wait_run(run, 1800)
        states = control.partition_states("again/shards")
        tell(
            f"job {job}, {len(keys)} keys of which {len(bad)} cannot be built",
            status=status,
            seconds=spent["seconds"],
            seconds_per_partition=spent["seconds"] / len(keys),
            **{state: len(found) for state, found in states.items()},
            **memory(control),
        )
        assert status == "FAILURE" and states["failed"] == bad
        assert len(states["materialized"]) == len(keys) - len(bad)
        for path in obstacles:
            shutil.rmtree(path)
        with timed() as spent:
            run = control.launch(job)
            status = control.wait_run(run, 1800)
        states = control.partition_states("again/shards")
        tell(f"job {job} again, without keys", status=status, seconds=spent["seconds"])
        assert status == "SUCCESS" and len(states["materialized"]) == len(keys)


def dialog(bench: Bench) -> None:
    """What the UI's dialog starts: a run for each range of neighbours."""
    runs.prepare(bench.lake, bench.campaign("again"), refresh=False)
    assets, keys = ["again/selection", "again/shards"], bench.keys("again")
    with bench.control() as control:
        for what, chosen in ((f"dialog, all {len(keys)}", keys), ("dialog, 8 scattered", keys[10:26:2])):
            with timed() as spent:
                begun = control.backfill(assets, chosen)
                state = control.wait(lambda id=begun: _ended(control, id), what, 1800)
            tell(
                what,
                status=state["status"],
                runs=len(state["runs"]),
                seconds=spent["seconds"],
                seconds_per_partition=spent["seconds"] / len(chosen),
            )


def _ended(control: Control, begun: str) -> dict[str, Any] | None:
    state = control.backfill_state(begun)
    return state if state["status"] != "REQUESTED" else None


def memory(control: Control) -> dict[str, int]:
    """Resident megabytes of Dagster's processes, by what they are."""
    found: Counter[str] = Counter()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not process.name.isdecimal() or os.getsid(int(process.name)) != control.pid:
                continue
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            role = next(
                (
                    name
                    for name, sign in (
                        ("MB webserver", "dagster_webserver"),
                        ("MB daemon", "dagster._daemon"),
                        ("MB code location", "grpc"),
                        ("MB run", "execute_run"),
                    )
                    if sign in command
                ),
                "MB others",
            )
            pages = int((process / "statm").read_text().split()[1])
            found[role] += pages * resource.getpagesize() // 1_000_000
    return dict(found)


def large(bench: Bench) -> None:
    """A campaign of so many partitions, all materialized, in daemon, GraphQL and browser."""
    runs.prepare(bench.lake, bench.campaign(), refresh=False)
    keys = bench.keys()
    name, shards = "many_taxa", dg.AssetKey(["many", "shards"])
    os.environ["DAGSTER_HOME"] = str(bench.home)
    with dg.DagsterInstance.get() as instance:
        for key in instance.get_dynamic_partitions(name):
            instance.delete_dynamic_partition(name, key)
        known = instance.get_materialized_partitions(shards)
        for key in keys:
            for asset in ("selection", "shards") if key not in known else ():
                made = dg.AssetMaterialization(dg.AssetKey(["many", asset]), partition=key)
                instance.report_runless_asset_event(made)
    with bench.control() as control:
        tick(control, "many_partitions", f"{len(keys)} partitions are registered")
        tick(control, "many_new_dump", "nothing is new")
        tick(control, "many_edited", "nothing is new")
        control.partition_states("many/shards")
        with timed() as spent:
            states = control.partition_states("many/shards")
        assert len(states["materialized"]) == len(keys)
        tell(f"partition status of {len(keys)} partitions by GraphQL", seconds=spent["seconds"])
        pages(control, keys)
        tell("memory", **memory(control))


def tick(control: Control, sensor: str, what: str) -> None:
    """The first tick of a sensor in the daemon, then the same once more by GraphQL."""
    control.start_sensor(sensor)
    found = control.wait(
        lambda: [one for one in control.ticks(sensor) if one["endTimestamp"]], f"a tick of {sensor}"
    )[-1]
    with timed() as again:
        said = control.try_sensor(sensor)["skipReason"]
    tell(
        f"{sensor}, {what}",
        status=found["status"],
        seconds=float((found["endTimestamp"] or found["timestamp"]) - found["timestamp"]),
        seconds_again=again["seconds"],
        said=(said or "")[:100],
    )


def pages(control: Control, keys: Sequence[str]) -> None:
    """How long Chromium takes to show the partitions and the graph, and what they ask."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import Request, sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("pages in Chromium: not measured, it or playwright is not installed")
        return
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page()
        asked: list[tuple[float, str]] = []

        def note(request: Request) -> None:
            if request.url.endswith("/graphql") or "/graphql?" in request.url:
                query = (request.post_data_json or {}).get("operationName", "?")
                asked.append((request.timing["responseEnd"] / 1000, str(query)))

        page.on("requestfinished", note)
        page.goto(control.url)
        page.wait_for_timeout(3000)
        graph = "/locations/__repository__@lakehouse/asset-groups/many/lineage"
        for what, address, text in (
            ("partitions page", "/assets/many/shards?view=partitions", "Partitions Selected"),
            ("a partition's page", f"/assets/many/shards?view=partitions&partition={keys[-1]}", keys[-1]),
            ("asset graph", graph, "dataset_card"),
        ):
            asked.clear()
            with timed() as spent:
                page.goto(f"{control.url}{address}")
                page.get_by_text(text).first.wait_for(timeout=120_000)
            page.wait_for_timeout(2000)  # what it asks for later
            tell(
                f"{what} in Chromium, {len(keys)} partitions",
                seconds=spent["seconds"],
                queries=len(asked),
                slowest="{1} {0:.2f} s".format(*max(asked)) if asked else "none",
            )
        browser.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--photos", type=int, default=2, help="photographs of each partition")
    parser.add_argument(
        "--large", type=int, default=5000, help="partitions in daemon, web server and browser"
    )
    parser.add_argument("--months", type=int, default=2)
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--folder", type=Path, help="keep bucket and lake there, and use what is there")
    options = parser.parse_args()
    print(f"dagster {dg.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        if "load" in options.only:
            load_time(Path(scratch) / "load", options.campaigns)
        kept = options.folder or Path(scratch)
        bench = Bench(kept / f"{options.partitions}", options.partitions, options.photos)
        parts = {
            "build": lambda: build(bench),
            "overhead": lambda: overhead(bench),
            "refresh": lambda: refresh(bench),
            "year": lambda: year(bench, options.months),
            "backfill": lambda: backfill(bench),
            "dialog": lambda: dialog(bench),
        }
        chosen = [measure for name, measure in parts.items() if name in options.only]
        if chosen:
            with bench.served():
                for measure in chosen:
                    measure()
        if "large" in options.only:
            most = Bench(kept / f"large-{options.large}", options.large, 1)
            with most.served():
                large(most)


if __name__ == "__main__":
    main()
