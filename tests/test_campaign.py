"""The campaign file: every rule of docs/campaign-file.md, and errors that name the line."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from lakehouse.campaign import RANKS, Campaign, load_campaign, load_campaigns
from lakehouse.errors import CampaignError

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "campaign-file.md").read_text(encoding="utf-8")
FROGS = """\
name: frogs
title: Frogs
description: All frogs.
creators: [{name: Ann Other}]
taxa: [20979]
"""

Load = Callable[..., Campaign]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a small valid file, with `more` after its five lines, or with one line instead of another."""

    def run(more: str = "", *, instead_of: str = "", line: str = "") -> Campaign:
        text = FROGS.replace(instead_of + "\n", line + "\n" if line else "") if instead_of else FROGS
        (tmp_path / "frogs.yaml").write_text(text + more, encoding="utf-8")
        return load_campaign(tmp_path / "frogs.yaml")

    return run


@pytest.fixture
def listed(tmp_path: Path, load: Load) -> Callable[[str], Campaign]:
    """A campaign whose `taxa_file` holds the given text."""

    def run(text: str) -> Campaign:
        (tmp_path / "pests.csv").write_text(text, encoding="utf-8")
        return load(instead_of="taxa: [20979]", line="taxa_file: pests.csv")

    return run


def test_what_is_left_out_has_its_documented_default(load: Load) -> None:
    campaign = load()
    assert (campaign.source, campaign.label, campaign.image.slug) == ("inaturalist", "species", "medium")
    assert campaign.where.licenses == ("CC0", "CC-BY")
    assert campaign.splits == {"train": 0.8, "val": 0.1, "test": 0.1}


def test_the_examples_are_valid() -> None:
    assert {"demo", "pollinators"} <= set(load_campaigns(ROOT / "campaigns"))


