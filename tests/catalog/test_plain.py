"""Text of others, cleaned for formats that cannot hold everything."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.catalog.plain import is_web_address, plain


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("  Ann \t Other\r\n", "Ann Other"),
        ("a\x00b\x1bc\x9fd", "abcd"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("\ud800lone", "lone"),
        ("not a character \ufffe\ufdd0", "not a character"),
        ("two\u2028lines", "two lines"),
        ("محمد بن سلمان", "محمد بن سلمان"),
        ("日本 🐝 naïve", "日本 🐝 naïve"),
        ("=1+1 <b>&amp;</b>", "=1+1 <b>&amp;</b>"),
    ],
)
def test_only_what_no_format_can_hold_is_taken_out(given_: str, wanted: str) -> None:
    assert plain(given_) == wanted


@given(st.text(st.characters(codec=None)))
def test_what_is_left_of_any_text_survives_xml(value: str) -> None:
    element = ET.Element("a")
    element.text = plain(value)
    assert (ET.fromstring(ET.tostring(element, "utf-8")).text or "") == plain(value)
    assert plain(plain(value)) == plain(value)


@pytest.mark.parametrize("url", ["https://orcid.org/0000-0002-1825-0097", "http://example.org/a?b=c#d"])
def test_web_addresses_may_be_linked(url: str) -> None:
    assert is_web_address(url)


@pytest.mark.parametrize(
    "url",
    [
        *(None, "", "javascript:alert(1)", "https://", "ftp://example.org", "data:text/html,x"),
        *('https://a"onload="x', "https://a b", " https://example.org", "//example.org"),
        "https://a\u202egro.elpmaxe",
    ],
)
def test_nothing_else_may(url: str | None) -> None:
    assert not is_web_address(url)
