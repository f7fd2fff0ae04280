"""The taxa are real and ragged, and every one that is photographed can be drawn."""

from __future__ import annotations

from lakehouse.demo import taxa as facts
from lakehouse.demo.looks import GROUNDS, LOOKS


def test_every_photographed_taxon_has_a_row_and_a_look() -> None:
    photographed = {share.taxon_id for share in facts.SHARES}
    assert photographed <= facts.taxa().keys()
    assert photographed == LOOKS.keys()
    assert {look.ground for look in LOOKS.values()} <= GROUNDS.keys()


def test_the_root_is_life() -> None:
    root = facts.taxa()[48460]
    assert (root.name, root.rank, root.rank_level, root.ancestry) == ("Life", "stateofmatter", "100", "")


def test_every_path_starts_at_the_root() -> None:
    assert all(taxon.path[0] == 48460 for taxon in facts.taxa().values())


def test_ranks_are_ragged() -> None:
    ranks = {taxon.rank for taxon in facts.taxa().values()}
    assert {"complex", "hybrid", "subspecies", "variety", "subfamily", "supertribe", "suborder"} <= ranks
    assert {"epifamily", "parvorder", "section", "subsection"} <= ranks
    assert {taxon.rank_level for taxon in facts.taxa().values() if taxon.rank == "parvorder"} == {"34.5"}


def test_a_hybrid_shares_its_level_with_species() -> None:
    hybrid = facts.taxa()[facts.HYBRID]
    assert (hybrid.rank, hybrid.rank_level) == ("hybrid", "10")
    assert "×" in hybrid.name


def test_a_homonym_names_an_animal_and_a_plant() -> None:
    name, animal, plant = facts.HOMONYM
    rows = facts.taxa()
    assert rows[animal].name == rows[plant].name == name
    assert (rows[animal].path[1], rows[plant].path[1]) == (1, 47126)
    assert rows[animal].active == rows[plant].active == "true"


def test_a_photographed_taxon_is_inactive() -> None:
    assert facts.taxa()[facts.INACTIVE].active == "false"
    assert facts.INACTIVE in {share.taxon_id for share in facts.SHARES}


def test_some_ancestors_are_missing_from_the_table() -> None:
    rows = facts.taxa()
    assert {1266534, 1597677, 1581466, 414448} <= {
        i for taxon in rows.values() for i in taxon.path
    } - rows.keys()


def test_a_name_holds_double_quotes() -> None:
    assert facts.taxa()[facts.QUOTED].name.count('"') == 2


def test_three_kingdoms_are_photographed() -> None:
    kingdoms = {facts.taxa()[share.taxon_id].path[1] for share in facts.SHARES}
    assert kingdoms == {1, 47126, 47170}
