"""The attribution table: for each photograph its maker, licence, source and what was changed, as CC
licences ask."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from lakehouse.catalog.licensing import dataset_licence
from lakehouse.lake import ROW_GROUP

# Source: CC BY 4.0 section 3(a)(1): creator, licence notice and link, link to the material, whether it was
# modified.
ATTRIBUTION = pl.Schema(
    {
        "photo_id": pl.Int64,
        "photo_url": pl.String,
        "observation_url": pl.String,
        "creator": pl.String,
        "license": pl.String,
        "license_url": pl.String,
        "attribution": pl.String,
        "changes": pl.String,
    }
)
# Longest side in pixels of the renditions that iNaturalist itself serves; source: its Open Data
# documentation.
_RENDITIONS = {"large": 1024, "medium": 500, "small": 240, "thumb": 100, "square": 75}
_TRANSFORMED = re.compile(r"(?P<size>[a-z]+)(?:-(?P<side>\d+))?-(?P<format>jpeg|webp)-q(?P<quality>\d+)")


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
    return (
        manifest.with_columns(changes=pl.lit(changes, pl.String))
        .select(ATTRIBUTION.names())
        .cast(ATTRIBUTION)
    )


def write_attribution(manifest: pl.LazyFrame, path: Path, changes: str) -> int:
    """Write the attribution table as Parquet, without holding it in memory, and return its number of rows.

    Raises
    ------
    CatalogError
        A photograph has an unknown licence; nothing is written then.
    """
    counts = manifest.group_by("license").len().collect(engine="streaming")
    dataset_licence(counts["license"].to_list())
    attribution_table(manifest, changes).sink_parquet(
        path, compression="zstd", compression_level=3, row_group_size=ROW_GROUP, maintain_order=True
    )
    return int(counts["len"].sum())
