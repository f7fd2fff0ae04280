"""Running a campaign through Dagster, in this process: the same jobs that the UI and the sensors launch."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.campaign import Campaign
from lakehouse.errors import LakehouseError, UsageError
from lakehouse.images.partition import unfinished
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import latest_release
from lakehouse.metadata.partitions import Plan, load_plan
from lakehouse.metadata.state import STEPS, steps_to_do
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import Version
from lakehouse.sources import open_source, source_name_of

_OWNER = ".dagster/lakehouse_owner"  # hidden in the UI

if TYPE_CHECKING:
    import dagster as dg


class RunFailed(LakehouseError):
    """A Dagster run failed; `exit_code` is that of the error behind it."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did: the newest version, whether it is new, photos fetched now, partitions that were
    materialized."""

    version: Version
    created: bool
    fetched: int
    partitions: tuple[str, ...]
    release: str


@dataclass(frozen=True, slots=True)
class PartlyBuilt:
    """A build of some taxa only: the partitions asked for, photos fetched now."""

    partitions: tuple[str, ...]
    fetched: int


def dagster_home(root: str) -> Path:
    """Where Dagster keeps the runs of the lake at `root`: DAGSTER_HOME if set, else `dagster/` in a local
    lake, else `.dagster/` here."""
    chosen = os.environ.get("DAGSTER_HOME")
    return Path(chosen or (".dagster" if "://" in root else f"{root}/dagster")).expanduser()


def prepare_home(lake: Lake) -> Path:
    """Make DAGSTER_HOME with the project's `dagster.yaml` (kept if it is there already) and point this
    process at it."""
    home = dagster_home(lake.root).absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copy(Path(__file__).parents[2] / "dagster.yaml", home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["LAKEHOUSE_ROOT"] = lake.root
    return home


def prepare(lake: Lake, campaign: Campaign, *, refresh: bool) -> None:
    """Bring metadata and plan up to date: from the newest dump if `refresh` or if there is none, else from
    the lake's."""
    if not refresh and not steps_to_do(lake, campaign, source_name_of(campaign.source)):
        return
    with _session(lake, campaign) as session:
        session.prepare(refresh)


def build(
    lake: Lake,
    campaign: Campaign,
    *,
    refresh: bool = False,
    taxa: Sequence[str] = (),
    accept_shrink: bool = False,
) -> Built | PartlyBuilt:
    """Materialize what is not up to date; without a snapshot if only some taxa were asked for and others are
    still to be built. With `accept_shrink` a new dump is taken in even if its tables lost rows.

    Raises
    ------
    RunFailed
        A run failed; everything that was done is kept, and the next build goes on from there.
    """
    with _session(lake, campaign) as session:
        session.prepare(refresh, accept_shrink)
        plan = load_plan(lake, campaign.name)
        keys = _chosen([partition.key for partition in plan.partitions], taxa)
        before = refs.latest(lake, campaign.name)
        events = session.build_taxa(plan, keys)
        fetched = sum(int(_number(event.metadata.get("fetched now"))) for event in events)
        if keys and not session.complete(plan):
            return PartlyBuilt(tuple(keys), fetched)
        session.describe()
        version = refs.resolve(lake, f"{campaign.name}@latest")
        return Built(
            version=version,
            created=before is None or before.snapshot_id != version.snapshot_id,
            fetched=fetched,
            partitions=tuple(sorted({event.partition for event in events if event.partition})),
            release=plan.release,
        )


def publish(lake: Lake, campaign: Campaign) -> None:
    """Materialize the newest version's catalogue entry, and before it what it shows."""
    with _session(lake, campaign) as session:
        from assets.campaign import described_by

        names = described_by(campaign, lake.settings)
        session.run("snapshot", assets=[f"{session.group}/{asset}" for asset in names])


@contextmanager
def _session(lake: Lake, campaign: Campaign) -> Iterator[_Session]:
    prepare_home(lake)
    # Dagster takes seconds to import; commands that only read the lake never do.
    import dagster as dg

    from lakehouse.definitions import build_definitions

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    # Dagster builds some definitions when a run asks for them, so its warnings come at any time.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    definitions = build_definitions([campaign], lake.settings.model_copy(update={"root": lake.root}))
    with _alive() as owner, dg.DagsterInstance.get() as instance:
        _bury_dead(instance)
        yield _Session(lake, campaign, definitions, instance, owner)


