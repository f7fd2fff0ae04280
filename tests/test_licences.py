"""Licences: eight are known, and what each allows follows from its code."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.licences import LICENCES, PROFILES, attribution

ROOT = Path(__file__).parents[1]


def test_the_licences_are_those_of_open_data_by_their_code() -> None:
    creative_commons = {"CC-BY", "CC-BY-SA", "CC-BY-ND", "CC-BY-NC", "CC-BY-NC-SA", "CC-BY-NC-ND"}
    assert set(LICENCES) == {"CC0", "PD"} | creative_commons
    assert all(code == licence.code for code, licence in LICENCES.items())


def test_every_licence_has_an_address_and_a_title_of_its_own() -> None:
    assert len({licence.url for licence in LICENCES.values()}) == len(LICENCES)
    assert len({licence.title for licence in LICENCES.values()}) == len(LICENCES)
    assert all(licence.url.startswith("https://creativecommons.org/") for licence in LICENCES.values())


def test_creative_commons_licences_are_of_version_four() -> None:
    assert LICENCES["CC-BY-NC-SA"].url == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert LICENCES["CC-BY-NC-SA"].spdx == "CC-BY-NC-SA-4.0"


def test_nc_forbids_commercial_use_and_nd_forbids_adaptations() -> None:
    assert {code for code, licence in LICENCES.items() if not licence.commercial} == {
        "CC-BY-NC",
        "CC-BY-NC-SA",
        "CC-BY-NC-ND",
    }
    assert {code for code, licence in LICENCES.items() if not licence.derivatives} == {
        "CC-BY-ND",
        "CC-BY-NC-ND",
    }


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("CC-BY", "© Ann Other, some rights reserved (CC-BY)"),
        ("CC0", "Ann Other, no rights reserved (CC0)"),
        ("PD", "Ann Other, no known copyright restrictions (public domain)"),
    ],
)
def test_the_attribution_line_names_creator_and_licence(code: str, line: str) -> None:
    assert attribution(code, "Ann Other") == line


def test_a_creator_with_braces_is_taken_as_it_is() -> None:
    assert attribution("CC-BY", "{creator} {0}") == "© {creator} {0}, some rights reserved (CC-BY)"


def test_an_unknown_licence_is_never_attributed() -> None:
    with pytest.raises(KeyError):
        attribution("CC-BY-XX", "Ann Other")


def test_the_documented_licences_are_the_known_ones() -> None:
    text = (ROOT / "docs" / "campaign-file.md").read_text(encoding="utf-8")
    assert f"`{' '.join(LICENCES)}`" in text


def test_profiles_widen_one_after_the_other() -> None:
    open_, noncommercial, everything = (set(PROFILES[name]) for name in ("open", "noncommercial", "all-cc"))
    assert open_ == {"CC0", "PD", "CC-BY", "CC-BY-SA"}
    assert noncommercial - open_ == {"CC-BY-NC", "CC-BY-NC-SA"}
    assert everything == set(LICENCES)
