"""Commands that take back, tidy up and look for copies: remove, gc, compact, duplicates."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.campaign import load_campaigns
from lakehouse.catalog.publish import describe_again, renew_entries
from lakehouse.cli import runs
from lakehouse.cli.output import Json, bars, emit, facts, human_bytes, out, say, table
from lakehouse.errors import UsageError
from lakehouse.lake import open_lake
from lakehouse.snapshots import housekeeping, refs, removal
from lakehouse.snapshots.duplicates import FLAGS
from lakehouse.snapshots.duplicates import duplicates as find_duplicates
from lakehouse.snapshots.near import DISTANCE
from lakehouse.snapshots.read import Snapshot
from lakehouse.tombstones import Reason


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (remove, gc, compact, duplicates):
        app.command()(command)


def remove(
    photos: Annotated[
        Path | None,
        typer.Option(help="CSV or text with a header photo_id and maybe reason; without it, go on."),
    ] = None,
    reason: Annotated[str, typer.Option(help="legal or privacy, for lines that give none.")] = "legal",
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without, only what would be done is told.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take photos back for good: out of every version, shard and table, with successors."""
    if reason not in ("legal", "privacy"):
        raise UsageError(f"--reason {reason}: give legal or privacy")
    lake = open_lake(to_read=True)
    chosen: Reason = "legal" if reason == "legal" else "privacy"
    requests = removal.read_requests(photos, chosen) if photos else []
    todo, left = removal.pending(lake, requests), removal.unfinished(lake)
    if photos is None and not left:
        raise UsageError("nothing was interrupted; name the photos to take back with --photos FILE")
    if not yes:
        if as_json:
            emit({"done": False, "pending": [asdict(one) for one in todo], "unfinished": left})
        else:
            say(
                "{n} photos would be taken back, for good ({left} of an interrupted removal)",
                n=len(todo),
                left=left,
            )
            say("this cannot be undone; do it with [bold]--yes[/]")
        return
    # Before anything is done: a campaign file that cannot be read is told while nothing is changed.
    campaigns = load_campaigns(lake.settings.campaigns)
    # It comes with Dagster, which takes seconds to import.
    from resources.events import purge_events

    with bars(as_json):
        report = removal.remove(lake, requests, forget=partial(purge_events, runs.dagster_home(lake.root)))
        described = describe_again(lake, campaigns)
    if as_json:
        emit({"done": True, **asdict(report), "described": described})
        renew_entries(lake, report.campaigns, campaigns, lake.settings)
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in report.photos.items()) or "none"
    say("[bold green]taken back[/]: {counts}", counts=counts)
    facts(
        {
            "copies among them": report.copies,
            "taken back before": report.already,
            "not in the lake": len(report.unknown),
            "photographers": report.photographers,
            "shards rewritten": report.shards,
            "tables rewritten": report.tables,
            "events of Dagster rewritten": report.events,
            "deleted": f"{report.objects} objects, {human_bytes(report.bytes)}",
        }
    )
    rows = [(ref, old[:12], new[:12]) for ref, (old, new) in report.versions.items()]
    if rows:
        table("versions", ("version", "was", "is"), rows)
    for name in renew_entries(lake, report.campaigns, campaigns, lake.settings):
        say("the CKAN entry of {name} says so too", name=name)
    say("tell those who have copies; exports and backups of this lake are not reached")
    say("on the Hugging Face Hub: [bold]lakehouse publish NAME@latest --forget-earlier[/]")


def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete; without, only what would go is told.")
    ] = False,
    grace: Annotated[
        float, typer.Option(help="Days; what is younger stays.", min=0)
    ] = housekeeping.GRACE.days,
    as_json: Json = False,
) -> None:
    """Delete what no version reaches; first, without --delete, say what that is."""
    lake = open_lake(to_read=True)
    with bars(as_json):
        found = housekeeping.gc(lake, dry_run=not delete, grace=timedelta(days=grace))
    if as_json:
        emit(asdict(found))
        return
    verb = "deleted" if delete else "would delete"
    say(
        "{verb} {n} objects, {size}; {young} are younger than {days:g} days and stay".replace(
            "{days:g}", f"{grace:g}"
        ),
        verb=verb,
        n=len(found.deleted),
        size=human_bytes(found.bytes),
        young=found.young,
    )
    for key in found.deleted[:20]:
        out.print(f"  {key}", markup=False, soft_wrap=True)
    if len(found.deleted) > 20:
        say("  … and {n} more (--json lists all)", n=len(found.deleted) - 20)


def compact(
    below: Annotated[
        int, typer.Option(help="Shards with fewer photos than this are merged.", min=2)
    ] = housekeeping.SHARD_PHOTOS // 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be merged.")] = False,
    as_json: Json = False,
) -> None:
    """Merge small shards; the next version names the merged ones, older versions stay as they are."""
    lake = open_lake(to_read=True)
    with bars(as_json):
        done = housekeeping.compact(lake, below=below, dry_run=dry_run)
    if as_json:
        emit(asdict(done))
        return
    verb = "would merge" if dry_run else "merged"
    say(
        "{verb} {a} shards into {b}: {n} photos, {size}",
        verb=verb,
        a=done.merged,
        b=done.made,
        n=f"{done.photos:,}",
        size=human_bytes(done.bytes),
    )


def duplicates(
    ref: Annotated[str, typer.Argument(metavar="REF", help="name@v3, name@latest, or a snapshot id.")],
    distance: Annotated[
        int, typer.Option(help="Bits by which the hashes of near copies may differ.", min=0, max=8)
    ] = DISTANCE,
    as_json: Json = False,
) -> None:
    """List pictures that a version has more than once: same bytes, or alike; across splits and labels."""
    lake = open_lake(to_read=True)
    snapshot = Snapshot(lake, refs.resolve(lake, ref))
    with bars(as_json), lake.connect() as connection:
        found = find_duplicates(connection, lake, snapshot.root, distance=distance)
    if as_json:
        rows = found.table.to_dicts()
        emit({"version": snapshot.version.ref, "distance": distance, "counts": found.counts, "rows": rows})
        return
    columns = ("groups", "photos", *FLAGS)
    table(
        snapshot.version.ref,
        ("copies", *(name.replace("_", " ") for name in columns)),
        [(kind, *(counts[name] for name in columns)) for kind, counts in found.counts.items()],
    )
    told = found.table.head(30)
    if told.height:
        table(
            "the first of them" if told.height < found.table.height else "",
            ("kind", "group", "photo", "distance", "label", "split"),
            told.select("kind", "group", "photo_id", "distance", "label", "split").iter_rows(),
        )