def test_the_example_in_the_readme_is_valid(tmp_path: Path) -> None:
    example = (ROOT / "README.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "readme.yaml").write_text(example, encoding="utf-8")
    assert load_campaign(tmp_path / "readme.yaml").name == "bumblebees"


# --- keys


@pytest.mark.parametrize(
    ("more", "line", "message"),
    [
        ("wher:\n  quality: [research]\n", 6, "unknown key 'wher'; did you mean 'where'?"),
        ("where:\n  licences: [CC0]\n", 7, "unknown key 'licences'; did you mean 'licenses'?"),
        (
            "where:\n  observed:\n    from: 2020-01-01\n    untill: 2021-01-01\n",
            9,
            "unknown key 'untill'; the keys here are from, to",
        ),
        (
            "publish:\n  ckan:\n    organisation: aiira\n",
            8,
            "unknown key 'organisation'; did you mean 'organization'?",
        ),
        ("xyz: 1\n", 6, "unknown key 'xyz'; the keys here are name, title, description"),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_what_was_meant(
    load: Load, more: str, line: int, message: str
) -> None:
    with pytest.raises(CampaignError, match=re.escape(f"frogs.yaml:{line}: {message}")):
        load(more)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("taxa: [20979]", "taxa: [1, {taxon: Hyla, excpt: [3]}]", "5: unknown key 'excpt'; did you mean"),
        ("creators: [{name: Ann Other}]", "creators: [{name: Ann, urll: x}]", "4: unknown key 'urll'; did"),
    ],
)
def test_an_unknown_key_in_a_list_is_named_too(load: Load, old: str, new: str, message: str) -> None:
    with pytest.raises(CampaignError, match=re.escape(message)):
        load(instead_of=old, line=new)


@pytest.mark.parametrize("key", ["name", "title", "description", "creators"])
def test_a_required_key_must_be_given(load: Load, key: str) -> None:
    (line,) = (line for line in FROGS.splitlines() if line.startswith(key))
    with pytest.raises(CampaignError, match=f"'{key}' is missing; it must be given"):
        load(instead_of=line)


def test_a_key_given_twice_is_refused(load: Load) -> None:
    with pytest.raises(CampaignError, match=r"frogs.yaml:6: key 'title' is given twice"):
        load("title: Toads\n")


def test_a_nested_key_given_twice_is_refused(load: Load) -> None:
    with pytest.raises(CampaignError, match=r"frogs.yaml:8: key 'quality' is given twice"):
        load("where:\n  quality: [research]\n  quality: [casual]\n")


@pytest.mark.parametrize("name", ["Frogs", "f", "frogs_1", "-frogs", "frogs-", "f" * 61, "'../frogs'"])
def test_a_name_is_of_small_letters_digits_and_hyphens(load: Load, name: str) -> None:
    with pytest.raises(CampaignError, match=r"frogs.yaml:1: name: "):
        load(instead_of="name: frogs", line=f"name: {name}")


# --- values


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("where: {licenses: [CC-BY-XX]}", "where.licenses: licence 'CC-BY-XX' is not known; did you mean"),
        ("where: {licenses: [cc0]}", "licence 'cc0' is not known; did you mean CC0?"),
        ("where: {licenses: []}", "where.licenses: name at least one of CC0, PD, CC-BY"),
        ("where: {quality: [researched]}", "where.quality.0: Input should be 'research', 'needs_id' or"),
        ("where: {bbox: [0, 50, 10, 40]}", "where.bbox: bbox is [west, south, east, north]"),
        ("where: {bbox: [-181, 0, 10, 40]}", "where.bbox: bbox is [west, south, east, north]"),
        ("where: {bbox: [0, 0, 10, 91]}", "where.bbox: bbox is [west, south, east, north]"),
        ("where: {bbox: [0, .nan, 10, 40]}", "where.bbox: bbox is [west, south, east, north]"),
        ("where: {bbox: [1, 2, 3]}", "where.bbox: too few values"),
        ("where: {bbox: [1, 2, 3, 4, 5]}", "where.bbox: "),
        ("where: {observed: {from: 2020-01-02, to: 2020-01-01}}", "'from' (2020-01-02) is after 'to' (2020"),
        ("where: {observed: {from: 2020-02-30}}", "where.observed.from: Input should be a valid date"),
        ("where: {observed: {to: 2020}}", "where.observed.to: 2020 is not a date; write it as 2015-12-31"),
        ("where: {positional_accuracy_max: 0}", "where.positional_accuracy_max: "),
        ("where: {positional_accuracy_max: .inf}", "where.positional_accuracy_max: "),
        ("per_label: {min: 5, max: 4}", "per_label: 'max' (4) is below 'min' (5)"),
        ("per_label: {min: 0}", "per_label.min: "),
        ("image: {size: huge}", "image.size: Input should be 'original', 'large', 'medium', 'small'"),
        (
            "image: {keep: original, max_side: 300}",
            "image: 'keep: original' excludes 'max_side' and 'format'",
        ),
        ("image: {quality: 50}", "image: 'quality' needs 'max_side' or 'format'"),
        ("image: {format: jpeg, quality: 101}", "image.quality: "),
        ("image: {format: png}", "image.format: Input should be 'jpeg' or 'webp'"),
        ("coordinates: {decimals: 7}", "coordinates.decimals: "),
        ("partition: {max_photos: 0}", "partition.max_photos: "),
        ("splits: {train: 0.8, val: 0.1}", "the shares of the splits add up to 0.9; they must add up to 1"),
        ("splits: {train: 1, val: 0}", "the share of split 'val' is 0.0; it must be above 0"),
        ("splits: {train: 0.8, '../val': 0.2}", "split '../val' must be lower-case letters, digits and '_'"),
        ("splits: {}", "splits: "),
        ("gate: {max_failed: 2}", "gate.max_failed: "),
        ("publish: {ckan: {organization: A B}}", "publish.ckan.organization: "),
        ("label: specie", "label: label 'specie' is not a rank; did you mean 'species'?"),
        ("label: zz", "label: label 'zz' is not a rank; try 'species'"),
    ],
)
def test_a_wrong_value_is_refused_at_its_line(load: Load, more: str, message: str) -> None:
    with pytest.raises(CampaignError, match=re.escape("frogs.yaml:6: ") + ".*" + re.escape(message)):
        load(more)


def test_shares_that_add_up_but_for_rounding_are_accepted(load: Load) -> None:
    assert len(load("splits: {a: 0.1, b: 0.2, c: 0.3, d: 0.4}").splits) == 4


def test_a_box_may_cross_the_antimeridian(load: Load) -> None:
    assert load("where: {bbox: [170, -50, -170, -30]}").where.bbox == (170, -50, -170, -30)


def test_dates_are_dates_quoted_or_not(load: Load) -> None:
    observed = load("where: {observed: {from: 2020-01-01, to: '2021-12-31'}}").where.observed
    assert observed is not None
    assert (observed.from_, observed.to) == (date(2020, 1, 1), date(2021, 12, 31))


@pytest.mark.parametrize("rank", ["genus", "family", "subspecies"])
def test_a_label_is_any_rank_of_the_tree(load: Load, rank: str) -> None:
    assert load(f"label: {rank}").label == rank
    assert rank in RANKS


def test_an_image_that_is_encoded_anew_has_a_place_of_its_own(load: Load) -> None:
    assert load("image: {max_side: 384, format: webp, quality: 80}").image.slug == "medium-384-webp-q80"
    assert load("image: {max_side: 384}").image.slug == "medium-384-jpeg-q90"
    assert load("image: {size: small, keep: original}").image.slug == "small"


