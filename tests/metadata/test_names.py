from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.campaign import Campaign, load_campaign
from lakehouse.errors import CampaignError
from lakehouse.lake import Lake
from lakehouse.metadata.names import match_taxa, report_counts, report_key
from lakehouse.metadata.partitions import build_plan
from lakehouse.metadata.schema import taxa_schema
from lakehouse.metadata.taxonomy import Taxonomy
from tests.metadata.conftest import Bucket

Build = Callable[[Bucket], str]
HEAD = "name: frogs\ntitle: F\ndescription: d\ncreators: [{name: A}]\n"


@pytest.fixture
def release(bucket: Bucket, build: Build) -> str:
    bucket.observe(1, 102)
    bucket.photograph(1, 1)
    return build(bucket)


@pytest.fixture
def asking(tmp_path: Path) -> Callable[[str, str], Campaign]:
    def make(lines: str, more: str = "") -> Campaign:
        (tmp_path / "list.txt").write_text(lines)
        path = tmp_path / "frogs.yaml"
        path.write_text(f"{HEAD}taxa_file: list.txt\n{more}")
        return load_campaign(path)

    return make


LIST = "Rana una\nRana prisca\nPrunella\nRana duo\nXylophagus\n103\n900\n"


def test_each_name_is_matched_or_has_its_reason(lake: Lake, release: str) -> None:
    taxonomy = Taxonomy.load(lake, "mini", release)
    asked = ["Rana una", "Rana prisca", "Prunella", "Rana duo", "Xylophagus", 103, 900, 5]
    found = match_taxa(taxonomy, asked)
    assert [(match.asked, match.status, match.taxon_id) for match in found] == [
        ("Rana una", "matched", 102),
        ("Rana prisca", "synonym-like", None),
        ("Prunella", "ambiguous", None),
        ("Rana duo", "synonym-like", None),
        ("Xylophagus", "missing", None),
        (103, "matched", 103),
        (900, "synonym-like", None),
        (5, "missing", None),
    ]
    assert found[2].candidates == (
        "Prunella (genus, id 210, in Animalia)",
        "Prunella (genus, id 200, in Plantae)",
    )
    assert found[3].candidates[0] == "Rana dua (species, id 103, in Animalia)"
    assert found[1].reason == "only an inactive taxon is called so"


def test_a_name_is_matched_as_people_write_it(lake: Lake, release: str) -> None:
    taxonomy = Taxonomy.load(lake, "mini", release)
    asked = [
        "Rana una L.",
        "rana  UNA",
        "Rana una (Linnaeus, 1758)",
        "Prunella L.",
        "Rana prisca Boie",
        "Rana sp.",
    ]
    found = match_taxa(taxonomy, asked)
    assert [(match.status, match.taxon_id) for match in found[:5]] == [
        ("matched", 102),
        ("matched", 102),
        ("matched", 102),
        ("ambiguous", None),
        ("synonym-like", None),
    ]
    assert found[0].reason == "read as Rana una"
    assert found[5].taxon_id is None


def test_an_id_that_the_list_calls_otherwise_is_noted(
    lake: Lake, release: str, asking: Callable[..., Campaign]
) -> None:
    build_plan(lake, asking("taxon_id,name\n102,Rana una L.\n103,Hyla alba\n"), "mini", release)
    rows = list(csv.DictReader(io.StringIO(lake.get(report_key("frogs")).decode())))
    assert [row["reason"] for row in rows] == ["", "taken by its id; the list calls it Hyla alba"]


def test_a_list_fails_with_all_that_is_wrong_in_one_message(
    lake: Lake, release: str, asking: Callable[..., Campaign]
) -> None:
    expected = r"list\.txt: 5 of 7 taxa cannot be used: 3 synonym-like, 1 ambiguous, 1 missing; .*_missing"
    with pytest.raises(CampaignError, match=expected) as caught:
        build_plan(lake, asking(LIST), "mini", release)
    assert lake.uri(report_key("frogs")) in str(caught.value)
    rows = list(csv.DictReader(io.StringIO(lake.get(report_key("frogs")).decode())))
    assert [(row["line"], row["asked"], row["status"], row["taxon_id"]) for row in rows] == [
        ("1", "Rana una", "matched", "102"),
        ("2", "Rana prisca", "synonym-like", ""),
        ("3", "Prunella", "ambiguous", ""),
        ("4", "Rana duo", "synonym-like", ""),
        ("5", "Xylophagus", "missing", ""),
        ("6", "103", "matched", "103"),
        ("7", "900", "synonym-like", ""),
    ]
    assert report_counts(lake, "frogs") == {"matched": 2, "synonym-like": 3, "ambiguous": 1, "missing": 1}


def test_what_is_missing_is_left_out_if_the_campaign_says_so(
    lake: Lake, release: str, asking: Callable[..., Campaign]
) -> None:
    plan = build_plan(lake, asking(LIST, "taxa_missing: skip\n"), "mini", release)
    assert [one.key for one in plan.partitions] == ["rana-una-102"]
    strict = asking("Rana una\n103\n")
    assert plan.parameters != build_plan(lake, strict, "mini", release).parameters
    with pytest.raises(CampaignError, match="2 of 2 taxa cannot be used"):
        build_plan(lake, asking("Xylophagus\nYyy\n", "taxa_missing: skip\n"), "mini", release)


def test_an_exception_that_is_missing_is_never_left_out(
    lake: Lake, release: str, campaign: Callable[..., Campaign]
) -> None:
    asked = campaign(taxa=[{"taxon": 100, "except": ["Hila"]}], taxa_missing="skip")
    with pytest.raises(CampaignError, match="'Hila' is not in the source's taxa"):
        build_plan(lake, asked, "mini", release)


def test_thousands_of_names_take_seconds_at_most() -> None:
    count = 300_000
    rng = np.random.Generator(np.random.PCG64(1))
    letters = np.array(list("abcdefghijklmnoprstuvxyz"))

    def words(number: int, length: int) -> list[str]:
        return ["".join(row) for row in letters[rng.integers(0, len(letters), (number, length))]]

    genera = words(count // 10, 7)
    names = [f"{genera[at % len(genera)]} {word}".capitalize() for at, word in enumerate(words(count, 8))]
    columns = {
        "taxon_id": np.arange(count),
        "parent_id": pa.nulls(count, pa.int32()),
        "name": names,
        "rank": ["species"] * count,
        "rank_level": np.full(count, 10.0),
        "active": np.ones(count, np.bool_),
        "depth": np.zeros(count),
        "lft": np.arange(count) * 2,
        "rgt": np.arange(count) * 2 + 1,
    }
    table = pa.table({name: pa.array(values) for name, values in columns.items()}).cast(taxa_schema([]))
    asked = [*names[:2000], *(f"{name}x" for name in names[2000:2526])]
    taxonomy = Taxonomy(table)
    started = time.process_time()
    found = match_taxa(taxonomy, asked)
    assert time.process_time() - started < 10
    assert [match.status for match in found] == ["matched"] * 2000 + ["synonym-like"] * 526
    assert all(match.asked[:-1] in match.candidates[0] for match in found[2000:])  # type: ignore[index]