@contextmanager
def _alive() -> Iterator[str]:
    """A name for this process, with a lock that its death releases, however it comes."""
    folder = dagster_home(os.environ["LAKEHOUSE_ROOT"]).absolute() / "owners"
    folder.mkdir(exist_ok=True)
    path = folder / uuid.uuid4().hex
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield path.name
        finally:
            path.unlink(missing_ok=True)


def _bury_dead(instance: dg.DagsterInstance) -> None:
    """Say of runs whose process was killed that they failed, and give back their places in the pools.

    The daemon looks after the runs that it started; of those made by a command nobody else knows.
    """
    import dagster as dg

    left = dg.RunsFilter(tags={"launched_by": "lakehouse"}, statuses=[dg.DagsterRunStatus.STARTED])
    for run in instance.get_runs(left):
        path = dagster_home(os.environ["LAKEHOUSE_ROOT"]).absolute() / "owners" / run.tags.get(_OWNER, "-")
        try:
            with path.open("r+") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            continue  # its process lives
        instance.report_run_failed(run, "the process of this run ended before the run did")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted (`runs`), what is `kept`, and the bytes of the instance's files before and after."""

    runs: int
    kept: int
    bytes_before: int
    bytes_after: int


def prune(lake: Lake, keep_days: float) -> Pruned:
    """Delete finished runs older than `keep_days` with their logs and events, except those that the newest
    materialization of an asset or partition, or the newest result of a check, comes from.

    What an asset is, which partitions are materialized and what its checks say stays as it was; its history
    gets shorter.
    """
    home = prepare_home(lake)
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        before = _size(home)
        needed = _needed_runs(instance)
        deadline = datetime.now(UTC) - timedelta(days=keep_days)
        finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
        old = instance.get_run_records(dg.RunsFilter(statuses=finished, created_before=deadline))
        runs = [record.dagster_run.run_id for record in old]
        chosen = [run for run in runs if run not in needed]
        for run in chosen:
            instance.delete_run(run)
        _delete_check_results(instance, chosen)
        kept = instance.get_runs_count()
    for file in home.rglob("*.db"):
        with sqlite3.connect(file, timeout=60) as connection:
            connection.execute("VACUUM")
        connection.close()
    return Pruned(len(chosen), kept, before, _size(home))


def _needed_runs(instance: dg.DagsterInstance) -> set[str]:
    import dagster as dg

    needed = set()
    storage = instance.event_log_storage
    for key in instance.all_asset_keys():
        ids = set(
            storage.get_latest_storage_id_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION
            ).values()
        )
        cursor = None
        while ids:
            page = instance.fetch_materializations(key, limit=1000, cursor=cursor)
            needed |= {record.run_id for record in page.records if record.storage_id in ids}
            ids -= {record.storage_id for record in page.records}
            cursor = page.cursor
            if not page.has_more:
                break
        newest = instance.get_latest_materialization_event(key)
        if newest:
            needed.add(newest.run_id)
    return needed | _runs_of_newest_checks(instance)


def _runs_of_newest_checks(instance: dg.DagsterInstance) -> set[str]:
    import sqlalchemy as sql
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable

    row = AssetCheckExecutionsTable.c
    newest = (
        sql.select(sql.func.max(row.id))
        .where(row.evaluation_event.is_not(None))
        .group_by(row.asset_key, row.check_name, row.partition)
    )
    with _sql_storage(instance).index_connection() as connection:
        return set(connection.execute(sql.select(row.run_id).where(row.id.in_(newest))).scalars())