# --- taxa


def test_taxa_are_ids_names_and_subtrees(load: Load) -> None:
    campaign = load(instead_of="taxa: [20979]", line="taxa: [3, Hyla, {taxon: Rana, except: [24, R. una]}]")
    first, second, third = campaign.wanted
    assert (first, second) == (3, "Hyla")
    assert third.model_dump() == {"taxon": "Rana", "except_": (24, "R. una")}  # type: ignore[union-attr]


@pytest.mark.parametrize("taxon", ["yes", "0", "-3", "1.5", "null", "[3]"])
def test_a_taxon_is_an_id_or_a_name_and_nothing_like_one(load: Load, taxon: str) -> None:
    with pytest.raises(CampaignError, match=r"frogs.yaml:5: taxa.0: "):
        load(instead_of="taxa: [20979]", line=f"taxa: [{taxon}]")


def test_taxa_and_taxa_file_exclude_each_other(load: Load) -> None:
    with pytest.raises(CampaignError, match="either in 'taxa' or in 'taxa_file'"):
        load("taxa_file: pests.csv\n")


def test_some_taxa_must_be_named(load: Load) -> None:
    with pytest.raises(CampaignError, match="either in 'taxa' or in 'taxa_file'"):
        load(instead_of="taxa: [20979]")


@pytest.mark.parametrize(
    "text",
    [
        "20979\nHyla arborea\n",
        "taxon_id\n20979\nHyla arborea\n",
        "scientific_name,author\n20979,x\nHyla arborea,L.\n",
        "# pests\n\n20979\n  Hyla arborea  \n",
        '"20979"\n"Hyla arborea"\n',
        "\ufefftaxon\r\n20979\r\nHyla arborea\r\n",
    ],
    ids=["plain", "header", "csv", "comments", "quoted", "from a spreadsheet"],
)
def test_a_taxa_file_is_text_or_csv(listed: Callable[[str], Campaign], text: str) -> None:
    assert listed(text).wanted == (20979, "Hyla arborea")


def test_a_taxa_file_without_a_taxon_is_refused(listed: Callable[[str], Campaign]) -> None:
    campaign = listed("taxon\n# none yet\n")
    with pytest.raises(CampaignError, match="names no taxon; give one id or name a line"):
        _ = campaign.wanted


def test_a_taxa_file_that_is_not_there_is_named(load: Load) -> None:
    campaign = load(instead_of="taxa: [20979]", line="taxa_file: nowhere.csv")
    with pytest.raises(CampaignError, match=r"nowhere\.csv cannot be read"):
        _ = campaign.wanted


# --- files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": the file is empty"),
        ("# nothing yet\n", ": the file is empty"),
        ("- frogs\n", ":1: a campaign file is a mapping"),
        ("frogs\n", ":1: a campaign file is a mapping"),
        ("name: frogs\ntaxa: [1, 2\n", ":3: not valid YAML"),
        ("name:\tfrogs\n\ttaxa: 1\n", ":1: not valid YAML"),
        ("name: frogs\n---\nname: toads\n", ":2: not valid YAML"),
        ("name: !!python/object:os.system {}\n", ":1: not valid YAML"),
        ("name: \x01\n", ": not valid YAML"),
        ("name: &a [*a]\n", ": not valid YAML"),
    ],
)
def test_what_is_no_mapping_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CampaignError, match=re.escape(f"x.yaml{message}")) as caught:
        load_campaign(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(CampaignError, match=r"latin\.yaml cannot be read"):
        load_campaign(tmp_path / "latin.yaml")
    with pytest.raises(CampaignError, match=r"nowhere\.yaml does not exist"):
        load_campaign(tmp_path / "nowhere.yaml")


def test_a_wrong_campaign_is_wrong_usage() -> None:
    assert CampaignError.exit_code == 2


def test_a_folder_has_one_campaign_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FROGS, encoding="utf-8")
    (tmp_path / "b.yml").write_text(FROGS, encoding="utf-8")
    with pytest.raises(CampaignError, match=r"b\.yml: the name 'frogs' is taken by .*a\.yaml"):
        load_campaigns(tmp_path)


