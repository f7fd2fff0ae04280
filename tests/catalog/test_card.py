"""The dataset card: complete for people, readable for the Hub, and safe against what names may hold."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from lakehouse.campaign import Creator
from lakehouse.catalog.card import render_card
from lakehouse.catalog.card_front import size_category
from lakehouse.catalog.markdown import text

FIGURES = {"strip": "figures/strip.jpg", "map": "figures/map.png"}


def front_matter(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found is not None
    return dict(yaml.safe_load(found[1]))


@pytest.fixture(scope="module")
def card(export) -> str:
    return render_card(export.version, export.root, export.statistics, export.files, FIGURES)


def test_the_hub_reads_licence_size_and_splits(card: str) -> None:
    front = front_matter(card)
    assert front["license"] == ["cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0"]
    assert front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["image-classification"]
    assert front["configs"][0]["data_files"] == [
        {"split": split, "path": f"data/{split}-*.tar"} for split in ("train", "val", "test")
    ]
    assert "synthetic" in front["tags"]


@pytest.mark.parametrize(
    "heading",
    [
        "## Dataset Details",
        "## Dataset Structure",
        "### Data Splits",
        "## Dataset Creation",
        "### Personal and Sensitive Information",
        "## Considerations for Using the Data",
        "## Licensing Information",
        "## Citation",
        "## Removal",
    ],
)
def test_the_template_is_followed(card: str, heading: str) -> None:
    assert f"\n{heading}\n" in card


def test_numbers_and_biases_come_from_the_data(export, card: str) -> None:
    assert f"**{export.statistics.photos:,} photographs**" in card
    assert f"Gini coefficient {export.statistics.gini:.2f}" in card
    assert f"{export.statistics.licenses['CC-BY']:,} | 50.0%" in card
    assert export.root.content_id in card


def test_only_the_figures_there_are_are_shown(card: str) -> None:
    assert "(figures/strip.jpg)" in card
    assert "(figures/map.png)" in card
    assert card.count("![") == 2


def test_a_lake_has_no_split_files_to_configure(lake) -> None:
    card = render_card(lake.version, lake.root, lake.statistics, lake.files)
    assert "configs" not in front_matter(card)
    assert "load_dataset" not in card


def test_a_folder_of_photographs_is_configured_by_folder(export) -> None:
    names = {"train": "data/train/Apis_mellifera_1/1.jpg", "test": "data/test/Apis_mellifera_1/2.jpg"}
    photographs = [
        replace(export.files[0], name=name, url=name, split=split, media_type="image/jpeg")
        for split, name in names.items()
    ]
    others = [file for file in export.files if file.role != "shard"]
    card = render_card(export.version, export.root, export.statistics, [*photographs, *others])
    front = front_matter(card)
    assert front["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train/**"}
    assert "imagefolder" in front["tags"]
    assert "mlcroissant" not in card
    assert 'load_dataset("imagefolder", data_files="data/train/**"' in card


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "[click](https://evil.example)",
        "![x](https://evil.example/x.png)",
        "a | b | c",
        "`code` *bold* _em_ ~~gone~~",
        "https://evil.example and www.evil.example @someone",
        "title\n---\nlicense: mit\n---\n# Heading",
        "# Heading",
        "1. list",
        "- list",
        "&lt;b&gt;",
    ],
)
def test_untrusted_text_cannot_become_markup(export, hostile: str) -> None:
    about = export.version.about.model_copy(
        update={
            "title": hostile,
            "description": hostile,
            "creators": (Creator(name=hostile, url="javascript:alert(1)"),),
        }
    )
    version = export.version.model_copy(update={"about": about})
    labels = (export.statistics.labels[0].model_copy(update={"label": hostile}),)
    statistics = export.statistics.model_copy(update={"labels": labels})
    card = render_card(version, export.root, statistics, export.files)
    body = card.split("\n---\n", 1)[1]
    tokens = rendered(body)
    assert not [token for token in tokens if token.type.startswith("html")]
    links = [str(token.attrs["href"]) for token in tokens if token.type == "link_open"]
    assert {link.split("/")[2] for link in links} == {"creativecommons.org", "example.org"}
    assert not [token for token in tokens if token.type == "image"]
    # Hosting sites make links and mentions even of bare text.
    assert not re.search(r"https?://evil|www\.evil|@someone", body.partition("## Citation")[0])
    plain = " ".join(hostile.split())
    assert heading(tokens) == plain
    assert [cells[0] for cells in table_rows(tokens) if cells[1:] == ["Insecta", "22"]] == [plain]
    assert front_matter(card)["license"] == ["cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0"]
    assert front_matter(card)["pretty_name"] == plain


def rendered(markdown: str) -> list[Token]:
    """The tokens of the text as CommonMark with tables, inline ones included, in order."""
    blocks = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    return [token for block in blocks for token in (block, *(block.children or ()))]


def heading(tokens: list[Token]) -> str:
    """What a reader sees as the first heading."""
    place = next(place for place, token in enumerate(tokens) if token.type == "heading_open")
    return seen(tokens[place + 1])


def table_rows(tokens: list[Token]) -> list[list[str]]:
    """What a reader sees in the cells of all tables."""
    rows: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "td_open":
            rows[-1].append(seen(tokens[place + 1]))
    return rows


def seen(inline: Token) -> str:
    """The text of an inline token without its markup."""
    return "".join(token.content for token in inline.children or () if token.type in ("text", "text_special"))


@pytest.mark.parametrize(
    "plain",
    ["Bombus terrestris", "Pollinators of North America (2015-2025)", "Ümläute und 日本語", "5 species"],
)
def test_ordinary_text_is_left_alone(plain: str) -> None:
    assert text(plain) == plain


@pytest.mark.parametrize(
    "photos,category", [(0, "n<1K"), (1_000, "1K<n<10K"), (5_000_000, "1M<n<10M"), (10**10, "n>1B")]
)
def test_sizes_are_in_the_hubs_words(photos: int, category: str) -> None:
    assert size_category(photos) == category
