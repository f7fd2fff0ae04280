"""Finding the taxa that a list names: all at once, each matched or left with the reason why not.

The dump has no map of synonyms. A name that only an inactive taxon has, or that nearly is another one, is
*synonym-like*: the candidates are for a person to look at, and are never taken on their own.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.campaign import Taxon
from lakehouse.lake import Lake
from lakehouse.metadata.taxonomy import Taxonomy

Status = Literal["matched", "synonym-like", "ambiguous", "missing"]
STATUSES: tuple[Status, ...] = ("matched", "synonym-like", "ambiguous", "missing")
COLUMNS = ("line", "asked", "status", "taxon_id", "name", "rank", "reason", "candidates")
_MOST = 3


@dataclass(frozen=True, slots=True)
class Match:
    """What became of one taxon asked for: `taxon_id` if it is matched, else `reason` and `candidates`."""

    asked: Taxon
    status: Status
    taxon_id: int | None
    reason: str
    candidates: tuple[str, ...]


def match_taxa(taxonomy: Taxonomy, asked: Sequence[Taxon]) -> list[Match]:
    """Match ids and names against a release, in the order asked; thousands take about a second."""
    rows = _rows_by_name(taxonomy, {str(taxon) for taxon in asked if not _is_id(taxon)})
    lost = {str(taxon) for taxon in asked if not _is_id(taxon) and not _active(taxonomy, rows[str(taxon)])}
    close = close_names(taxonomy, lost)
    return [_match(taxonomy, taxon, rows, close) for taxon in asked]


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


def _rows_by_name(taxonomy: Taxonomy, names: set[str]) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    if names:
        wanted = pc.is_in(taxonomy.names, value_set=pa.array(sorted(names), pa.string()))
        for row in np.flatnonzero(wanted.to_numpy(zero_copy_only=False)).tolist():
            found[taxonomy.names[row].as_py()].append(row)
    return found


def _match(
    taxonomy: Taxonomy, taxon: Taxon, by_name: dict[str, list[int]], close: dict[str, list[int]]
) -> Match:
    if _is_id(taxon):
        row = taxonomy.row(int(taxon)) if int(taxon) < 1 << 31 else None
        rows = [] if row is None else [row]
    else:
        rows = by_name[str(taxon)]
    active = _active(taxonomy, rows)
    if len(active) == 1:
        return Match(taxon, "matched", int(taxonomy.taxon_ids[active[0]]), "", ())

    def described(found: Iterable[int]) -> tuple[str, ...]:
        return tuple(taxonomy.described(row) for row in found)

    if active:
        reason = f"{len(active)} active taxa have this name"
        return Match(taxon, "ambiguous", None, reason, described(active))
    near = close.get(str(taxon), [])
    if rows:
        reason = "only an inactive taxon is called so" if not _is_id(taxon) else "the taxon is inactive"
        return Match(taxon, "synonym-like", None, reason, described([*rows, *near]))
    if near:
        return Match(taxon, "synonym-like", None, "spelt nearly as another name", described(near))
    return Match(taxon, "missing", None, "not in the source's taxa", ())


# --- names that are nearly the same


def close_names(taxonomy: Taxonomy, names: Iterable[str]) -> dict[str, list[int]]:
    """For each name the rows of up to three active taxa with nearly the same name, the closest first.

    Compared are names that share the first or the last word, and single words that begin alike.
    """
    asked = {name: _Words.of(name) for name in names if name.strip()}
    if not asked:
        return {}
    lower = pc.utf8_lower(taxonomy.names)
    keys = {
        "first": pc.replace_substring_regex(lower, r"\s.*", ""),
        "last": pc.replace_substring_regex(lower, r".*\s", ""),
        "start": pc.utf8_slice_codeunits(lower, 0, 4),
    }
    active = taxonomy.active
    one_word = pc.invert(pc.match_substring(lower, " "))
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in asked}
    for kind, values in keys.items():
        groups: defaultdict[str, list[int]] = defaultdict(list)
        value_set = pa.array(sorted({getattr(words, kind) for words in asked.values()}), pa.string())
        mask = pc.is_in(values, value_set=value_set)
        if kind == "start":
            mask = pc.and_(mask, one_word)
        rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False) & active)
        for row, key in zip(rows.tolist(), values.take(pa.array(rows)).to_pylist(), strict=True):
            groups[key].append(row)
        texts = dict(zip(rows.tolist(), lower.take(pa.array(rows)).to_pylist(), strict=True))
        for name, words in asked.items():
            if kind == "start" and words.first != words.last:
                continue
            group = groups.get(getattr(words, kind), [])
            found[name] += _scored(" ".join(name.lower().split()), group, texts)
    return {name: _best(scored) for name, scored in found.items()}


@dataclass(frozen=True, slots=True)
class _Words:
    first: str
    last: str
    start: str

    @classmethod
    def of(cls, name: str) -> _Words:
        words = name.lower().split()
        return cls(words[0], words[-1], words[0][:4])


def _scored(name: str, rows: Sequence[int], texts: dict[int, str]) -> list[tuple[float, int]]:
    """The rows whose names are close to `name`, by how close."""
    matcher = difflib.SequenceMatcher(autojunk=False, b=name)
    scored = []
    for row in rows:
        text = texts[row]
        # Nothing further away can reach the ratio; most names end here.
        if abs(len(text) - len(name)) > 4:
            continue
        matcher.set_seq1(text)
        if matcher.real_quick_ratio() >= _CUTOFF and matcher.quick_ratio() >= _CUTOFF:
            ratio = matcher.ratio()
            if ratio >= _CUTOFF:
                scored.append((ratio, row))
    return scored


_CUTOFF = 0.8


def _best(scored: list[tuple[float, int]]) -> list[int]:
    ordered = sorted(set(scored), key=lambda one: (-one[0], one[1]))
    return [row for _, row in ordered[:_MOST]]
