from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.campaign import Campaign, Subtree, Taxon, load_campaign
from lakehouse.errors import CampaignError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.intervals import assign_intervals
from lakehouse.metadata.partitions import Partition, build_plan, load_plan, plan_partitions, requested, slug
from lakehouse.metadata.schema import taxa_schema
from lakehouse.metadata.taxonomy import Taxonomy
from lakehouse.metadata.tree import build_tree
from tests.metadata.conftest import TAXA, Bucket

Build = Callable[[Bucket], str]
Wanted = Sequence[Taxon | Subtree]


def taxonomy_of(rows: list[tuple[int, str, str, str]]) -> Taxonomy:
    """A taxonomy of (id, ancestry, rank, name)."""
    rows = sorted(rows)
    ids = np.array([row[0] for row in rows], np.int64)
    tree = build_tree(ids, pl.Series([row[1] or None for row in rows], dtype=pl.String))
    lft, rgt = assign_intervals(tree)
    columns = {
        "taxon_id": ids,
        "parent_id": pa.array([int(ids[parent]) if parent >= 0 else None for parent in tree.parents]),
        "name": [row[3] for row in rows],
        "rank": [row[2] for row in rows],
        "rank_level": pa.nulls(len(rows), pa.float64()),
        "active": [True] * len(rows),
        "depth": tree.depths,
        "lft": lft,
        "rgt": rgt,
    }
    arrays = {name: pa.array(values) for name, values in columns.items()}
    return Taxonomy(pa.table(arrays).cast(taxa_schema([])).sort_by("lft"))


FROGS = taxonomy_of(
    [(int(a), b, d, e) for a, b, _, d, e, _ in (line.split(";") for line in TAXA.strip().splitlines())]
)
COUNTS = {100: 3, 101: 5, 102: 40, 103: 20, 104: 30, 105: 7, 110: 1, 111: 60, 201: 9}


def plan(wanted: Wanted, max_photos: int, label: str = "species") -> dict[str, int]:
    return {one.key: one.photos for one in plan_partitions(FROGS, COUNTS, wanted, label, max_photos)}


def test_what_fits_is_one_partition() -> None:
    assert plan([100], 1000) == {"ranidae-100": 166}


def test_a_taxon_above_the_limit_is_cut_and_what_is_left_stays_its_partition() -> None:
    assert plan([100], 110) == {"ranidae-100": 64, "rana-101": 102}
    assert plan([100], 70) == {"ranidae-100": 64, "rana-101": 52, "rana-dua-103": 50}


def test_nothing_is_cut_at_or_below_the_label() -> None:
    assert plan([100], 1)["rana-dua-103"] == 50
    assert plan([100], 1, label="genus") == {"ranidae-100": 3, "rana-101": 102, "hyla-110": 61}


def test_overlapping_requests_are_merged() -> None:
    assert plan([100, 101, "Rana una", 2], 1000) == {"chordata-2": 166}


def test_exceptions_are_left_out_unless_asked_for_elsewhere() -> None:
    but_rana = Subtree.model_validate({"taxon": 100, "except": ["Rana"]})
    assert plan([but_rana], 1000) == {"ranidae-100": 64}
    assert plan([but_rana, 102], 1000) == {"ranidae-100": 104}


def test_an_exception_elsewhere_in_the_tree_is_an_error() -> None:
    with pytest.raises(CampaignError, match=r"Prunella vulgaris \(id 201\) is not below Ranidae"):
        plan([Subtree.model_validate({"taxon": 100, "except": [201]})], 1000)


def test_taxa_below_the_label_share_the_partition_of_their_label() -> None:
    assert plan([104], 1000) == {"rana-dua-103": 30}


def test_partitions_without_photos_are_dropped() -> None:
    assert plan([210, 201], 1000) == {"prunella-vulgaris-201": 9}


@pytest.mark.parametrize(
    ("name", "expected"), [("Rana una × dua", "rana-una-dua"), ("Ö, ñ", "o-n"), ("×", "taxon")]
)
def test_slugs_are_plain(name: str, expected: str) -> None:
    assert slug(name) == expected


RANKS = ["order", "family", "genus", "species", "subspecies"]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Taxonomy, dict[int, int], list[Taxon | Subtree], int]:
    rows: list[tuple[int, str, str, str]] = [(1, "", "kingdom", "T1")]
    for taxon_id in range(2, draw(st.integers(3, 40))):
        above = draw(st.sampled_from(rows))
        rank = draw(st.sampled_from(RANKS))
        rows.append((taxon_id, f"{above[1]}/{above[0]}".strip("/"), rank, f"T{taxon_id}"))
    ids = [row[0] for row in rows]
    counts = draw(st.dictionaries(st.sampled_from(ids), st.integers(1, 20)))
    wanted: list[Taxon | Subtree] = []
    taxonomy = taxonomy_of(rows)
    for taxon_id in draw(st.lists(st.sampled_from(ids), min_size=1, max_size=4)):
        below = [row[0] for row in rows if str(taxon_id) in row[1].split("/")]
        holes = draw(st.lists(st.sampled_from(below), max_size=2)) if below else []
        wanted.append(Subtree.model_validate({"taxon": taxon_id, "except": holes}) if holes else taxon_id)
    return taxonomy, counts, wanted, draw(st.integers(1, 60))


