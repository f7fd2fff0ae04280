"""Finding the taxa that a list names: all at once, each matched or left with the reason why not.

The dump has no map of synonyms. A name that only an inactive taxon has, or that nearly is another one, is
*synonym-like*: the candidates are for a person to look at, and are never taken on their own.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow.compute as pc

from lakehouse.campaign import Taxon
from lakehouse.lake import Lake
from lakehouse.metadata.spelling import close_names, readings, rows_by_name
from lakehouse.metadata.taxonomy import Taxonomy

Status = Literal["matched", "synonym-like", "ambiguous", "missing"]
STATUSES: tuple[Status, ...] = ("matched", "synonym-like", "ambiguous", "missing")
COLUMNS = ("line", "asked", "status", "taxon_id", "name", "rank", "reason", "candidates")


@dataclass(frozen=True, slots=True)
class Match:
    """What became of one taxon asked for: `taxon_id` if it is matched, else `candidates`; `reason` says why,
    or how it was read."""

    asked: Taxon
    status: Status
    taxon_id: int | None
    reason: str
    candidates: tuple[str, ...]


def match_taxa(taxonomy: Taxonomy, asked: Sequence[Taxon]) -> list[Match]:
    """Match ids and names against a release, in the order asked; thousands take seconds.

    A name that no active taxon has is also read without authorship, marks of rank and oddities of case and
    space (`spelling.readings`); if it so is the name of one active taxon, that is the match, and the reason
    says so.
    """
    exact = rows_by_name(taxonomy.names, (str(taxon) for taxon in asked if not _is_id(taxon)))
    names = {str(taxon) for taxon in asked if not _is_id(taxon) and not _active(taxonomy, exact[str(taxon)])}
    read = _read(taxonomy, names)
    lost = {_plain(name) for name in names if not _active(taxonomy, read.get(name, []))}
    close = close_names(taxonomy.names, taxonomy.active, lost)
    return [_match(taxonomy, taxon, exact, read, close) for taxon in asked]


def _read(taxonomy: Taxonomy, names: set[str]) -> dict[str, list[int]]:
    """The rows of the first reading of each name that some taxon has, of an active one if there is one."""
    ways = {name: readings(name) for name in names}
    if not ways:
        return {}
    found = rows_by_name(pc.utf8_lower(taxonomy.names), (way for several in ways.values() for way in several))
    chosen = {}
    for name, several in ways.items():
        rows = [found[way] for way in several if found[way]]
        if rows:
            chosen[name] = next((one for one in rows if _active(taxonomy, one)), rows[0])
    return chosen


def _plain(name: str) -> str:
    """The name to look for among others: its last reading."""
    return readings(name)[-1] if name.strip() else name


def counts(matches: Iterable[Match]) -> dict[str, int]:
    """How many are of each status, those that occur."""
    found = Counter(match.status for match in matches)
    return {status: found[status] for status in STATUSES if found[status]}


def report_key(campaign: str) -> str:
    """The key of a campaign's report on its taxa."""
    return f"campaigns/{campaign}/taxa.csv"


def write_report(
    lake: Lake, campaign: str, taxonomy: Taxonomy, matches: Sequence[Match], lines: Sequence[int | None]
) -> str:
    """Write what became of each taxon as a table (`COLUMNS`); returns where it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for match, line in zip(matches, lines, strict=True):
        taxon = taxonomy.resolve(match.taxon_id) if match.taxon_id is not None else None
        place = [taxon.taxon_id, taxon.name, taxon.rank] if taxon else [None, None, None]
        writer.writerow([line, match.asked, match.status, *place, match.reason, "; ".join(match.candidates)])
    lake.put(report_key(campaign), text.getvalue().encode())
    return lake.uri(report_key(campaign))


def report_counts(lake: Lake, campaign: str) -> dict[str, int]:
    """How many taxa of the report on a campaign are of each status; raises NotFoundError if it has none."""
    rows = csv.DictReader(io.StringIO(lake.get(report_key(campaign)).decode()))
    found = Counter(row["status"] for row in rows)
    return {status: found[status] for status in STATUSES if found[status]}


def _is_id(taxon: Taxon) -> bool:
    return isinstance(taxon, int) or taxon.isdecimal()


def _active(taxonomy: Taxonomy, rows: Sequence[int]) -> list[int]:
    return [row for row in rows if taxonomy.is_active(row)]


def _match(
    taxonomy: Taxonomy,
    taxon: Taxon,
    exact: dict[str, list[int]],
    read: dict[str, list[int]],
    close: dict[str, list[int]],
) -> Match:
    if _is_id(taxon):
        row = taxonomy.row(int(taxon)) if int(taxon) < 1 << 31 else None
        rows = [] if row is None else [row]
    else:
        rows = exact.get(str(taxon), [])
    is_read = not _active(taxonomy, rows) and bool(_active(taxonomy, read.get(str(taxon), [])))
    if is_read or not rows:
        rows = read.get(str(taxon), []) if not _is_id(taxon) else rows
    active = _active(taxonomy, rows)
    if len(active) == 1:
        reason = f"read as {taxonomy.at(active[0]).name}" if is_read else ""
        return Match(taxon, "matched", int(taxonomy.taxon_ids[active[0]]), reason, ())

    def described(found: Iterable[int]) -> tuple[str, ...]:
        return tuple(taxonomy.described(row) for row in dict.fromkeys(found))

    if active:
        reason = f"{len(active)} active taxa have this name"
        return Match(taxon, "ambiguous", None, reason, described(active))
    near = [] if _is_id(taxon) else close.get(_plain(str(taxon)), [])
    if rows:
        reason = "only an inactive taxon is called so" if not _is_id(taxon) else "the taxon is inactive"
        return Match(taxon, "synonym-like", None, reason, described([*rows, *near]))
    if near:
        return Match(taxon, "synonym-like", None, "spelt nearly as another name", described(near))
    return Match(taxon, "missing", None, "not in the source's taxa", ())
