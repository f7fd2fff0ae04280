"""Commands on the installation: ui, sql, settings, doctor."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import duckdb
import typer
from pydantic import SecretStr

from lakehouse.campaign import load_campaigns
from lakehouse.cli import runs
from lakehouse.cli.output import Json, emit, facts, human_bytes, table
from lakehouse.errors import LakehouseError, UsageError
from lakehouse.lake import Lake, open_lake
from lakehouse.metadata.ingest import latest_release
from lakehouse.settings import Settings, load_settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.tables import manifest_sql
from lakehouse.sources import open_source


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(ui)
    app.command()(sql)
    app.command(name="settings")(show_settings)
    app.command()(doctor)
    app.command()(prune)


def ui(
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 3000,
    host: Annotated[
        str, typer.Option(help="The address to listen on; Dagster has no login, so keep it local.")
    ] = "127.0.0.1",
) -> None:
    """Open Dagster on this lake (Ctrl-C ends it)."""
    lake = open_lake()
    home = runs.prepare_home(lake)
    settings = load_settings()
    os.environ["LAKEHOUSE_CAMPAIGNS"] = str(settings.campaigns.absolute())
    load_campaigns(settings.campaigns)
    print(f"Dagster on http://{host}:{port} (DAGSTER_HOME={home}); Ctrl-C ends it", flush=True)
    dagster = Path(sys.executable).with_name("dagster")
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    arguments = ["dev", "-w", str(workspace), "-h", host, "-p", str(port)]
    os.execv(dagster, [str(dagster), *arguments])


def prune(
    keep_days: Annotated[float, typer.Option(help="Days; younger runs stay.", min=0)] = 90,
    as_json: Json = False,
) -> None:
    """Delete old runs from Dagster's log; what assets and partitions are stays as it is."""
    found = runs.prune(open_lake(), keep_days)
    if as_json:
        emit(asdict(found))
        return
    facts(
        {
            "runs deleted": found.runs,
            "runs kept": found.kept,
            "before": human_bytes(found.bytes_before),
            "after": human_bytes(found.bytes_after),
        }
    )


def sql(
    query: Annotated[str | None, typer.Argument(help="One query; without it, the views are listed.")] = None,
    as_json: Json = False,
) -> None:
    """Query the lake with DuckDB: taxa, photos and the newest manifest of each campaign are views."""
    lake = open_lake(to_read=True)
    with lake.connect() as connection:
        views = _create_views(connection, lake)
        if query is None:
            if as_json:
                emit(views)
            else:
                table("views", ("view", "what"), views.items())
            return
        try:
            result = connection.execute(query)
            names = [column[0] for column in result.description or []]
            rows = result.fetchmany(1000)
        except duckdb.Error as error:
            raise UsageError(f"the query failed: {str(error).splitlines()[0]}") from None
    if as_json:
        emit([dict(zip(names, row, strict=True)) for row in rows])
    else:
        table("", names, rows, grouped=False)  # most whole numbers of a query are ids


def show_settings(as_json: Json = False) -> None:
    """Show the settings in force, secrets masked."""
    settings = load_settings()
    if "://" in settings.root:
        open_lake(settings=settings)  # nothing is made there, but a wrong scheme is told
    values = {_variable(name): _masked(getattr(settings, name)) for name in Settings.model_fields}
    values["DAGSTER_HOME"] = str(runs.dagster_home(settings.root).absolute())
    if as_json:
        emit(values)
    else:
        facts({name: "" if value is None else value for name, value in values.items()})


def doctor(as_json: Json = False) -> int:
    """Check that lake, sources and campaigns can be reached and read."""
    settings = load_settings()
    checks: list[tuple[str, bool, str]] = []

    def check(name: str, what: Any) -> Any:
        try:
            value, text = what()
        except LakehouseError as error:
            checks.append((name, False, str(error)))
            return None
        checks.append((name, True, text))
        return value

    lake = check("lake", lambda: _try_lake(settings))
    campaigns = check("campaigns", lambda: _try_campaigns(settings)) or {}
    if lake is not None:
        for source in sorted({campaign.source for campaign in campaigns.values()}):
            check(f"source {source}", lambda source=source: _try_source(lake, source))
        for name in lake.folders("refs"):
            check(f"snapshot {name}", lambda name=name: _try_snapshot(lake, name))
    sound = all(good for _, good, _ in checks)
    if as_json:
        emit(
            {
                "sound": sound,
                "checks": [{"check": name, "ok": good, "says": text} for name, good, text in checks],
            }
        )
    else:
        table(
            "",
            ("check", "", "says"),
            [(name, "ok" if good else "FAILED", text) for name, good, text in checks],
        )
    return 0 if sound else 1


def _try_lake(settings: Settings) -> tuple[Lake, str]:
    lake = open_lake(settings=settings)
    lake.put(".doctor", b"written by lakehouse doctor")
    lake.delete(".doctor")
    free = f", {shutil.disk_usage(lake.path).free / 1e9:.0f} GB free" if lake.is_local else ""
    return lake, f"{lake.root} can be written{free}"


def _try_campaigns(settings: Settings) -> tuple[dict[str, Any], str]:
    found = load_campaigns(settings.campaigns)
    return found, f"{len(found)} in {settings.campaigns}: {', '.join(found)}"


def _try_source(lake: Lake, name: str) -> tuple[None, str]:
    with open_source(name, lake) as source:
        release = source.current_release()
    size = sum(part.size for part in release.tables)
    return None, f"serves {release.release_id}, {human_bytes(size)} of tables"


def _try_snapshot(lake: Lake, name: str) -> tuple[None, str]:
    version = refs.resolve(lake, f"{name}@latest")
    root = refs.read_root(lake, version.snapshot_id)
    return (
        None,
        f"{version.ref}: {root.counts.photos:,} photos; lakehouse verify {version.ref} checks every byte",
    )


def _create_views(connection: duckdb.DuckDBPyConnection, lake: Lake) -> dict[str, str]:
    """Views over the newest tables of each source and the newest manifest of each campaign."""
    views: dict[str, str] = {}
    for source in lake.folders("tables"):
        release = latest_release(lake, source)
        for name, pattern in (("taxa", "taxa.parquet"), ("photos", "photos/part-*.parquet")):
            place = f"{lake.root}/tables/{source}/{release}/{pattern}".replace("'", "''")
            view = f"{source.replace('-', '_')}_{name}"
            connection.execute(f"CREATE VIEW \"{view}\" AS SELECT * FROM read_parquet('{place}')")
            views[view] = f"{name} of {source}, release {release}"
    for campaign in lake.folders("refs"):
        version = refs.resolve(lake, f"{campaign}@latest")
        root = refs.read_root(lake, version.snapshot_id)
        view = f"{campaign.replace('-', '_')}_manifest"
        connection.execute(f'CREATE VIEW "{view}" AS {manifest_sql(lake, root)}')
        views[view] = f"every photo of {version.ref}"
    return views


def _variable(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return str(alias) if alias else f"LAKEHOUSE_{name.upper()}"


def _masked(value: Any) -> str | None:
    if value is None:
        return None
    return "********" if isinstance(value, SecretStr) else str(value)
