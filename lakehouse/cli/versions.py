"""Commands on versions: snapshots, show, diff, verify, export, site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakehouse.catalog.bundle import export_dataset
from lakehouse.catalog.site import build_site
from lakehouse.cli.output import Json, bars, by_size, emit, facts, human_bytes, out, say, table
from lakehouse.errors import NotFoundError
from lakehouse.lake import open_lake
from lakehouse.snapshots import diff as diffs
from lakehouse.snapshots import refs
from lakehouse.snapshots import trace as tracing
from lakehouse.snapshots import verify as verification
from lakehouse.snapshots.export import Format
from lakehouse.snapshots.model import fates
from lakehouse.snapshots.read import Snapshot, catalog_folder

Ref = Annotated[str, typer.Argument(metavar="REF", help="name@v3, name@latest, or a snapshot id.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (snapshots, show, diff, verify, trace, export, site):
        app.command()(command)


def snapshots(
    campaign: Annotated[str, typer.Argument(help="The campaign's name.")], as_json: Json = False
) -> None:
    """List a campaign's versions."""
    lake = open_lake(to_read=True)
    found = refs.versions(lake, Path(campaign).stem if campaign.endswith((".yaml", ".yml")) else campaign)
    if not found:
        known = ", ".join(lake.folders("refs")) or "none"
        raise NotFoundError(
            f"{campaign!r} has no version in {lake.root} (campaigns there: {known}); build it first"
        )
    rows = [(version, refs.read_root(lake, version.snapshot_id).counts) for version in found]
    if as_json:
        emit([{**version.model_dump(mode="json"), "counts": counts.model_dump()} for version, counts in rows])
        return
    table(
        found[-1].about.title,
        ("version", "made", "photos", "labels", "bytes", "changes", "snapshot"),
        [
            (
                version.ref,
                version.created_at,
                counts.photos,
                counts.labels,
                human_bytes(counts.bytes),
                ", ".join(f"{kind} {count:,}" for kind, count in version.changes.items() if count) or "none",
                version.snapshot_id[:12],
            )
            for version, counts in rows
        ],
    )


def show(ref: Ref, as_json: Json = False) -> None:
    """Describe one version; the id of a snapshot that was withdrawn leads to its successor."""
    lake = open_lake(to_read=True)
    if gone := refs.withdrawal(lake, ref):
        if as_json:
            emit({"withdrawn": gone.model_dump(mode="json")})
        else:
            say("{sentence}", sentence=gone.sentence)
        return
    snapshot = Snapshot(lake, refs.resolve(lake, ref))
    version, root = snapshot.version, snapshot.root
    folder = catalog_folder(version)
    files = {
        name: lake.uri(f"{folder}/{name}")
        for name in ("croissant.json", "README.md")
        if lake.exists(f"{folder}/{name}")
    }
    if as_json:
        emit(
            {"version": version.model_dump(mode="json"), "root": root.model_dump(mode="json"), "files": files}
        )
        return
    counts = root.counts
    say("[bold]{ref}[/]  {title}", ref=version.ref, title=version.about.title)
    facts(
        {
            "snapshot id": version.snapshot_id,
            "content id": root.content_id,
            "made": version.created_at,
            "from": f"{root.inputs.source} {root.inputs.release}",
            "change": ", ".join(version.kinds),
            **({"was before photos were taken back": ", ".join(version.redacts)} if version.redacts else {}),
            "photos": counts.photos,
            "labels": counts.labels,
            "observations": counts.observations,
            "bytes": human_bytes(counts.bytes),
            "shards": len(root.shards),
            **files,
        }
    )
    table(
        "splits",
        ("split", "photos", "labels"),
        [(split, photos, version.label_splits.get(split, "")) for split, photos in counts.splits.items()],
    )
    table("licences", ("licence", "photos"), by_size(counts.licenses))
    table("every photo considered", ("fate", "photos"), fates(version.accounting))


def diff(
    old: Annotated[str, typer.Argument(metavar="REF", help="The earlier version.")],
    new: Annotated[str, typer.Argument(metavar="REF", help="The later version.")],
    as_json: Json = False,
) -> None:
    """Compare two versions photo by photo."""
    lake = open_lake(to_read=True)
    withdrawn = {ref: gone for ref in (old, new) if (gone := refs.withdrawal(lake, ref))}
    before, after = (
        refs.resolve(lake, withdrawn[ref].successor if ref in withdrawn else ref) for ref in (old, new)
    )
    roots = refs.read_root(lake, before.snapshot_id), refs.read_root(lake, after.snapshot_id)
    lists = diffs.removal_lists(lake, before, after)
    with lake.connect() as connection:
        found = diffs.diff(connection, lake, *roots, lists)
        rows = (
            [
                row
                for batch in diffs.changed_rows(connection, lake, *roots, lists)
                for row in batch.to_pylist()
            ]
            if as_json
            else []
        )
    # Of a withdrawn snapshot the successor is compared; what was taken out of it is known by number only.
    legal = sum(withdrawn[old].removed.values()) if old in withdrawn else 0
    removed = {**found.removed, "legal": found.removed["legal"] + legal}
    if as_json:
        labels = [{name: getattr(label, name) for name in label.__slots__} for label in found.labels]
        emit(
            {
                "from": before.ref,
                "to": after.ref,
                "totals": found.totals,
                "unchanged": found.unchanged,
                "removed": removed,
                "reasons": found.reasons,
                "withdrawn": {ref: gone.model_dump(mode="json") for ref, gone in withdrawn.items()},
                "labels": labels,
                "rows": rows,
            }
        )
        return
    for gone in withdrawn.values():
        say("{sentence}", sentence=gone.sentence)
    show_diff(before.ref, after.ref, found, removed)


