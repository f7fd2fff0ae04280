"""The demo: a small lake from an embedded source, one month forward, and what changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.campaign import Campaign, load_campaign
from lakehouse.cli import runs
from lakehouse.cli.campaigns import show_summary, summarize
from lakehouse.cli.output import Json, bars, emit, out, say
from lakehouse.cli.versions import show_diff
from lakehouse.demo.bucket import current_month, write_bucket
from lakehouse.lake import open_lake
from lakehouse.progress import task
from lakehouse.settings import load_settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.diff import diff, removal_lists
from lakehouse.sources import embedded_directory


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(demo)


def demo(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The lake; LAKEHOUSE_ROOT if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a small dataset offline, let one month pass, refresh it, and compare the two versions."""
    started = time.monotonic()
    lake, campaign = open_lake(str(directory) if directory else None), _campaign()
    bucket = embedded_directory(lake)
    first_visit = current_month(bucket) is None
    with bars(as_json):
        if first_visit:
            _write_month(bucket, 1)
        built = runs.build(lake, campaign)
    assert isinstance(built, runs.Built)
    first = summarize(lake, campaign, built, time.monotonic() - started)
    if not as_json:
        show_summary(first)
    if current_month(bucket) == 1:
        if not as_json:
            out.print(
                "\n[bold]one month later[/] the source serves a new dump: photos came, went and changed"
            )
        with bars(as_json):
            _write_month(bucket, 2)
    refreshed = time.monotonic()
    with bars(as_json):
        built = runs.build(lake, campaign, refresh=True)
    assert isinstance(built, runs.Built)
    second = summarize(lake, campaign, built, time.monotonic() - refreshed)
    before, *later = refs.versions(lake, campaign.name)
    after = later[0] if later else before
    with lake.connect() as connection:
        old, new = (refs.read_root(lake, version.snapshot_id) for version in (before, after))
        changes = diff(connection, lake, old, new, removal_lists(lake, before, after))
    if as_json:
        emit(
            {
                "first": first,
                "second": second,
                "diff": changes.totals,
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        return
    show_summary(second)
    show_diff(before.ref, after.ref, changes)
    where = "" if directory is None else f"LAKEHOUSE_ROOT={directory} "
    say(
        "done in {seconds} s. Next:\n"
        "  [bold]{where}make ui[/]   look at runs, partitions, checks and pictures\n"
        "  [bold]{where}.venv/bin/lakehouse show {name}@latest[/]   describe the newest version\n"
        "  [bold]{where}.venv/bin/lakehouse export {name}@latest out[/]   a dataset to train on",
        seconds=f"{time.monotonic() - started:.0f}",
        where=where,
        name=campaign.name,
    )


def _write_month(bucket: Path, month: int) -> None:
    with task(f"drawing month {month} of the embedded source", unit="photo") as progress:
        write_bucket(bucket, month, progress=lambda done, total: progress.advance(0, f"{done} of {total}"))


def _campaign() -> Campaign:
    ours = load_settings().campaigns / "demo.yaml"
    return load_campaign(ours if ours.exists() else Path(__file__).parents[2] / "campaigns" / "demo.yaml")
