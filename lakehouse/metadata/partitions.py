"""How a campaign's taxa are cut into partitions: subtrees, or what is left of one, of bounded size."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
from pydantic import BaseModel, ConfigDict

from lakehouse.campaign import Campaign, Subtree, Taxon
from lakehouse.errors import CampaignError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata.engine import files_sql, session
from lakehouse.metadata.intervals import Interval, intersect, subtract, union
from lakehouse.metadata.names import Match, counts, match_taxa, write_report
from lakehouse.metadata.photos import digests_key, photo_keys
from lakehouse.metadata.spelling import readings
from lakehouse.metadata.taxonomy import Taxonomy
from lakehouse.taxon_list import read_taxon_list


@dataclass(frozen=True, slots=True)
class Partition:
    """Some photos of a campaign: those below `taxon_id` whose taxon's `lft` is in `intervals`, half-open.

    `key` is `<slug of the name>-<taxon_id>`, `photos` how many there are before the campaign's conditions.
    """

    key: str
    taxon_id: int
    name: str
    intervals: tuple[Interval, ...]
    photos: int


class Plan(BaseModel):
    """The partitions of a campaign over one release, `plan.json`.

    `parameters` is a digest of what decides the campaign's data; `keys` holds every key ever given to a
    taxon, for a key once given stays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    campaign: str
    source: str
    release: str
    parameters: str
    partitions: tuple[Partition, ...]
    keys: dict[int, str]

    @cached_property
    def digest(self) -> str:
        """sha256 of all that decides the selections."""
        return _digest(self.model_dump(mode="json", exclude={"keys"}))

    def partition(self, key: str) -> Partition:
        """The partition named `key`; raises NotFoundError."""
        try:
            return self._by_key[key]
        except KeyError:
            raise NotFoundError(
                f"the plan of campaign {self.campaign!r} has no partition {key!r}; see `lakehouse plan`"
            ) from None

    @cached_property
    def _by_key(self) -> dict[str, Partition]:
        return {partition.key: partition for partition in self.partitions}


def plan_key(campaign: str) -> str:
    """The key of a campaign's plan."""
    return f"campaigns/{campaign}/plan.json"


def load_plan(lake: Lake, campaign: str) -> Plan:
    """The plan of a campaign; raises NotFoundError if it has none yet."""
    return Plan.model_validate_json(lake.get(plan_key(campaign)))


def parameters_digest(campaign: Campaign) -> str:
    """A digest of what decides a campaign's data and how it is cut."""
    return _digest({**campaign.parameters(), "max_photos": campaign.partition.max_photos})


def build_plan(lake: Lake, campaign: Campaign, source_name: str, release_id: str) -> Plan:
    """Cut the campaign's taxa into partitions for a release and record the plan.

    Raises
    ------
    CampaignError
        A taxon cannot be resolved; the message names its line, or counts them where there are several.
    """
    taxonomy = Taxonomy.load(lake, source_name, release_id)
    wanted = resolve_wanted(lake, campaign, taxonomy)
    with lake.connect() as connection:
        photos = count_photos(lake, source_name, release_id, requested(taxonomy, wanted), connection)
    partitions = plan_partitions(taxonomy, photos, wanted, campaign.label, campaign.partition.max_photos)
    try:
        keys = load_plan(lake, campaign.name).keys
    except NotFoundError:
        keys = {}
    keys = {**{partition.taxon_id: partition.key for partition in partitions}, **keys}
    plan = Plan(
        campaign=campaign.name,
        source=source_name,
        release=release_id,
        parameters=parameters_digest(campaign),
        partitions=tuple(replace(partition, key=keys[partition.taxon_id]) for partition in partitions),
        keys=dict(sorted(keys.items())),
    )
    lake.put(plan_key(campaign.name), plan.model_dump_json(indent=1).encode())
    return plan


def overlaps(plan: Plan) -> Iterator[str]:
    """A sentence for every two partitions whose labels meet; there is none in a sound plan."""
    spans = sorted(
        (low, high, partition.key) for partition in plan.partitions for low, high in partition.intervals
    )
    for (_, end, one), (start, _, other) in pairwise(spans):
        if start < end:
            yield f"partitions {one} and {other} share taxa"


def count_photos(
    lake: Lake,
    source_name: str,
    release_id: str,
    intervals: Sequence[Interval],
    connection: duckdb.DuckDBPyConnection,
) -> dict[int, int]:
    """Photos per taxon id, for all taxa in `intervals` and some around them, in the same files."""
    parts = photo_keys(lake, source_name, release_id, intervals)
    if not parts:
        return {}
    # What is beside the table is read in fewer pieces; an earlier version's table has nothing there.
    keys = [beside if lake.exists(beside := digests_key(part)) else part for part in parts]
    files = [lake.uri(key) for key in keys]
    with session(lake, connection) as cursor:
        rows = cursor.execute(
            f"SELECT taxon_id, count(*) FROM {files_sql(files)} GROUP BY taxon_id"
        ).fetchall()
    return {int(taxon_id): int(count) for taxon_id, count in rows}


