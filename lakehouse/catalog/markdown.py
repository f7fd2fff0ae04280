"""Markdown that holds text of others: names, titles and descriptions can never become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence


def text(value: str) -> str:
    """Untrusted text as one line of Markdown that renders as it was written."""
    line = " ".join(value.split())
    escaped = html.escape(line, quote=False)
    # `&` of the entities stays; everything that can begin markup, a table cell or a link does not.
    escaped = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", escaped)
    # An address would become a link by itself, and a leading mark a list, a rule or a heading.
    escaped = re.sub(r"(?i)\b(https?|ftp|mailto)(:)|\b(www)(\.)", _defused, escaped)
    escaped = escaped.replace("@", "&#64;")
    return re.sub(
        r"^(\d+)([.)])|^([-=+#])", lambda found: f"{found[1] or ''}\\{found[2] or found[3]}", escaped
    )


def _defused(found: re.Match[str]) -> str:
    return f"{found[1]}&#58;" if found[1] else f"{found[3]}&#46;"


def figure(figures: Mapping[str, str], name: str, caption: str) -> str:
    """An image if there is one of that name, else nothing."""
    return f"![{caption}]({figures[name]})" if name in figures else ""


def linked(name: str, url: str | None) -> str:
    """A name that leads to a web address; just the name if it is none."""
    # Only web addresses become links; what Markdown would take for the end of one is percent-encoded.
    if url is None or not re.match(r"https?://[^\s]+$", url):
        return text(name)
    safe = re.sub(r"[()<>\[\]\\\"'`|]", lambda found: f"%{ord(found[0]):02X}", url)
    return f"[{text(name)}]({safe})"


def bullets(lines: Iterable[str]) -> str:
    """Lines of untrusted text as a list."""
    return "\n".join(f"- {text(line)}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown."""
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
