from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.errors import CampaignError
from lakehouse.taxon_list import read_taxon_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rana una\n\n# no\n102\n", [(1, "Rana una"), (4, 102)]),
        ("﻿scientific_name\nRana  una \n", [(2, "Rana una")]),
        ('note,Scientific Name\nx,"Rana una"\n', [(2, "Rana una")]),
        ("species;count\nRana una;3\n", [(2, "Rana una")]),
        ("count\ttaxon_id\tname\n1\t102\tRana\n2\t\tHyla\n", [(2, 102), (3, "Hyla")]),
        ("taxon_id\tfamily\tname\n\tRanidae\tRana una\n", [(2, "Rana una")]),
        ("Rana una,frog\nHyla,frog\n", [(1, "Rana una"), (2, "Hyla")]),
        ('Amanita "sp"\n', [(1, 'Amanita "sp"')]),
        ("genus,species\nRana,una\nRana,Rana duo\n", [(2, "Rana una"), (3, "Rana duo")]),
        ("family,genus,species,scientific_name\nRanidae,Rana,una,Rana una L.\n", [(2, "Rana una L.")]),
        ('scientificName\n"Rana una Linnaeus, 1758"\n', [(2, "Rana una Linnaeus, 1758")]),
    ],
)
def test_names_and_ids_are_found_with_their_lines(tmp_path: Path, text: str, expected: list[object]) -> None:
    file = tmp_path / "list.csv"
    file.write_text(text, encoding="utf-8")
    assert [(one.line, one.taxon) for one in read_taxon_list(file)] == expected


def test_a_file_that_names_nothing_or_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    with pytest.raises(CampaignError, match="cannot be read"):
        read_taxon_list(file)
    file.write_text("taxon\n\n")
    with pytest.raises(CampaignError, match="names no taxon"):
        read_taxon_list(file)
