"""Campaign files and sources that are wrong: one sentence that says what and where, and no traceback."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Lakehouse, Pond
from tests.conftest import ROOT
from tests.images.conftest import free_port

CampaignFile = Callable[..., Path]


# --- campaign files


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tax": ["Rana"]}, ":10: unknown key 'tax'; did you mean 'taxa'?"),
        ({"where": {"licences": ["CC0"]}}, ":11: unknown key 'licences'; did you mean 'licenses'?"),
        ({"where": {"licenses": ["CC-BI"]}}, "licence 'CC-BI' is not known; did you mean CC-BY?"),
        ({"where": {"licenses": ["all rights reserved"]}}, "licence 'all rights reserved' is not known"),
        ({"name": "Frogs!"}, ":1: name: "),
        ({"label": "specis"}, "label 'specis' is not a rank; did you mean 'species'?"),
        ({"splits": {"train": 0.8, "test": 0.1}}, "add up to 0.9"),
        ({"taxa": []}, "taxa"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_campaign_file_that_breaks_a_rule_is_refused_by_line(
    lakehouse: Lakehouse, campaign_file: CampaignFile, wrong: dict[str, object], sentence: str
) -> None:
    path = campaign_file(**wrong)
    said = lakehouse("plan", path)
    assert said.code == 2
    assert said.error.startswith(f"{path}:") and sentence in said.error


def test_a_campaign_file_that_is_missing_is_named(lakehouse: Lakehouse, tmp_path: Path) -> None:
    said = lakehouse("build", tmp_path / "nowhere.yaml")
    assert said.code == 2
    assert said.error.startswith(f"campaign file {tmp_path / 'nowhere.yaml'} does not exist")


def test_a_campaign_that_is_not_in_the_folder_is_told_which_are(lakehouse: Lakehouse) -> None:
    said = lakehouse("build", "nowhere")
    assert said.code == 2
    assert f"'nowhere' is neither a file nor a campaign in {ROOT / 'campaigns'}" in said.error
    assert "demo, pollinators" in said.error


@pytest.mark.parametrize(
    ("taxon", "sentence"),
    [
        ("Inseta", "taxon 'Inseta' is not in the source's taxa; did you mean 'Insecta'?"),
        ("Tyrannosaurus", "taxon 'Tyrannosaurus' is not in the source's taxa; check the id or the spelling"),
        (999999999, "taxon 999999999 is not in the source's taxa"),
        (21028, "taxon 21028 is inactive: Colostethus alacris"),
        (
            "Prunella",
            "taxon 'Prunella' names 2 active taxa: Prunella (genus, id 13982, in Animalia); "
            "Prunella (genus, id 52765, in Plantae); give the id of the one you mean",
        ),
    ],
    ids=str,
)
def test_a_taxon_that_names_no_one_taxon_is_refused_by_line(
    on_copy: Lakehouse, campaign_file: CampaignFile, taxon: int | str, sentence: str
) -> None:
    path = campaign_file(name="lost", source="embedded", taxa=["Aves", taxon])
    said = on_copy("plan", path)
    assert said.code == 2
    assert said.error.startswith(f"{path}:9: ") and sentence in said.error


def test_an_unknown_taxon_is_json_where_a_script_listens(
    on_copy: Lakehouse, campaign_file: CampaignFile
) -> None:
    said = on_copy("build", campaign_file(name="lost", source="embedded", taxa=["Inseta"]), "--json")
    assert said.code == 2 and said.err == ""
    assert said.json["exit_code"] == 2
    assert "did you mean 'Insecta'?" in said.json["error"]


# --- sources


def replace_header(pond: Pond) -> None:
    pond.raw["taxa"] = b"id\tname\n1\tAnimalia\n"


def cut_after_header(pond: Pond) -> None:
    pond.raw["observers"] = gzip.compress(b"observer_id\tlogin\tname\n")


def empty(pond: Pond) -> None:
    pond.raw["photos"] = b""


def pack_nothing(pond: Pond) -> None:
    pond.raw["photos"] = gzip.compress(b"")


def break_gzip(pond: Pond) -> None:
    pond.raw["taxa"] = (pond.directory / "taxa.csv.gz").read_bytes()[:-20]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (replace_header, "line 1 is 'id\\tname', expected the header 'taxon_id\\tancestry"),
        (cut_after_header, "observers.csv.gz of source"),
        (cut_after_header, "has no rows (0 lines rejected); wait for a complete export"),
        (empty, "photos.csv.gz is empty (0 bytes); wait until its upload is complete"),
        (pack_nothing, "holds nothing; wait for a complete export"),
        (break_gzip, "taxa.csv.gz of source"),
    ],
)
def test_a_table_that_is_no_such_table_is_refused(
    lakehouse: Lakehouse,
    pond: Pond,
    campaign_file: CampaignFile,
    harm: Callable[[Pond], None],
    sentence: str,
) -> None:
    harm(pond)
    pond.write()
    said = lakehouse("build", campaign_file())
    assert said.code == 1
    assert sentence in said.error


def test_a_table_that_is_missing_is_named_with_its_place(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    (pond.directory / "photos.csv.gz").unlink()
    said = lakehouse("plan", campaign_file())
    assert said.code == 1
    assert f"{pond.directory / 'photos.csv.gz'} is not there (nor photos.csv)" in said.error


def test_a_refused_dump_leaves_no_release_and_its_repair_is_taken_in(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    replace_header(pond)
    pond.write()
    assert lakehouse("build", campaign_file()).code == 1
    pond.raw.clear()
    pond.write()
    assert lakehouse("build", campaign_file(), "--json").json["photos"] == 7


def test_a_source_that_is_no_directory_is_refused_by_its_address(
    lakehouse: Lakehouse, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    said = lakehouse("plan", campaign_file(source=str(tmp_path / "nowhere")))
    assert said.code == 2
    assert str(tmp_path / "nowhere") in said.error


def test_a_source_that_does_not_answer_is_named(
    lakehouse: Lakehouse, campaign_file: CampaignFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.sources.transport.time.sleep", lambda seconds: None)
    address = f"http://127.0.0.1:{free_port()}"
    said = lakehouse("plan", campaign_file(source=address))
    assert said.code == 1
    assert said.error.startswith(f"{address}/observations.csv.gz cannot be reached")


def test_a_campaign_without_any_photo_is_told_why(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    said = lakehouse("build", campaign_file(where={"licenses": ["CC0"]}))
    assert said.code == 1
    assert "campaign 'frogs' has no stored photo" in said.error
    assert "7 excluded.licence" in said.error


def test_a_folder_that_lost_all_its_photographs_is_accused_and_not_believed(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    for photo_id in range(8, 80):
        pond.frog(photo_id, 102)
    pond.write()
    shutil.rmtree(pond.directory / "photos")
    said = lakehouse("build", campaign_file())
    assert said.code == 1
    assert "denies photo after photo" in said.error and "none of them was recorded as gone" in said.error
    assert not (tmp_path / "lake" / "refs").exists()
