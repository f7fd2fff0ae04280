from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.lake import Lake
from lakehouse.metadata.ingest import RawRelease
from lakehouse.metadata.schema import TAXON_CHANGES
from lakehouse.metadata.taxon_changes import compare_taxa, diff_taxa, taxon_changes_key
from lakehouse.metadata.taxonomy import build_taxa
from tests.metadata.conftest import Bucket


@dataclass(frozen=True)
class Taxon:
    parent_id: int | None = 1
    name: str = "A"
    rank: str | None = "species"
    active: bool = True


SCHEMA = {
    "taxon_id": pl.Int32,
    "parent_id": pl.Int32,
    "name": pl.String,
    "rank": pl.String,
    "active": pl.Boolean,
}


def frame(taxa: Mapping[int, Taxon]) -> pl.DataFrame:
    rows = [(key, one.parent_id, one.name, one.rank, one.active) for key, one in taxa.items()]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def changes(before: Mapping[int, Taxon], after: Mapping[int, Taxon]) -> list[tuple[int, str]]:
    return compare_taxa(frame(before), frame(after)).select("taxon_id", "change").rows()


def test_every_kind_of_change_is_told_apart() -> None:
    before = {number: Taxon() for number in range(1, 9)} | {3: Taxon(active=False)}
    after = {
        **before,
        1: Taxon(None),
        2: Taxon(name="B"),
        3: Taxon(),
        4: Taxon(active=False),
        5: Taxon(7, "C", "subspecies"),
        9: Taxon(),
    }
    del after[6]
    assert changes(before, after) == [
        (1, "moved"),
        (2, "renamed"),
        (3, "activated"),
        (4, "deactivated"),
        (5, "renamed"),
        (5, "moved"),
        (5, "reranked"),
        (6, "gone"),
        (9, "new"),
    ]


TAXA = st.builds(
    Taxon,
    st.sampled_from([None, 1, 2]),
    st.sampled_from("AB"),
    st.sampled_from([None, "genus"]),
    st.booleans(),
)


@st.composite
def edits(
    draw: st.DrawFn,
) -> tuple[dict[int, Taxon], dict[int, Taxon], set[tuple[int, str]]]:
    before = draw(st.dictionaries(st.integers(1, 30), TAXA, max_size=15))
    after, made = dict(before), set()
    for taxon_id in draw(st.sets(st.sampled_from(sorted(before)))) if before else ():
        taxon = before[taxon_id]
        if draw(st.booleans()):
            del after[taxon_id]
            made.add((taxon_id, "gone"))
            continue
        switched = "deactivated" if taxon.active else "activated"
        ways = {
            "moved": {"parent_id": 9},
            "renamed": {"name": "C"},
            "reranked": {"rank": "form"},
            switched: {"active": not taxon.active},
        }
        for kind in draw(st.sets(st.sampled_from(sorted(ways)), min_size=1)):
            after[taxon_id] = replace(after[taxon_id], **ways[kind])  # type: ignore[arg-type]
            made.add((taxon_id, kind))
    for taxon_id in draw(st.sets(st.integers(100, 110), max_size=4)):
        after[taxon_id] = draw(TAXA)
        made.add((taxon_id, "new"))
    return before, after, made


@settings(deadline=None)
@given(edits())
def test_the_diff_of_changes_that_were_applied_is_these_changes(
    edit: tuple[dict[int, Taxon], dict[int, Taxon], set[tuple[int, str]]],
) -> None:
    before, after, made = edit
    found = changes(before, after)
    assert set(found) == made and len(found) == len(made)
    assert changes(before, before) == []


def test_the_toy_of_a_subtree_that_moves_changes_one_taxon(
    lake: Lake, bucket: Bucket, ingest: Callable[..., RawRelease]
) -> None:
    above = "48460/1/2/355675"
    paths = {
        355675: "48460/1/2",
        20978: above,
        5: f"{above}/20978",
        6: f"{above}/20978/5",
        209785: above,
        7: f"{above}/209785",
    }
    plain = list(bucket.taxa)

    def release() -> str:
        rows = [(key, path, 10, "species", f"T{key}", "true") for key, path in paths.items()]
        bucket.taxa = [*plain, *rows]
        made = ingest(bucket).release_id
        build_taxa(lake, "mini", made)
        return made

    first = release()
    paths[5], paths[6] = f"{above}/209785", f"{above}/209785/5"
    second = release()
    report = diff_taxa(lake, "mini", first, second)
    table = lake.read_table(taxon_changes_key("mini", first, second))
    assert table.select(["taxon_id", "change", "parent_id_before", "parent_id_after"]).to_pylist() == [
        {"taxon_id": 5, "change": "moved", "parent_id_before": 20978, "parent_id_after": 209785}
    ]
    assert {kind: count for kind, count in report.counts.items() if count} == {"moved": 1}
    assert pq.read_schema(lake.uri(taxon_changes_key("mini", first, second))).equals(TAXON_CHANGES)
