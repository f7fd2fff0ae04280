"""A self-contained dataset in a folder: images, manifest, attribution, Croissant, card, checksums."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl

from lakehouse.catalog.card import render_card
from lakehouse.catalog.croissant import describe, to_json
from lakehouse.catalog.darwin_core import export_darwin_core
from lakehouse.catalog.files import DatasetFile, describe_file, media_type, shard_name
from lakehouse.catalog.hub_features import pinned
from lakehouse.catalog.publish import changed_labels, citations, write_tables
from lakehouse.catalog.sheet import images, pictures, shown
from lakehouse.errors import UsageError
from lakehouse.snapshots.export import Format, write_archives, write_folders
from lakehouse.snapshots.read import Snapshot


def export_dataset(snapshot: Snapshot, directory: Path, layout: Format) -> list[DatasetFile]:
    """Write a snapshot to the new folder `directory`; it appears when everything is in it.

    A Darwin Core Archive has no images, and may be a `.zip` file instead (see `export_darwin_core`). A
    WebDataset export is described by `croissant.json` as well; a folder of images has one file per photo,
    which Croissant would list one by one, so there the manifest and the card describe it.

    Returns
    -------
    list[DatasetFile]
        Every file but `checksums.txt`, which lists them in the form of sha256sum.

    Raises
    ------
    UsageError
        `directory` is there and not empty.
    """
    if layout is Format.dwca:
        return export_darwin_core(snapshot, directory)
    directory = directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not empty; give a new folder")
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = fill(snapshot, partial, layout)
    if directory.exists():
        directory.rmdir()
    partial.rename(directory)
    return files


def fill(
    snapshot: Snapshot, folder: Path, layout: Format, written: Callable[[DatasetFile], None] | None = None
) -> list[DatasetFile]:
    """Write an export into the empty folder `folder`; `written` is told of each file of images as soon as it
    is there, and may move it away."""
    version, root, placement = snapshot.version, snapshot.root, folder / ".placement.parquet"
    if layout is Format.webdataset:
        exported = write_archives(snapshot, folder, shard_name, placement)
    else:
        exported = write_folders(snapshot, folder, placement)
    files: list[DatasetFile] = []
    for one in exported:
        kind = media_type(one.name)
        files.append(DatasetFile(one.name, one.name, one.sha256, one.size, kind, "shard", one.split))
        if written:
            written(files[-1])
    statistics, tables = write_tables(snapshot, folder, placement)
    placement.unlink()
    files += tables
    described = list(files)
    manifest = pl.scan_parquet(folder / "manifest.parquet")
    photographs = shown(manifest, statistics)
    links: dict[str, str] = {}
    for name, data in pictures(statistics, photographs, images(snapshot, photographs)).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        links[path.stem] = name
        files.append(describe_file(path, name, "figure"))
    if layout is Format.webdataset:
        croissant = folder / "croissant.json"
        croissant.write_bytes(to_json(describe(version, root, statistics, described)))
        files.append(describe_file(croissant, croissant.name, "croissant"))
    for name, data in citations(snapshot, statistics, files).items():
        (folder / name).write_bytes(data)
        files.append(describe_file(folder / name, name, "citation"))
    card = folder / "README.md"
    said = render_card(
        version,
        root,
        statistics,
        described,
        links,
        photographs=photographs,
        changed=changed_labels(snapshot),
    )
    if layout is Format.webdataset:
        suffixes = manifest.select(pl.col("file_name").str.split(".").list.last().unique()).collect()
        said = pinned(said, statistics.splits, suffixes.item())
    card.write_text(said, encoding="utf-8")
    files.append(describe_file(card, card.name, "card"))
    sums = "".join(f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda file: file.name))
    (folder / "checksums.txt").write_text(sums, encoding="utf-8")
    return files