def show_diff(before: str, after: str, found: diffs.Diff, removed: dict[str, int] | None = None) -> None:
    """Print a comparison for people."""
    why = removed or found.removed
    rows: list[tuple[str, int]] = []
    for kind, count in found.totals.items():
        rows.append((kind, count))
        if kind == "removed":
            rows += [(f"  {reason}", number) for reason, number in why.items() if number]
    table(f"{before} → {after}", ("change", "photos"), [*rows, ("unchanged", found.unchanged)])
    if found.labels:
        most = 15
        kinds = ("added", "removed", "relabelled", "moved", "relicensed")
        # A column of zeros takes the names' room.
        counts = ["before", "after", *(kind for kind in kinds if found.totals[kind])]
        table(
            "by label" + (f" (the first {most} of {len(found.labels)})" if len(found.labels) > most else ""),
            ("label", *counts),
            [(label.label, *(getattr(label, count) for count in counts)) for label in found.labels[:most]],
        )


def verify(
    ref: Ref,
    sample: Annotated[
        float, typer.Option(help="Share of the files to read, for example 0.05; the others must be there.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Which files a sample takes.")] = 0,
    as_json: Json = False,
) -> int:
    """Check every byte of a version against its digest, and every count."""
    lake = open_lake(to_read=True)
    with bars(as_json):
        found = verification.verify(lake, ref, sample=sample, seed=seed)
    if as_json:
        names = ("version", "whole", "files", "bytes", "files_total", "sample", "problems")
        emit({name: getattr(found, name) for name in names})
    elif found.whole:
        read = f"{found.files} files" if sample == 1 else f"{found.files} of {found.files_total} files"
        out.print(f"{found.version} is whole: {read}, {human_bytes(found.bytes)}, all as recorded")
    else:
        for problem in found.problems:
            out.print(problem, soft_wrap=True, markup=False)
    return 0 if found.whole else 1


def trace(
    ref: Ref,
    photo: Annotated[int, typer.Argument(metavar="PHOTO", help="The photo's id.")],
    as_json: Json = False,
) -> None:
    """Follow one photograph back: rows of the dump, attempts, shard and offset, bytes verified."""
    found = tracing.trace(open_lake(to_read=True), ref, photo)
    if as_json:
        emit(found.as_json())
        return
    row = found.row
    say("[bold]photo {photo}[/] in {version}", photo=photo, version=found.version)
    facts(
        {
            "label": f"{row['label']} ({row['split']})",
            "licence": f"{row['license']}: {row['attribution']}",
            "photo": row["photo_url"],
            "partition": found.partition,
            "release": f"{found.source} {found.release}",
            "shard": found.shard,
            "offset": f"{row['offset']:,}, {row['size']:,} bytes",
            "sha256": f"{row['sha256']} (read and verified)",
            "snapshot id": found.snapshot_id,
        }
    )
    table(
        "rows of the dump",
        ("table", "row", "line", "file"),
        [
            (raw.table, raw.row, raw.line if raw.line is not None else "", found.sources[raw.table]["file"])
            for raw in found.raw
        ],
    )
    table(
        "attempts",
        ("when", "outcome", "reason", "status"),
        [
            (one["last_at"][:19], one["outcome"], one["reason"], one["http_status"] or "")
            for one in found.attempts
        ],
    )


def export(
    ref: Ref,
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A new folder for the dataset; for dwca also a new .zip file."),
    ],
    layout: Annotated[
        Format,
        typer.Option("--format", help="How the images are laid out; dwca: the records as Darwin Core."),
    ] = Format.webdataset,
    as_json: Json = False,
) -> None:
    """Write a self-contained dataset: images, manifest, attribution, Croissant, card, citation, checksums."""
    lake = open_lake(to_read=True)
    snapshot = Snapshot(lake, refs.resolve(lake, ref))
    with bars(as_json):
        files = export_dataset(snapshot, directory, layout)
    if as_json:
        emit(
            {
                "version": snapshot.version.ref,
                "directory": str(directory),
                "files": [{"name": file.name, "sha256": file.sha256, "size": file.size} for file in files],
            }
        )
        return
    total = sum(file.size for file in files)
    size = f"{len(files)} files, {human_bytes(total)}"
    say("exported {ref} to {folder}: {size}", ref=snapshot.version.ref, folder=directory, size=size)
    if layout is Format.webdataset:
        say('next: [bold]datasets.load_dataset("webdataset", data_dir="{folder}/data")[/]', folder=directory)


def site(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write or bring up to date.")
    ],
    campaign: Annotated[
        list[str] | None,
        typer.Option(help="Show only this dataset; may be repeated. All of them if not given."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the folder will be served, https://...")] = None,
    as_json: Json = False,
) -> None:
    """Write static landing pages: an index of the datasets, and a page for every version."""
    with bars(as_json):
        built = build_site(open_lake(to_read=True), directory, campaign or [], url)
    if as_json:
        emit({"directory": str(directory), **{name: getattr(built, name) for name in built.__slots__}})
        return
    counts = f"{built.written} files written, {built.unchanged} as they were, {built.deleted} deleted"
    say("{pages} pages in {folder}: {counts}", pages=built.pages, folder=directory, counts=counts)
    say("next: open [bold]{page}[/], or copy the folder to a bucket", page=directory / "index.html")
