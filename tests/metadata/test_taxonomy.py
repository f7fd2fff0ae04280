from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pyarrow.parquet as pq
import pytest

from lakehouse.errors import CampaignError
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import RawRelease
from lakehouse.metadata.schema import TAXA_COLUMNS, taxa_schema
from lakehouse.metadata.taxonomy import TaxaReport, Taxonomy, build_taxa, load_taxa_report, taxa_key
from tests.metadata.conftest import Bucket

Ingest = Callable[..., RawRelease]


@pytest.fixture
def built(lake: Lake, bucket: Bucket, ingest: Ingest) -> TaxaReport:
    bucket.taxa += [
        (300, "48460/1/2/999", 10, "species", "Orpha orba", "true"),
        (301, "", 10, "species", 'Sola "sola"', "true"),
    ]
    return build_taxa(lake, "mini", ingest(bucket).release_id)


@pytest.fixture
def taxonomy(lake: Lake, built: TaxaReport) -> Taxonomy:
    return Taxonomy.load(lake, "mini", built.release_id)


def rows(lake: Lake, report: TaxaReport) -> dict[int, dict[str, object]]:
    frame = pl.read_parquet(lake.uri(taxa_key("mini", report.release_id)))
    return {int(row["taxon_id"]): row for row in frame.iter_rows(named=True)}


def test_the_table_has_two_columns_for_every_rank_in_the_data(lake: Lake, built: TaxaReport) -> None:
    ranks = ["stateofmatter", "kingdom", "phylum", "family", "genus", "species", "hybrid", "subspecies"]
    assert list(built.ranks) == ranks
    assert pq.read_schema(lake.uri(taxa_key("mini", built.release_id))).equals(taxa_schema(ranks))


def test_ranks_are_the_ancestor_or_self_and_ragged_ones_null(lake: Lake, built: TaxaReport) -> None:
    found = rows(lake, built)
    minor, hybrid, life = found[104], found[105], found[48460]
    assert (minor["species"], minor["species_id"], minor["subspecies"]) == ("Rana dua", 103, "Rana dua minor")
    assert (minor["genus"], minor["family"], minor["kingdom"]) == ("Rana", "Ranidae", "Animalia")
    assert (hybrid["species"], hybrid["hybrid"], hybrid["genus_id"]) == (None, "Rana una × dua", 101)
    assert (life["kingdom"], life["stateofmatter"], life["parent_id"], life["depth"]) == (
        None,
        "Life",
        None,
        0,
    )


def test_rows_are_in_pre_order(lake: Lake, built: TaxaReport) -> None:
    table = pq.read_table(lake.uri(taxa_key("mini", built.release_id)), columns=list(TAXA_COLUMNS))
    labels = table["lft"].to_pylist()
    assert labels == sorted(labels)


def test_the_report_counts_what_is_odd(built: TaxaReport) -> None:
    assert (built.taxa, built.active, built.inactive) == (18, 17, 1)
    assert (built.orphans, built.ungrafted, built.homonyms, built.moved) == (1, 1, 1, 0)


def test_taxa_are_built_once(lake: Lake, built: TaxaReport) -> None:
    lake.delete(taxa_key("mini", built.release_id))
    assert (
        build_taxa(lake, "mini", built.release_id)
        == built
        == load_taxa_report(lake, "mini", built.release_id)
    )


def test_the_next_release_keeps_labels(lake: Lake, bucket: Bucket, built: TaxaReport, ingest: Ingest) -> None:
    bucket.taxa.append((106, "48460/1/2/100/101", 10, "species", "Rana nova", "true"))
    later = build_taxa(lake, "mini", ingest(bucket).release_id)
    assert (later.taxa, later.moved) == (19, 0)
    before, after = rows(lake, built), rows(lake, later)
    assert all(before[taxon_id]["lft"] == after[taxon_id]["lft"] for taxon_id in before)
    assert before[101]["lft"] < after[106]["lft"] < before[101]["rgt"]  # type: ignore[operator]


def test_a_taxon_is_found_by_id_and_by_exact_name(taxonomy: Taxonomy) -> None:
    for asked in (102, "102", "Rana una"):
        assert taxonomy.resolve(asked).taxon_id == 102
    assert taxonomy.resolve('Sola "sola"').taxon_id == 301


def test_a_homonym_is_an_error_that_lists_what_could_be_meant(taxonomy: Taxonomy) -> None:
    expected = (
        r"2 active taxa: .*Prunella \(genus, id 210, in Animalia\).*Prunella \(genus, id 200, in Plantae\)"
    )
    with pytest.raises(CampaignError, match=expected):
        taxonomy.resolve("Prunella")
    assert taxonomy.resolve(200).name == "Prunella"


@pytest.mark.parametrize("asked", [900, "Rana prisca"])
def test_an_inactive_taxon_is_an_error(taxonomy: Taxonomy, asked: int | str) -> None:
    with pytest.raises(CampaignError, match=r"is inactive: Rana prisca \(species, id 900, in Animalia\)"):
        taxonomy.resolve(asked)


@pytest.mark.parametrize("asked", ["Prunela vulgaris", "prunella vulgaris", "Brunella vulgaris"])
def test_a_misspelt_name_is_an_error_with_close_ones(taxonomy: Taxonomy, asked: str) -> None:
    with pytest.raises(CampaignError, match="did you mean 'Prunella vulgaris'"):
        taxonomy.resolve(asked)


@pytest.mark.parametrize("asked", [-1, 5, 1 << 40, "Xylophagus", ""])
def test_an_unknown_taxon_is_an_error(taxonomy: Taxonomy, asked: int | str) -> None:
    with pytest.raises(CampaignError, match="is not in the source's taxa"):
        taxonomy.resolve(asked)


def test_ancestors_and_children(taxonomy: Taxonomy) -> None:
    row = taxonomy.row(104)
    assert row is not None
    assert [taxon.taxon_id for taxon in taxonomy.ancestors(row)] == [103, 101, 100, 2, 1, 48460]
    genus = taxonomy.row(101)
    assert genus is not None
    assert {taxonomy.at(child).taxon_id for child in taxonomy.children(genus)} == {102, 103, 105, 900}


def test_labels_are_told_by_rank_and_not_by_its_level(taxonomy: Taxonomy) -> None:
    labels = taxonomy.label_of("species")
    found = {int(taxonomy.taxon_ids[row]): int(label) for row, label in enumerate(labels)}
    assert taxonomy.at(found[104]).name == "Rana dua"
    assert found[105] == -1 and found[101] == -1
    assert taxonomy.names_of(labels).null_count == list(found.values()).count(-1)


def test_a_repeated_id_is_kept_once(lake: Lake, bucket: Bucket, ingest: Ingest) -> None:
    bucket.taxa.append((102, "48460/47126", 10, "species", "Rana altera", "true"))
    report = build_taxa(lake, "mini", ingest(bucket).release_id)
    assert (report.taxa, report.repeated) == (16, 1)
    assert rows(lake, report)[102]["name"] == "Rana una"
