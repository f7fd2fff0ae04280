"""The dataset card: complete for people, readable for the Hub, and safe against what names may hold."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from lakehouse.campaign import Creator
from lakehouse.catalog.card import render_card
from lakehouse.catalog.card_front import size_category
from lakehouse.catalog.markdown import linked, table, text
from lakehouse.catalog.sheet import shown
from lakehouse.snapshots.diff import LabelChanges

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
        "### Dataset Description",
        "### Supported Tasks and Leaderboards",
        "### Data Instances",
        "### Data Fields",
        "### Curation Rationale",
        "#### Data Collection and Processing",
        "#### Who are the source data producers?",
        "#### Annotation process",
        "#### Who are the annotators?",
        "### Bias, Risks, and Limitations",
        "### Recommendations",
        "## Acknowledgements",
        "## Glossary",
        "## Dataset Card Authors",
        "## Dataset Card Contact",
    ],
)
def test_the_template_is_followed(card: str, heading: str) -> None:
    assert f"\n{heading}\n" in card


def test_numbers_and_biases_come_from_the_data(export, card: str) -> None:
    assert f"**{export.statistics.photos:,} photographs**" in card
    assert f"Gini coefficient {export.statistics.gini:.2f}" in card
    assert f"{export.statistics.licenses['CC-BY']:,} | 50.0%" in card
    assert export.root.content_id in card


def test_what_is_shown_is_credited(export) -> None:
    photographs = shown(export.manifest, export.statistics, 4)
    card = render_card(
        export.version, export.root, export.statistics, export.files, FIGURES, photographs=photographs
    )
    for one in photographs:
        assert f"[{one.photo_id}]({one.observation_url}) {one.creator} ({one.license})" in card


def test_what_changed_since_the_version_before_is_told_by_label(export) -> None:
    version = export.version.model_copy(update={"parent": "4" * 64, "changes": {"added": 3, "removed": 1}})
    changed = [
        LabelChanges("Turdus merula", 9, 11, 3, 1, 0, 0, 0),
        *(LabelChanges(f"x{n}", 4, 5, 1, 0, 0, 0, 0) for n in range(20)),
    ]
    card = render_card(version, export.root, export.statistics, export.files, changed=changed)
    rows = table_rows(rendered(card.split("\n---\n", 1)[1]))
    assert ["added", "3"] in rows
    assert ["Turdus merula", "3", "1", "0", "0"] in rows
    assert "(10 of 21)" in card
    assert "This is the first version." not in card


def test_the_first_version_says_so(card: str) -> None:
    assert "This is the first version." in card


def test_whom_to_ask_for_removal_is_told(card: str) -> None:
    removal = card.partition("## Removal")[2].partition("## ")[0]
    assert "Ada\\_Example" in removal
    assert "https&#58;//orcid.org/0000-0002-1825-0097" in removal


def test_real_photographs_credit_their_source_and_drawn_ones_do_not(export, card: str) -> None:
    inputs = export.root.inputs.model_copy(update={"source": "inaturalist"})
    real = render_card(
        export.version,
        export.root.model_copy(update={"inputs": inputs}),
        export.statistics,
        export.files,
    )
    assert "Please cite the source too: [inaturalist](https://example.org/open-data)" in real
    assert "Please cite the source too" not in card
    assert "**Synthetic.**" in card and "**Synthetic.**" not in real


@pytest.mark.parametrize("codes,warned", [({"CC-BY-SA": 1, "CC-BY-NC": 1}, True), ({"CC-BY": 2}, False)])
def test_licences_that_do_not_go_together_are_told(export, codes: dict[str, int], warned: bool) -> None:
    statistics = export.statistics.model_copy(update={"licenses": codes})
    card = render_card(export.version, export.root, statistics, export.files)
    assert ("No single adapted work may be made" in card) is warned


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


# --- whatever people call themselves


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError("nothing may be hidden")


HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet="<>&\"'`*_[]()!|~$\\#+-=.:/@ \n\t1ahtpsw", max_size=40),
    st.sampled_from(
        ["<script>", "![](", "](", "<!--", "-->", "&lt;", "\n\n# ", "---\n", "```", "=cmd|'/C'!A0"]
    ).flatmap(lambda start: st.text(max_size=8).map(lambda rest: start + rest)),
)


@given(name=HOSTILE)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_seen_as_it_was_written(name: str) -> None:
    page = browser(f"- {text(name)}")
    assert page.tags == ["ul", "li"]
    assert " ".join(page.text.split()) == " ".join(name.replace("\0", "\ufffd").split())


@given(name=HOSTILE)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_stays_in_its_cell(name: str) -> None:
    page = browser(table(("a", "b"), [(text(name), "1")]))
    assert page.tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]


@given(name=HOSTILE, url=HOSTILE)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_link_leads_to_the_web_and_has_nothing_else_in_it(name: str, url: str) -> None:
    for address in (url, f"https://{url}", f"javascript:{url}"):
        page = browser(f"x {linked(name, address)}")
        assert page.tags in (["p"], ["p", "a"])
        if page.tags == ["p", "a"]:
            assert address.startswith(("http://", "https://"))


@given(title=HOSTILE.filter(str.strip), description=HOSTILE.filter(str.strip))
@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
def test_no_title_can_change_what_the_hub_reads(export, title: str, description: str) -> None:
    about = export.version.about.model_copy(update={"title": title, "description": description})
    version = export.version.model_copy(update={"about": about})
    card = render_card(version, export.root, export.statistics, export.files)
    front = front_matter(card)
    assert front["license"] == ["cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0"]
    assert front["pretty_name"] == " ".join(title.split())
    assert front["description"] == " ".join(description.split())
    assert list(front) == list(
        front_matter(render_card(export.version, export.root, export.statistics, export.files))
    )


def browser(markdown: str) -> Page:
    page = Page()
    page.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
    page.close()
    return page
