"""A list of taxa in a file: text with one a line, or a table with a header."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import CampaignError

# What columns of such tables are called, in lower case without separators; ids are taken before names.
_IDS = ("taxonid", "inaturalistid", "inattaxonid")
_NAMES = (
    "canonicalname",
    "scientificname",
    "acceptedname",
    "acceptedscientificname",
    "taxonname",
    "speciesname",
    "binomial",
    "binomialname",
    "latinname",
    "scientific",
    "latin",
    "species",
    "specificepithet",
    "taxon",
    "taxa",
    "name",
)
# An epithet in such a column is nothing without its genus.
_EPITHETS = ("species", "specificepithet")


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry: the id or name that is asked for, its line in the file, from 1, and what an id is called
    there."""

    line: int
    taxon: int | str
    name: str | None = None


def read_taxon_list(file: Path) -> list[Listed]:
    """The taxa that a file names.

    The first column counts, unless a header names a better one: a column of ids (`taxon_id`), or of names
    (`scientific_name`, `species`, …). Where there are both, the id counts in the rows that have one, so that
    a homonym can be told apart. Blank lines and lines that begin with `#` are skipped; columns are separated
    by comma, semicolon or tab.

    Raises
    ------
    CampaignError
        The file cannot be read, or names nothing.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CampaignError(f"taxa_file {file} cannot be read: {error}; save it as UTF-8 text") from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    delimiter = next((mark for mark in "\t;," if mark in first), ",")
    found: list[Listed] = []
    columns: list[int] | None = None
    genus: int | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            # A quote inside a name is a letter; one around a cell is not.
            cells = [
                " ".join(cell.split()) for cell in next(csv.reader([line.strip(" ")], delimiter=delimiter))
            ]
        except csv.Error as error:
            raise CampaignError(f"{file}:{number}: not a row of a table: {error}") from None
        if columns is None:
            columns, genus = _columns(cells)
            if columns:
                continue
            columns = [0]
        at = next((at for at in columns if at < len(cells) and cells[at]), None)
        taxon = cells[at] if at is not None else ""
        if genus is not None and at == columns[-1] and taxon and " " not in taxon and taxon.islower():
            taxon = f"{cells[genus]} {taxon}".strip()
        if taxon:
            beside = cells[columns[-1]] if at != columns[-1] and columns[-1] < len(cells) else ""
            found.append(Listed(number, int(taxon) if taxon.isdecimal() else taxon, beside or None))
    if not found:
        raise CampaignError(f"taxa_file {file} names no taxon; give one id or name a line")
    return found


def _columns(header: list[str]) -> tuple[list[int], int | None]:
    """The columns to look into, in their order (none if this is no header), and that of the genus."""
    names = ["".join(filter(str.isalnum, cell.lower())) for cell in header]
    ids = [names.index(name) for name in _IDS if name in names]
    known = [names.index(name) for name in _NAMES if name in names]
    has_epithet = bool(known) and names[known[0]] in _EPITHETS and "genus" in names
    return [*ids[:1], *known[:1]], names.index("genus") if has_epithet else None