# --- what is wanted


def requested(taxonomy: Taxonomy, wanted: Sequence[Taxon | Subtree]) -> list[Interval]:
    """The labels that are wanted: all subtrees together, each without its exceptions."""
    return union(interval for one in wanted for interval in _request(taxonomy, one))


def _request(taxonomy: Taxonomy, wanted: Taxon | Subtree) -> list[Interval]:
    if not isinstance(wanted, Subtree):
        return [taxonomy.resolve(wanted).interval]
    whole = taxonomy.resolve(wanted.taxon)
    exceptions = [taxonomy.resolve(taxon) for taxon in wanted.except_]
    for exception in exceptions:
        if not whole.lft < exception.lft < whole.rgt:
            raise CampaignError(
                f"taxon {exception.name} (id {exception.taxon_id}) is not below {whole.name} and so "
                "cannot be excepted from it; remove it from 'except'"
            )
    return subtract([whole.interval], [exception.interval for exception in exceptions])


def _named(wanted: Sequence[Taxon | Subtree]) -> Iterator[Taxon]:
    for one in wanted:
        if isinstance(one, Subtree):
            yield one.taxon
            yield from one.except_
        else:
            yield one


def resolve_wanted(lake: Lake, campaign: Campaign, taxonomy: Taxonomy) -> list[Taxon | Subtree]:
    """The campaign's taxa by id, and the report on them where they come from a file or are not all there.

    With `taxa_missing: skip` what cannot be resolved is left out; but never an exception of a subtree,
    without which more would be taken than was asked for.

    Raises
    ------
    CampaignError
        Something cannot be resolved: one taxon, with its line, or all of them in one message.
    """
    wanted = campaign.wanted
    named = list(_named(wanted))
    matches = match_taxa(taxonomy, named)
    lost = [match for match in matches if match.taxon_id is None]
    report = None
    if campaign.taxa_path or lost:
        lines: list[int | None] = [None] * len(named)
        if campaign.taxa_path:
            listed = read_taxon_list(campaign.taxa_path)
            lines = [one.line for one in listed]
            matches = [_noted(taxonomy, match, one.name) for match, one in zip(matches, listed, strict=True)]
        report = write_report(lake, campaign.name, taxonomy, matches, lines)
    ids = {str(match.asked): match.taxon_id for match in matches}
    excepted = {str(taxon) for one in wanted if isinstance(one, Subtree) for taxon in one.except_}
    if lost and (campaign.taxa_missing == "error" or any(str(match.asked) in excepted for match in lost)):
        raise _unresolved(campaign, taxonomy, matches, lost, report)
    found: list[Taxon | Subtree] = []
    for one in wanted:
        taxon_id = ids[str(one.taxon if isinstance(one, Subtree) else one)]
        if taxon_id is None:
            continue
        if isinstance(one, Subtree):
            holes = [ids[str(taxon)] for taxon in one.except_]
            found.append(Subtree.model_validate({"taxon": taxon_id, "except": holes}))
        else:
            found.append(taxon_id)
    if not found:
        raise _unresolved(campaign, taxonomy, matches, lost, report)
    return found


def _noted(taxonomy: Taxonomy, match: Match, name: str | None) -> Match:
    """The match of an id, with a note where the list calls it otherwise: the id may be another database's."""
    if match.taxon_id is None or name is None:
        return match
    if taxonomy.resolve(match.taxon_id).name.lower() in readings(name):
        return match
    return replace(match, reason=f"taken by its id; the list calls it {name}")


def _unresolved(
    campaign: Campaign,
    taxonomy: Taxonomy,
    matches: Sequence[Match],
    lost: Sequence[Match],
    report: str | None,
) -> CampaignError:
    if len(lost) == 1:
        try:
            taxonomy.resolve(lost[0].asked)
        except CampaignError as error:
            return CampaignError(f"{_place(campaign, lost[0].asked)}{error}")
    found = counts(lost)
    several = ", ".join(f"{number:,} {status}" for status, number in found.items())
    examples = []
    for status in found:
        match = next(one for one in lost if one.status == status)
        near = f" ({', '.join(match.candidates)})" if match.candidates else ""
        examples.append(f"{match.asked!r}: {match.reason}{near}")
    file = campaign.taxa_path or campaign.path
    return CampaignError(
        f"{f'{file}: ' if file else ''}{len(lost):,} of {len(matches):,} taxa cannot be used: {several}; for "
        f"example {'; '.join(examples)}. All of them are in {report}; correct the names, give ids, or set "
        "'taxa_missing: skip' to go on without them"
    )