def _delete_check_results(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    """Dagster deletes the events of a run, but not its rows in the table of check results."""
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable

    with _sql_storage(instance).index_connection() as connection:
        for run in run_ids:
            rows = AssetCheckExecutionsTable.c.run_id == run
            connection.execute(AssetCheckExecutionsTable.delete().where(rows))


def _sql_storage(instance: dg.DagsterInstance) -> Any:
    """The storage with its tables: SQLite's, PostgreSQL's and MySQL's have the same."""
    return instance.event_log_storage


def _size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


class _Session:
    """One campaign's jobs on one Dagster instance."""

    def __init__(
        self,
        lake: Lake,
        campaign: Campaign,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        owner: str,
    ) -> None:
        self.lake, self.campaign, self.definitions, self.instance = lake, campaign, definitions, instance
        self.owner = owner
        self.group = campaign.name.replace("-", "_")
        self.source = source_name_of(campaign.source)

    def prepare(self, refresh: bool, accept_shrink: bool = False) -> None:
        """Materialize the shared assets and the plan, from the first one that is missing or out of date."""
        steps = steps_to_do(self.lake, self.campaign, self.source)
        if refresh and self._dump_is_new():
            steps = STEPS
        source = self.source.replace("-", "_")
        assets = {
            "raw": [f"{source}/raw_{table}" for table in ("observations", "observers", "photos", "taxa")],
            "taxa": [f"{source}/taxa"],
            "photos": [f"{source}/photos"],
            "plan": [f"{self.group}/plan"],
        }
        if steps:
            config = {"ops": {f"{source}_raw": {"config": {"accept_shrink": accept_shrink}}}}
            self.run(
                "prepare",
                config if "raw" in steps else None,
                [asset for step in steps for asset in assets[step]],
            )

    def _dump_is_new(self) -> bool:
        with open_source(self.campaign.source, self.lake) as source:
            return source.current_release().release_id != latest_release(self.lake, self.source)

    def build_taxa(self, plan: Plan, keys: Sequence[str]) -> list[dg.AssetMaterialization]:
        """Build the named partitions, or those that are not up to date."""
        if not keys and self.complete(plan):
            return []
        op = f"{self.group}_build_taxa"
        return self.run("taxa", {"ops": {op: {"config": {"partitions": list(keys)}}}})

    def complete(self, plan: Plan) -> bool:
        """Whether every partition of the plan is up to date."""
        return not unfinished(self.lake, self.campaign, plan)

    def describe(self) -> None:
        """Make the next version if anything changed, and what does not describe the newest one yet."""
        from assets.campaign import snapshot_to_do

        names = snapshot_to_do(self.instance, self.lake, self.campaign, self.lake.settings)
        if "snapshot" in names:
            self.run("snapshot")
        elif names:
            self.run("snapshot", assets=[f"{self.group}/{name}" for name in names])

    def run(
        self, phase: str, config: dict[str, Any] | None = None, assets: Sequence[str] | None = None
    ) -> list[dg.AssetMaterialization]:
        """Run one of the campaign's jobs here; returns what it materialized, raises RunFailed with the
        first reason."""
        import dagster as dg

        job = self.definitions.resolve_job_def(f"{self.group}_{phase}")
        selection = None if assets is None else [dg.AssetKey(asset.split("/")) for asset in assets]
        result = job.execute_in_process(
            instance=self.instance,
            run_config={**(config or {}), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            asset_selection=selection,
            raise_on_error=False,
            tags={"launched_by": "lakehouse", _OWNER: self.owner},
        )
        if not result.success:
            raise _explained(result)
        return [
            event.step_materialization_data.materialization
            for event in result.all_events
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
        ]


def _explained(result: dg.ExecuteInProcessResult) -> RunFailed:
    import dagster as dg

    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            if found.blocking and not found.passed and found.severity == dg.AssetCheckSeverity.ERROR:
                said = (found.description or "the check failed").rstrip(".")
                return RunFailed(
                    f"{found.asset_key.to_user_string()}: {said}; so nothing is built on it (check "
                    f"{found.check_name}; lakehouse ui shows it)"
                )
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                code = 2 if _is_campaign_error(data.error) else 1
                return RunFailed(data.user_failure_data.description, code)
            error = data.error
            while error and error.cause:
                error = error.cause
            return RunFailed(
                f"{event.step_key} failed: {error.message.strip() if error else 'no reason given'}; "
                "this is a fault of the program: lakehouse ui shows where"
            )
    return RunFailed("the run failed before its first step; look at it with lakehouse ui")


def _is_campaign_error(error: Any) -> bool:
    while error is not None:
        if error.cls_name in {"CampaignError", "UsageError"}:
            return True
        error = error.cause
    return False


def _chosen(keys: Sequence[str], taxa: Sequence[str]) -> list[str]:
    """The partitions that `--taxon` names: by key, by taxon id, or by the name in the key."""
    chosen: list[str] = []
    for taxon in taxa:
        slug = taxon.strip().lower().replace(" ", "-")
        found = [
            key
            for key in keys
            if key == slug or key.rpartition("-")[2] == slug or key.rpartition("-")[0] == slug
        ]
        if not found:
            raise UsageError(
                f"--taxon {taxon}: the campaign has no such partition; it has {', '.join(keys[:40])}"
            )
        chosen += found
    return chosen


def _number(value: Any) -> float:
    return float(value.value) if value is not None else 0.0
