"""What changed in the taxonomy from one release to another.

Every taxon of either release has at most one entry for each kind: *new* and *gone* by id; *activated* and
*deactivated*; *renamed*; *moved*, where its parent is another one. What follows from a move further down
(a longer path) is no change of those taxa.
"""

from __future__ import annotations

import polars as pl
from pydantic import BaseModel, ConfigDict

from lakehouse.lake import Lake
from lakehouse.metadata.schema import TAXON_CHANGES
from lakehouse.metadata.taxonomy import taxa_key

KINDS = ("new", "gone", "activated", "deactivated", "renamed", "moved", "reranked")
_COLUMNS = ("taxon_id", "parent_id", "name", "rank", "active")


class TaxonChangesReport(BaseModel):
    """How many taxa changed from release `before` to `after`, by kind; one taxon may count under several."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    before: str
    after: str
    counts: dict[str, int]


def taxon_changes_key(source_name: str, before: str, after: str) -> str:
    """The key of the taxa that changed between two releases."""
    return f"tables/{source_name}/{after}/changes/{before}.taxa.parquet"


def diff_taxa(lake: Lake, source_name: str, before: str, after: str) -> TaxonChangesReport:
    """Write the taxa that changed between two releases (schema `TAXON_CHANGES`) and count them.

    Raises NotFoundError if a release has no taxa table.
    """
    old, new = (
        pl.DataFrame(lake.read_table(taxa_key(source_name, release), _COLUMNS)) for release in (before, after)
    )
    changes = compare_taxa(old, new)
    with lake.parquet_writer(taxon_changes_key(source_name, before, after), TAXON_CHANGES) as writer:
        writer.write_table(changes.to_arrow().cast(TAXON_CHANGES))
    found = dict(changes["change"].value_counts().iter_rows())
    return TaxonChangesReport(
        source=source_name,
        before=before,
        after=after,
        counts={kind: found.get(kind, 0) for kind in KINDS},
    )


def compare_taxa(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The changes between two tables of taxa, by taxon and kind.

    Parameters
    ----------
    before, after
        With the columns `taxon_id`, `parent_id`, `name`, `rank` and `active`; an id occurs once in each.
    """
    both = (
        before.select(_COLUMNS)
        .with_columns(here=True)
        .join(
            after.select(_COLUMNS).with_columns(here=True),
            on="taxon_id",
            how="full",
            coalesce=True,
            suffix="_after",
        )
    )
    was, is_there = pl.col("here").is_not_null(), pl.col("here_after").is_not_null()
    stays = was & is_there

    def differs(name: str) -> pl.Expr:
        return stays & pl.col(name).ne_missing(pl.col(f"{name}_after"))

    rules = {
        "new": ~was,
        "gone": ~is_there,
        "activated": differs("active") & pl.col("active_after"),
        "deactivated": differs("active") & pl.col("active"),
        "renamed": differs("name"),
        "moved": differs("parent_id"),
        "reranked": differs("rank"),
    }
    named = {
        f"{name}{suffix}": pl.col(name + ("" if suffix == "_before" else suffix))
        for name in ("name", "rank", "parent_id")
        for suffix in ("_before", "_after")
    }
    order = {kind: number for number, kind in enumerate(KINDS)}
    found = [
        both.filter(rule).select(pl.col("taxon_id"), pl.lit(kind).alias("change"), **named)
        for kind, rule in rules.items()
    ]
    return pl.concat(found).sort("taxon_id", pl.col("change").replace_strict(order, return_dtype=pl.Int32))