def _place(campaign: Campaign, taxon: Taxon) -> str:
    """`<file>:<line>: ` of the first mention of a taxon behind the key `taxa`, as far as it can be told."""
    if campaign.path is None:
        return ""
    file = campaign.path.parent / campaign.taxa_file if campaign.taxa_file else campaign.path
    lines = file.read_text(encoding="utf-8-sig").splitlines() if Path(file).is_file() else []
    token = re.compile(rf"(?<![\w-]){re.escape(str(taxon))}(?![\w-])")
    inside = bool(campaign.taxa_file)
    for number, line in enumerate(lines, start=1):
        inside = inside or line.startswith("taxa")
        if inside and token.search(line):
            return f"{file}:{number}: "
    return f"{file}: "


# --- the cut


def plan_partitions(
    taxonomy: Taxonomy,
    counts_per_taxon: Mapping[int, int],
    wanted: Sequence[Taxon | Subtree],
    label_rank: str,
    max_photos: int,
) -> list[Partition]:
    """Cut what is wanted into partitions of at most `max_photos` photos, down the tree.

    A taxon above the limit gives its children partitions of their own, the largest first, until what is
    left of it fits; what is left stays its partition. Nothing is cut at the label's rank or below, so that
    all photos of a label are in one partition; a wanted taxon below that rank is widened to its label for
    the same reason, but not its photos. Partitions without photos are left out.

    Parameters
    ----------
    counts_per_taxon
        Photos identified as exactly that taxon, by its id.

    Returns
    -------
    list of Partition
        In taxon order; their intervals are disjoint and cover every wanted photo.
    """
    total = requested(taxonomy, wanted)
    count = _Counter(taxonomy, counts_per_taxon)
    labels = taxonomy.label_of(label_rank)
    found: list[Partition] = []
    stack = [(row, intersect(total, taxonomy.at(row).interval)) for row in _starts(taxonomy, wanted, labels)]
    while stack:
        row, region = stack.pop()
        photos = count(region)
        if photos > max_photos and labels[row] < 0:
            region, apart = _split(taxonomy, count, row, region, max_photos)
            photos = count(region)
            stack += apart
        if photos:
            taxon = taxonomy.at(row)
            key = f"{slug(taxon.name)}-{taxon.taxon_id}"
            found.append(Partition(key, taxon.taxon_id, taxon.name, tuple(region), photos))
    return sorted(found, key=lambda partition: partition.intervals)


def slug(name: str) -> str:
    """`name` in `[a-z0-9-]`, `taxon` if nothing is left of it."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-") or "taxon"


class _Counter:
    """Photos in a set of intervals."""

    def __init__(self, taxonomy: Taxonomy, counts_per_taxon: Mapping[int, int]) -> None:
        self._taxonomy = taxonomy
        photos = np.zeros(len(taxonomy) + 1, np.int64)
        rows = taxonomy.rows(np.fromiter(counts_per_taxon.keys(), np.int64, len(counts_per_taxon)))
        known = np.fromiter(counts_per_taxon.values(), np.int64, len(counts_per_taxon))
        np.add.at(photos, rows[rows >= 0] + 1, known[rows >= 0])
        self._before = np.cumsum(photos)

    def __call__(self, intervals: Sequence[Interval]) -> int:
        bounds = (self._taxonomy.rows_between(low, high) for low, high in intervals)
        return sum(int(self._before[last] - self._before[first]) for first, last in bounds)


def _starts(taxonomy: Taxonomy, wanted: Sequence[Taxon | Subtree], labels: np.ndarray) -> list[int]:
    """The rows to begin with: wanted taxa (or the labels they roll up to) in no other one's subtree."""
    rows = set()
    for one in wanted:
        row = taxonomy.row(taxonomy.resolve(one.taxon if isinstance(one, Subtree) else one).taxon_id)
        assert row is not None, "a resolved taxon has a row"
        rows.add(int(labels[row]) if labels[row] >= 0 else row)
    outermost: list[int] = []
    for row in sorted(rows):  # rows are in pre-order, so what contains comes first
        if not outermost or taxonomy.lft[row] >= taxonomy.rgt[outermost[-1]]:
            outermost.append(row)
    return outermost


def _split(
    taxonomy: Taxonomy, count: _Counter, row: int, region: list[Interval], max_photos: int
) -> tuple[list[Interval], list[tuple[int, list[Interval]]]]:
    """What is left of a taxon, and the children (with their parts of `region`) that are set apart from it."""
    children = []
    for child in taxonomy.children(row).tolist():
        part = intersect(region, (int(taxonomy.lft[child]), int(taxonomy.rgt[child])))
        photos = count(part)
        if photos:
            children.append((photos, child, part))
    left = count(region)
    apart = []
    for photos, child, part in sorted(children, key=lambda found: (-found[0], found[1])):
        if left <= max_photos:
            break
        apart.append((child, part))
        left -= photos
    return subtract(region, [interval for _, part in apart for interval in part]), apart


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
