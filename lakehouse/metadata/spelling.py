"""How people write names of taxa: what a name may be read as, and which names are nearly the same."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.metadata.tree import Bools

_MOST = 3
_CUTOFF = 0.8
_EPITHET = re.compile(r"[^\W\d_]+(-[^\W\d_]+)*\Z")
# Marks of rank, which the dump leaves out of its names: Acer saccharum nigrum.
_MARKS = {"subsp.", "subsp", "ssp.", "ssp", "var.", "var", "subvar.", "f.", "fo.", "forma", "subf."}
_HYBRID = {"×", "x"}
# Words of an authorship that are not capitals: what follows is no epithet.
_OF_AUTHORS = {
    *(
        "de",
        "da",
        "del",
        "della",
        "den",
        "der",
        "des",
        "di",
        "do",
        "dos",
        "du",
        "la",
        "le",
        "van",
        "von",
        "zu",
    ),
    *("ex", "et", "in", "and", "al.", "fil.", "f", "auct.", "auct", "non", "nec", "sensu", "emend.", "apud"),
}
_UNSURE = {"sp.", "sp", "cf.", "cf", "aff.", "aff", "nr.", "indet.", "indet", "agg.", "s.l.", "s.str."}


def readings(name: str) -> list[str]:
    """What `name` may be without its authorship, marks of rank and oddities of case and space, in lower case.

    The likeliest comes first. A name that is not sure (`sp.`, `cf.`) is only read as it stands, for a taxon
    above it would be more than was asked for; the plural (`Quercus spp.`) is the genus.
    """
    words = unicodedata.normalize("NFKC", name).replace("_", " ").split()
    if not words:
        return []
    words = _separated(words)
    whole = " ".join(words).lower()
    if any(word.lower() in _UNSURE for word in words[1:]):
        return [whole]
    return list(dict.fromkeys([whole, _canonical(words)]))


def _separated(words: Iterable[str]) -> list[str]:
    """The words with every sign of a hybrid as a word of its own."""
    found: list[str] = []
    for word in words:
        if word.startswith("×") and len(word) > 1:
            found += ["×", word[1:]]
        else:
            found.append("×" if word.lower() in _HYBRID else word)
    return found


def _canonical(words: Sequence[str]) -> str:
    """Genus and epithets alone."""
    kept: list[str] = []
    in_author = marked = False
    for at, word in enumerate(words):
        first = not kept or kept == ["×"]
        small = word == word.lower() or all(one == one.upper() for one in words)
        if word in _MARKS and at + 1 < len(words) and words[at + 1].lower() not in _OF_AUTHORS:
            marked = True
        elif word == "×":
            if not in_author:
                kept.append(word)
        elif first:
            kept.append(word.lower())
        elif word.lower() in ("spp.", "spp"):
            in_author = True
        elif small and _EPITHET.match(word) and word not in _OF_AUTHORS and (marked or not in_author):
            kept.append(word.lower())
            in_author = marked = False
        elif re.fullmatch(r"\([A-Z][a-z]+\)", word) and len(kept) == 1 and _is_small(words, at + 1):
            continue  # a subgenus between genus and epithet
        else:
            in_author, marked = True, False
    return " ".join(kept)


def _is_small(words: Sequence[str], at: int) -> bool:
    return at < len(words) and words[at] == words[at].lower() and bool(_EPITHET.match(words[at]))


def rows_by_name(names: pa.Array, wanted: Iterable[str]) -> dict[str, list[int]]:
    """The rows of each name of `wanted`, empty where there is none."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    mask = pc.is_in(names, value_set=pa.array(sorted(set(wanted)), pa.string()))
    rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    for row, name in zip(rows.tolist(), names.take(pa.array(rows)).to_pylist(), strict=True):
        found[name].append(row)
    return found


def close_names(names: pa.Array, active: Bools, asked: Iterable[str]) -> dict[str, list[int]]:
    """For each name asked for the rows of up to three active taxa with nearly the same name, closest first.

    Compared are names that share the first or the last word, and single words that begin alike.
    """
    wanted = {name: _Words.of(name) for name in asked if name.strip()}
    if not wanted:
        return {}
    lower = pc.utf8_lower(names)
    keys = {
        "first": pc.replace_substring_regex(lower, r"\s.*", ""),
        "last": pc.replace_substring_regex(lower, r".*\s", ""),
        "start": pc.utf8_slice_codeunits(lower, 0, 4),
    }
    one_word = pc.invert(pc.match_substring(lower, " "))
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in wanted}
    for kind, values in keys.items():
        groups: defaultdict[str, list[int]] = defaultdict(list)
        value_set = pa.array(sorted({getattr(words, kind) for words in wanted.values()}), pa.string())
        mask = pc.is_in(values, value_set=value_set)
        if kind == "start":
            mask = pc.and_(mask, one_word)
        rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False) & active)
        for row, key in zip(rows.tolist(), values.take(pa.array(rows)).to_pylist(), strict=True):
            groups[key].append(row)
        texts = dict(zip(rows.tolist(), lower.take(pa.array(rows)).to_pylist(), strict=True))
        for name, words in wanted.items():
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


def _best(scored: list[tuple[float, int]]) -> list[int]:
    ordered = sorted(set(scored), key=lambda one: (-one[0], one[1]))
    return [row for _, row in ordered[:_MOST]]