def test_a_folder_gives_its_campaigns_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FROGS, encoding="utf-8")
    (tmp_path / "b.yml").write_text(FROGS.replace("name: frogs", "name: toads"), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no campaign", encoding="utf-8")
    assert list(load_campaigns(tmp_path)) == ["frogs", "toads"]


# --- identity


def test_what_people_read_is_no_parameter(load: Load) -> None:
    one = load()
    other = load(instead_of="title: Frogs", line="title: Tree frogs and others")
    assert one.parameters() == other.parameters()
    assert {"name", "title", "description", "creators", "publish"}.isdisjoint(one.parameters())


@pytest.mark.parametrize("more", ["partition: {max_photos: 7}", "gate: {max_failed: 0.5}"])
def test_how_a_dataset_is_built_is_no_parameter(load: Load, more: str) -> None:
    assert load(more).parameters() == load().parameters()


@pytest.mark.parametrize(
    "more",
    [
        "label: genus",
        "where: {quality: [casual]}",
        "per_label: {max: 9}",
        "image: {size: small}",
        "coordinates: {decimals: 3}",
        "splits: {train: 0.9, test: 0.1}",
        "source: embedded",
    ],
)
def test_what_decides_the_data_is_a_parameter(load: Load, more: str) -> None:
    assert load(more).parameters() != load().parameters()


def test_the_order_of_licences_does_not_matter(load: Load) -> None:
    one, other = "where: {licenses: [CC0, CC-BY]}", "where: {licenses: [CC-BY, CC0]}"
    assert load(one).parameters() == load(other).parameters()


def test_taxa_from_a_file_are_parameters_like_those_of_the_campaign(
    load: Load, listed: Callable[[str], Campaign]
) -> None:
    assert listed("20979\n").parameters() == load().parameters()


def test_parameters_are_plain_json_values(load: Load) -> None:
    parameters = load("where: {observed: {from: 2020-01-01}}").parameters()
    assert parameters["where"]["observed"] == {"from": "2020-01-01", "to": None}
    assert parameters["image"] == "medium"


# --- the guide


def documented() -> dict[str, str]:
    """Key of the campaign file -> what the guide's table gives as its default."""
    table: dict[str, str] = {}
    for row in GUIDE.splitlines():
        if not row.startswith("| `"):
            continue
        keys, _, default = (cell.strip() for cell in row.strip("|").split("|"))
        first, *others = re.findall(r"`([^`]+)`", keys)
        table[first] = default
        # A short name stands below what the first of its row stands below, if it is no key itself.
        above = first.rpartition(".")[0]
        table |= {name if not above else f"{above}.{name}": default for name in others}
    return table


def test_every_key_is_documented() -> None:
    sections = {key.partition(".")[0] for key in documented()}
    # In the file, this one is splits.group_by.
    assert set(Campaign.model_fields) - {"splits_group_by"} == sections


@pytest.mark.parametrize("section", ["where", "image", "coordinates", "partition", "gate"])
def test_every_key_of_a_section_is_documented(section: str) -> None:
    model = Campaign.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    keys = {key.partition(".")[2] for key in documented() if key.startswith(f"{section}.")}
    assert keys == set(model.model_fields)


def test_the_documented_defaults_are_the_real_ones(load: Load) -> None:
    values: dict[str, Any] = load().model_dump(mode="json", exclude_none=True, by_alias=True)
    found, said = {}, {}
    for key, default in documented().items():
        if re.fullmatch(r"`[^`]+`", default) and key != "taxa":
            value: Any = values
            for step in key.replace("splits.", "splits_").split("."):
                value = value[step]
            found[key], said[key] = value, yaml.safe_load(default.strip("`"))
    assert found == said
    assert len(found) > 8


def test_splits_may_be_grouped_by_observer(load: Load) -> None:
    campaign = load("splits: {train: 0.5, test: 0.5, group_by: observer}")
    assert (campaign.splits, campaign.splits_group_by) == ({"train": 0.5, "test": 0.5}, "observer")
    assert campaign.parameters()["splits_group_by"] == "observer"
    assert "splits_group_by" not in load().parameters()


@pytest.mark.parametrize(
    ("text", "rule", "distance"),
    [("dedupe: exact", "exact", None), ("dedupe: near", "near", None),
     ("dedupe: {rule: near, distance: 4}", "near", 4), ("", "none", None)],
)  # fmt: skip
def test_a_rule_for_copies_is_a_word_or_more(load: Load, text: str, rule: str, distance: int | None) -> None:
    campaign = load(text)
    assert (campaign.dedupe.rule, campaign.dedupe.distance) == (rule, distance)
    assert ("dedupe" in campaign.parameters()) == bool(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("splits: {train: 1, group_by: moon}", "group_by"),
        ("splits_group_by: observer", "splits: {..., group_by: observer}"),
        ("dedupe: all", "dedupe"),
        ("dedupe: {rule: exact, distance: 2}", "'distance' needs 'rule: near'"),
        ("dedupe: {rule: near, distance: 9}", "distance"),
        ("per_label: {min_per_split: -1}", "min_per_split"),
    ],
)
def test_what_groups_or_dedupes_nothing_is_refused(load: Load, text: str, message: str) -> None:
    with pytest.raises(CampaignError, match=re.escape(message)):
        load(text)
