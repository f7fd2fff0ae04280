"""Commands on a campaign: plan, build, refresh, publish, withdraw."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lakehouse.campaign import Campaign, load_campaign, load_campaigns
from lakehouse.catalog import ckan, huggingface
from lakehouse.catalog.publish import outlets
from lakehouse.cli import runs
from lakehouse.cli.output import Json, bars, by_size, emit, facts, human_bytes, human_time, out, say, table
from lakehouse.errors import CampaignError, UsageError
from lakehouse.images.estimate import estimate
from lakehouse.lake import Lake, open_lake
from lakehouse.metadata.names import report_counts, report_key
from lakehouse.metadata.partitions import load_plan
from lakehouse.metadata.selection import preview
from lakehouse.settings import load_settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.read import Snapshot, catalog_folder
from lakehouse.sources import source_name_of

CampaignFile = Annotated[
    Path, typer.Argument(metavar="CAMPAIGN", help="A campaign file, or the name of one in campaigns/.")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (plan, build, refresh, publish, withdraw):
        app.command()(command)


def find_campaign(path: Path) -> Campaign:
    """The campaign in the file `path`, or the one of that name in LAKEHOUSE_CAMPAIGNS."""
    if path.suffix or path.is_file():
        return load_campaign(path)
    folder = load_settings().campaigns
    files = [*folder.glob(f"{path}.yaml"), *folder.glob(f"{path}.yml")]
    if files:
        return load_campaign(files[0])
    campaigns = load_campaigns(folder)
    if str(path) not in campaigns:
        there = ", ".join(campaigns) or "none"
        raise CampaignError(f"'{path}' is neither a file nor a campaign in {folder} (there: {there})")
    return campaigns[str(path)]


def plan(campaign: CampaignFile, as_json: Json = False) -> None:
    """Before any photo is fetched: photos, labels, licences, long tail, partitions, bytes and time."""
    chosen, lake = find_campaign(campaign), open_lake()
    with bars(as_json):
        runs.prepare(lake, chosen, refresh=False)
        made = load_plan(lake, chosen.name)
        with lake.connect() as connection:
            seen = preview(lake, chosen, made, connection)
    taxa = report_counts(lake, chosen.name) if chosen.taxa_file else {}
    guess = estimate(lake, source_name_of(chosen.source), chosen.image, seen.photos)
    document = {
        "campaign": chosen.name,
        "release": made.release,
        "taxa": taxa,
        "photos": seen.photos,
        "labels": len(seen.labels),
        "licenses": seen.licenses,
        "label_counts": {label.label: label.photos for label in seen.labels},
        "excluded": seen.excluded,
        "partitions": {partition.key: partition.photos for partition in made.partitions},
        "estimated_bytes": guess.bytes,
        "estimated_seconds": guess.seconds,
        "estimate_basis": guess.basis,
    }
    if as_json:
        emit(document)
        return
    say("[bold]{title}[/]", title=chosen.title)
    facts(
        {
            "release": made.release,
            **({"taxa": f"{_counted(taxa)}; see {lake.uri(report_key(chosen.name))}"} if taxa else {}),
            "photos": seen.photos,
            "labels": len(seen.labels),
            "partitions": len(made.partitions),
            "bytes": f"about {human_bytes(guess.bytes)} ({guess.basis})",
            "time": f"about {human_time(guess.seconds)} at 100 Mbit/s",
        }
    )
    table("licences", ("licence", "photos"), by_size(seen.licenses))
    table("left out", ("rule", "photos"), seen.excluded.items())
    counts = [(label.label, label.photos) for label in seen.labels]
    shown = counts if len(counts) <= 20 else [*counts[:12], ("…", ""), *counts[-7:]]
    table("long tail", (chosen.label, "photos"), shown)
    say("next: [bold]lakehouse build {path}[/]", path=campaign)


def _counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items())


def build(
    campaign: CampaignFile,
    taxon: Annotated[
        list[str] | None, typer.Option(help="Build only this partition (key, id or name); may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Materialize the campaign through Dagster; resumes, and does only what changed."""
    _build(campaign, refresh=False, taxa=taxon or [], as_json=as_json)


