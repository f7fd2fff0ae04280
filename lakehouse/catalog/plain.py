"""Text of others made fit for formats that have no room for everything Unicode has: XML, YAML, JSON-LD,
tables."""

from __future__ import annotations

import unicodedata

# What turns the direction of the text around it: legitimate in a word processor, a way to make one thing
# look like another in a list of names. Letters of right-to-left scripts need none of these.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# XML 1.0 cannot hold control characters, lone surrogates and noncharacters in any form (section 2.2).
_UNPRINTABLE = {"Cc", "Cs"}


def plain(value: str) -> str:
    """One line without control characters, lone surrogates, noncharacters and changes of direction."""
    kept = (
        " " if char.isspace() else char
        for char in value
        if char.isspace()
        or not (
            unicodedata.category(char) in _UNPRINTABLE
            or char in _TURNING
            or ord(char) & 0xFFFE == 0xFFFE
            or 0xFDD0 <= ord(char) <= 0xFDEF
        )
    )
    return " ".join("".join(kept).split())


def is_web_address(url: str | None) -> bool:
    """Whether `url` is an http(s) address that may be linked: with a host, and without spaces or controls."""
    if not url or plain(url) != url or any(char in " \"'<>\\^`{|}" for char in url):
        return False
    scheme, separator, rest = url.partition("://")
    return scheme.lower() in ("http", "https") and bool(separator) and bool(rest.split("/")[0])