@settings(deadline=None)
@given(worlds())
def test_every_wanted_photo_is_in_exactly_one_partition(
    world: tuple[Taxonomy, dict[int, int], list[Taxon | Subtree], int],
) -> None:
    taxonomy, counts, wanted, most = world
    found = plan_partitions(taxonomy, counts, wanted, "species", most)
    labels = taxonomy.label_of("species")
    total = requested(taxonomy, wanted)
    of_label: dict[int, set[str]] = {}
    for row in range(len(taxonomy)):
        lft, photos = int(taxonomy.lft[row]), counts.get(int(taxonomy.taxon_ids[row]), 0)
        holding = [one.key for one in found for low, high in one.intervals if low <= lft < high]
        is_wanted = any(low <= lft < high for low, high in total)
        assert len(holding) == 1 if is_wanted and photos else len(holding) <= is_wanted
        if labels[row] >= 0 and photos:
            of_label.setdefault(int(labels[row]), set()).update(holding)
    assert all(len(keys) <= 1 for keys in of_label.values())
    assert len({one.key for one in found}) == len(found)
    assert sum(one.photos for one in found) == sum(
        photos
        for taxon_id, photos in counts.items()
        if any(low <= taxonomy.at(_row(taxonomy, taxon_id)).lft < high for low, high in total)
    )
    for one in found:
        assert one.photos <= most or _cannot_be_cut(taxonomy, counts, labels, one)


def _row(taxonomy: Taxonomy, taxon_id: int) -> int:
    row = taxonomy.row(taxon_id)
    assert row is not None
    return row


def _cannot_be_cut(taxonomy: Taxonomy, counts: dict[int, int], labels: np.ndarray, one: Partition) -> bool:
    return bool(labels[_row(taxonomy, one.taxon_id)] >= 0) or one.photos == counts.get(one.taxon_id)


# --- the recorded plan


def frogs(bucket: Bucket) -> None:
    photo_id = 0
    for number, taxon in enumerate((102, 102, 103, 104, 111, 201), start=1):
        bucket.observe(number, taxon)
        for _ in range(3):
            photo_id += 1
            bucket.photograph(photo_id, number)


def test_a_plan_is_recorded(
    lake: Lake, bucket: Bucket, build: Build, campaign: Callable[..., Campaign]
) -> None:
    frogs(bucket)
    release = build(bucket)
    made = build_plan(lake, campaign(partition={"max_photos": 10}), "mini", release)
    assert {one.key: one.photos for one in made.partitions} == {
        "ranidae-100": 3,
        "rana-101": 6,
        "rana-una-102": 6,
    }
    assert load_plan(lake, "frogs") == made
    assert load_plan(lake, "frogs").digest == made.digest
    assert made.partition("rana-101").taxon_id == 101
    with pytest.raises(NotFoundError, match="no partition 'rana-1'"):
        made.partition("rana-1")
    with pytest.raises(NotFoundError):
        load_plan(lake, "toads")


def test_a_key_once_given_stays(
    lake: Lake, bucket: Bucket, build: Build, campaign: Callable[..., Campaign]
) -> None:
    frogs(bucket)
    asked = campaign(partition={"max_photos": 10})
    first = build_plan(lake, asked, "mini", build(bucket))
    bucket.taxa = [[*row[:4], "Rana unica", row[5]] if str(row[0]) == "102" else row for row in bucket.taxa]
    release = build(bucket)
    build_plan(lake, campaign(taxa=[201]), "mini", release)  # a plan in between that does not need the key
    again = build_plan(lake, asked, "mini", release)
    assert again.partition("rana-una-102").name == "Rana unica"
    assert again.digest != first.digest


def test_a_plan_knows_what_decides_the_data(
    lake: Lake, bucket: Bucket, build: Build, campaign: Callable[..., Campaign]
) -> None:
    frogs(bucket)
    release = build(bucket)
    one = build_plan(lake, campaign(), "mini", release)
    assert build_plan(lake, campaign(title="Other words"), "mini", release).digest == one.digest
    assert build_plan(lake, campaign(where={"licenses": ["CC0"]}), "mini", release).digest != one.digest


def test_a_wrong_taxon_is_an_error_that_names_its_line(
    lake: Lake, bucket: Bucket, build: Build, tmp_path: Path
) -> None:
    frogs(bucket)
    release = build(bucket)
    head = "name: frogs\ntitle: Prunella\ndescription: d\ncreators: [{name: A}]\n"
    path = tmp_path / "frogs.yaml"
    for taxa, line in (
        ("taxa:\n  - 100\n  - Prunella\n", 7),
        ("taxa: [{taxon: 100, except: [Prunella]}]\n", 5),
    ):
        path.write_text(head + taxa)
        with pytest.raises(CampaignError, match=rf"frogs\.yaml:{line}: taxon 'Prunella' names 2 active taxa"):
            build_plan(lake, load_campaign(path), "mini", release)
    (tmp_path / "list.csv").write_text("taxon,why\n100,a\nRana uma,b\n")
    path.write_text(head + "taxa_file: list.csv\n")
    with pytest.raises(CampaignError, match=r"list\.csv:3: taxon 'Rana uma' .* did you mean 'Rana una'"):
        build_plan(lake, load_campaign(path), "mini", release)


def test_a_campaign_without_photos_has_an_empty_plan(
    lake: Lake, bucket: Bucket, build: Build, campaign: Callable[..., Campaign]
) -> None:
    assert build_plan(lake, campaign(taxa=[201]), "mini", build(bucket)).partitions == ()