def refresh(
    campaign: CampaignFile,
    accept_shrink: Annotated[
        bool, typer.Option("--accept-shrink", help="Take in a dump whose tables lost many rows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take in a new dump if there is one, then build."""
    _build(campaign, refresh=True, taxa=[], as_json=as_json, accept_shrink=accept_shrink)


def publish(
    ref: Annotated[str, typer.Argument(help="The newest version of a campaign, name@latest.")],
    campaign: Annotated[Path | None, typer.Option(help="Its file, if it is not in campaigns/.")] = None,
    forget_earlier: Annotated[
        bool,
        typer.Option("--forget-earlier", help="Then delete every earlier version from the Hub, for good."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create or update the version's entries wherever the campaign says: CKAN, Hugging Face."""
    lake, settings = open_lake(to_read=True), load_settings()
    version = refs.resolve(lake, ref)
    newest = refs.resolve(lake, f"{version.campaign}@latest")
    if version != newest:
        raise UsageError(f"{ref} is not the newest version; the catalogue shows {newest.ref}")
    chosen = find_campaign(campaign or Path(version.campaign))
    found, hub = outlets(chosen, settings), chosen.publish.huggingface
    if not found:
        raise UsageError(
            f"{chosen.path}: nothing to publish to; add publish: {{ckan: {{organization: ...}}}} or "
            "{huggingface: {repo: ...}}"
        )
    if not found.get("ckan_entry", True):
        raise UsageError("set LAKEHOUSE_CKAN_URL and LAKEHOUSE_CKAN_TOKEN to publish to CKAN")
    if not found.get("huggingface", True):
        raise UsageError("set HF_TOKEN to publish to Hugging Face")
    if forget_earlier and hub is None:
        raise UsageError(f"{chosen.path}: --forget-earlier needs publish: {{huggingface: {{repo: ...}}}}")
    pages: dict[str, str] = {}
    if chosen.publish.ckan and settings.ckan_url:
        pages["ckan"] = f"{settings.ckan_url.rstrip('/')}/dataset/{version.campaign}"
    if hub:
        pages["huggingface"] = f"{settings.hf_endpoint.rstrip('/')}/datasets/{hub.repo}"
    with bars(as_json):
        runs.publish(lake, chosen)
        forgotten = (
            huggingface.forget_earlier(Snapshot(lake, newest), hub, settings)
            if forget_earlier and hub
            else []
        )
    if as_json:
        gone = [
            {"repo": one.repo, "tags": list(one.tags), "files": one.files, "bytes": one.bytes}
            for one in forgotten
        ]
        emit({"version": version.ref, **pages, **({"forgotten": gone} if forget_earlier else {})})
        return
    for page in pages.values():
        say("published {ref} at {url}", ref=version.ref, url=page)
    for one in forgotten:
        what = f"{len(one.tags)} tags, {one.files} files, {human_bytes(one.bytes)}"
        say("deleted from {repo} for good: {what}", repo=one.repo, what=what)
    if forgotten:
        say("{kept}", kept=huggingface.KEPT)


def _build(path: Path, *, refresh: bool, taxa: list[str], as_json: bool, accept_shrink: bool = False) -> None:
    chosen, lake, started = find_campaign(path), open_lake(), time.monotonic()
    with bars(as_json):
        built = runs.build(lake, chosen, refresh=refresh, taxa=taxa, accept_shrink=accept_shrink)
    if isinstance(built, runs.PartlyBuilt):
        if as_json:
            emit({"version": None, "partitions": built.partitions, "fetched": built.fetched})
        else:
            keys = ", ".join(built.partitions)
            say("built {keys}; next: [bold]lakehouse build {path}[/] for the rest", keys=keys, path=path)
        return
    summary = summarize(lake, chosen, built, time.monotonic() - started)
    if as_json:
        emit(summary)
    else:
        show_summary(summary)
        ref = built.version.ref
        say("next: [bold]lakehouse show {ref}[/], or [bold]lakehouse ui[/] to look around", ref=ref)


def summarize(lake: Lake, campaign: Campaign, built: runs.Built, seconds: float) -> dict[str, Any]:
    """What a build ended in, as one JSON document."""
    root = refs.read_root(lake, built.version.snapshot_id)
    accounting, folder = built.version.accounting, catalog_folder(built.version)
    files = {
        name: lake.uri(f"{folder}/{name}") for name in ("croissant.json", "README.md", "manifest.parquet")
    }
    return {
        "campaign": campaign.name,
        "version": built.version.ref,
        "new": built.created,
        "snapshot_id": built.version.snapshot_id,
        "content_id": root.content_id,
        "release": built.release,
        "photos": root.counts.photos,
        "outcomes": {
            name: accounting.get(name, 0) for name in ("stored", "gone", "failed", "refused", "rejected")
        },
        "accounting": accounting,
        "fetched": built.fetched,
        "partitions_materialized": list(built.partitions),
        "labels": root.counts.labels,
        "observations": root.counts.observations,
        "bytes": root.counts.bytes,
        "splits": root.counts.splits,
        "licenses": root.counts.licenses,
        "changes": built.version.changes,
        "files": {"root": lake.uri(refs.root_key(built.version.snapshot_id)), **files},
        "seconds": round(seconds, 1),
    }


def show_summary(summary: dict[str, Any]) -> None:
    """Print a build's summary for people."""
    state = "new version" if summary["new"] else "nothing new: still"
    out.print(f"[bold green]{state} {summary['version']}[/] in {summary['seconds']} s")
    outcomes = ", ".join(f"{count:,} {name}" for name, count in summary["outcomes"].items())
    total = sum(summary["licenses"].values())
    mix = ", ".join(f"{code} {count / total:.0%}" for code, count in by_size(summary["licenses"]))
    facts(
        {
            "photos": f"{summary['photos']:,} ({outcomes}; {summary['fetched']:,} fetched now)",
            "labels": f"{summary['labels']:,} from {summary['observations']:,} observations",
            "licences": mix,
            "splits": ", ".join(f"{name} {count:,}" for name, count in summary["splits"].items()),
            "bytes": human_bytes(summary["bytes"]),
            "snapshot id": summary["snapshot_id"],
            "content id": summary["content_id"],
            **summary["files"],
        }
    )


def withdraw(
    campaign: Annotated[str, typer.Argument(help="The campaign's name.")], as_json: Json = False
) -> None:
    """Take a campaign's entry out of the catalogue; the lake keeps its versions."""
    there = ckan.withdraw(campaign, load_settings())
    if as_json:
        emit({"campaign": campaign, "withdrawn": there})
    elif there:
        say("{campaign} is no longer in the catalogue", campaign=campaign)
    else:
        say("the catalogue has no entry {campaign}", campaign=campaign)
