"""Attribution: for each photograph its maker, licence, source and what was changed, as CC licences ask; as a
table and as a text."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from lakehouse.catalog.licensing import dataset_licence
from lakehouse.errors import CatalogError
from lakehouse.lake import ROW_GROUP
from lakehouse.licences import LICENCES
from lakehouse.snapshots.model import Version

# Source: CC BY 4.0 section 3(a)(1): creator, licence notice and link, link to the material, whether it was
# modified. `license_title` names the licence's version.
ATTRIBUTION = pl.Schema(
    {
        "photo_id": pl.Int64,
        "photo_url": pl.String,
        "observation_url": pl.String,
        "creator": pl.String,
        "license": pl.String,
        "license_title": pl.String,
        "license_url": pl.String,
        "attribution": pl.String,
        "changes": pl.String,
    }
)
_STATED = ("photo_url", "observation_url", "creator", "license_url", "attribution")
# Longest side in pixels of the renditions that iNaturalist itself serves; source: its Open Data
# documentation.
_RENDITIONS = {"large": 1024, "medium": 500, "small": 240, "thumb": 100, "square": 75}
_TRANSFORMED = re.compile(r"(?P<size>[a-z]+)(?:-(?P<side>\d+))?-(?P<format>jpeg|webp)-q(?P<quality>\d+)")
# What could end a line, steer a terminal, or turn the reading direction of what follows.
_UNPRINTABLE = r"[\p{Cc}\p{Zl}\p{Zp}\x{202a}-\x{202e}\x{2066}-\x{2069}]+"


def changes_of(rendition: str) -> str:
    """What was changed about the photographs of a rendition (`parameters["image"]`, such as `medium`), in
    words."""
    if found := _TRANSFORMED.fullmatch(rendition):
        side = f"resized to at most {found['side']} px and " if found["side"] else ""
        encoding = f"re-encoded as {found['format'].upper()} of quality {found['quality']}"
        return f"{side}{encoding} from the {found['size']} copy"
    if rendition in _RENDITIONS:
        return (
            f"none; the source's own {rendition} copy (at most {_RENDITIONS[rendition]} px), bytes unchanged"
        )
    return "none"


def attribution_table(manifest: pl.LazyFrame, changes: str) -> pl.LazyFrame:
    """The attribution of every row of `manifest`, in its order."""
    titles = {code: licence.title for code, licence in LICENCES.items()}
    return (
        manifest.with_columns(
            license_title=pl.col("license").replace_strict(titles, return_dtype=pl.String),
            changes=pl.lit(changes, pl.String),
        )
        .select(ATTRIBUTION.names())
        .cast(ATTRIBUTION)
    )


def write_attribution(manifest: pl.LazyFrame, path: Path, changes: str) -> int:
    """Write the attribution table as Parquet, without holding it in memory, and return its number of rows.

    Raises
    ------
    CatalogError
        A photograph has an unknown licence, a licence with another one's URL, no photographer, no address or
        no attribution line; nothing is written then.
    """
    bare = pl.any_horizontal(pl.col(name).fill_null("").str.strip_chars() == "" for name in _STATED)
    counts = (
        manifest.group_by("license", "license_url")
        .agg(pl.len(), bare=bare.sum(), example=pl.col("photo_id").filter(bare).min())
        .collect(engine="streaming")
    )
    dataset_licence(counts["license"].to_list())
    if lacking := int(counts["bare"].sum()):
        example = counts["example"].drop_nulls().to_list()[0]
        raise CatalogError(
            f"{lacking:,} photographs lack an address, a photographer, a licence URL or an attribution line "
            f"(for example {example}), so they cannot be credited; build the snapshot again"
        )
    for code, url in counts.select("license", "license_url").sort("license", "license_url").iter_rows():
        if url != LICENCES[code].url:
            raise CatalogError(
                f"photographs under {code} name {url} as its text, which is at {LICENCES[code].url}; "
                "build the snapshot again"
            )
    attribution_table(manifest, changes).sink_parquet(
        path, compression="zstd", compression_level=3, row_group_size=ROW_GROUP, maintain_order=True
    )
    return int(counts["len"].sum())


def write_attribution_text(table: Path, path: Path, version: Version) -> None:
    """Write the attribution table `table` as text for people, one line per photograph, gzipped.

    The same table gives the same bytes: the file holds neither a name nor a time. It is written as it is
    read, so its length does not matter. A photographer's name can neither break a line nor steer a terminal.
    """
    with path.open("wb") as stream, gzip.GzipFile("", "wb", 9, stream, mtime=0) as text:
        about = version.about
        text.write(
            f"{_line(about.title)}, {version.ref}: who made each photograph\n\n"
            "Each photograph keeps the licence its photographer chose. Whoever shares one gives this credit "
            "with "
            "it:\nphotographer, licence and its address, where it came from, and what was "
            "changed.\n\n".encode()
        )
        for lines in _lines(table):
            text.write(lines.encode())


def _lines(table: Path) -> Iterator[str]:
    clean = {
        name: pl.col(name).str.replace_all(_UNPRINTABLE, " ").str.strip_chars()
        for name in ATTRIBUTION.names()
        if ATTRIBUTION[name] == pl.String
    }
    line = pl.format(
        "{} by {}, {} ({}); observation {}; changes: {}.\n",
        *(
            clean[name]
            for name in ("photo_url", "creator", "license_title", "license_url", "observation_url")
        ),
        clean["changes"],
    )
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(ROW_GROUP):
            yield str(pl.DataFrame(batch).select(line.str.join("")).item() or "")


def _line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
