"""One partition of a campaign: its selection, then its photographs, and whether anything changed.

The state of a partition is two small records in the lake (what was selected, how its photos fared), so a
partition whose selection did not change and whose photos are all settled is known to be up to date without a
look at a photo.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import polars as pl
from pydantic import BaseModel, ConfigDict

from lakehouse.campaign import Campaign
from lakehouse.errors import LakeError, NotFoundError
from lakehouse.images.build import FetchReport, store_photos
from lakehouse.images.lease import lease
from lakehouse.images.ledger import Ledger
from lakehouse.images.shard import index_key, shard_key
from lakehouse.lake import Lake
from lakehouse.metadata.partitions import Plan, load_plan
from lakehouse.metadata.selection import (
    SelectionReport,
    load_selection_report,
    select_partition,
    selection_key,
)
from lakehouse.sources.base import Source

OUTCOMES = ("stored", "gone", "failed", "refused", "rejected")


class PartitionState(BaseModel):
    """How the photos of one selection fared: counts by outcome, and the digest that is the partition's
    data version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    selection_digest: str
    outcomes: dict[str, int]
    bytes: int
    digest: str

    @property
    def settled(self) -> bool:
        """Whether no photo of the selection is worth another try."""
        return not self.outcomes.get("failed", 0)

    @property
    def failed_share(self) -> float:
        """The share of photos that should have come and did not; what is gone at the source is no
        failure."""
        total = sum(self.outcomes.values())
        lost = sum(self.outcomes.get(name, 0) for name in ("failed", "refused", "rejected"))
        return lost / total if total else 0.0


@dataclass(frozen=True, slots=True)
class PartitionBuild:
    """What building one partition did; `fetch` is None where it was up to date, `selected_anew` where rows
    changed."""

    key: str
    selection: SelectionReport
    state: PartitionState
    selected_anew: bool
    fetch: FetchReport | None


def build_partition(
    lake: Lake,
    campaign: Campaign,
    plan: Plan,
    key: str,
    source: Source,
    connection: duckdb.DuckDBPyConnection,
) -> PartitionBuild:
    """Select and fetch one partition, doing only what is not done yet."""
    before = load_selection_report(lake, campaign.name, key)
    selection = select(lake, campaign, plan, key, connection)
    state = load_state(lake, campaign.name, key)
    anew = before is None or before.digest != selection.digest
    if state and state.settled and state.selection_digest == selection.digest:
        return PartitionBuild(key, selection, state, anew, None)
    fetch, state = fetch_partition(lake, campaign, key, source)
    return PartitionBuild(key, selection, state, anew, fetch)


def select(
    lake: Lake, campaign: Campaign, plan: Plan, key: str, connection: duckdb.DuckDBPyConnection
) -> SelectionReport:
    """The partition's selection for this plan, made if it is not there yet."""
    report = load_selection_report(lake, campaign.name, key)
    if report and report.plan_digest == plan.digest:
        return report
    return select_partition(lake, campaign, plan, key, connection)


def fetch_partition(
    lake: Lake, campaign: Campaign, key: str, source: Source
) -> tuple[FetchReport, PartitionState]:
    """Fetch what the partition's selection names and the ledger does not know yet; the state is recorded.

    Of two workers on one partition the second waits, and then finds everything done.
    """
    with lease(lake, _lease_key(campaign.name, key)):
        return _fetch_alone(lake, campaign, key, source)


def _fetch_alone(
    lake: Lake, campaign: Campaign, key: str, source: Source
) -> tuple[FetchReport, PartitionState]:
    report = load_selection_report(lake, campaign.name, key)
    if report is None:
        raise LakeError(
            f"partition {key} of {campaign.name!r} has no selection yet; materialize its selection first"
        )
    wanted = _selected(lake, campaign.name, key)
    size = campaign.image.size
    photos = wanted.with_columns(
        pl.Series(
            "url",
            [source.photo_url(photo_id, extension, size) for photo_id, extension in wanted.iter_rows()],
            dtype=pl.String,
        )
    )
    fetch = store_photos(lake, source.name, photos, image=campaign.image, settings=lake.settings)
    outcomes = Ledger(lake).outcomes(source.name, campaign.image.slug, wanted["photo_id"]).sort("photo_id")
    digest = hashlib.sha256()
    for photo_id, outcome, sha256 in outcomes.select("photo_id", "outcome", "sha256").iter_rows():
        digest.update(f"{photo_id}\t{outcome}\t{sha256.hex() if sha256 else ''}\n".encode())
    counts = dict(outcomes["outcome"].value_counts().iter_rows())
    state = PartitionState(
        selection_digest=report.digest,
        outcomes={name: counts.get(name, 0) for name in OUTCOMES},
        bytes=int(outcomes.filter(pl.col("outcome") == "stored")["size"].sum()),
        digest=digest.hexdigest(),
    )
    lake.put(_state_key(campaign.name, key), state.model_dump_json().encode())
    return fetch, state


def load_state(lake: Lake, campaign: str, key: str) -> PartitionState | None:
    """How the partition's photos fared when it was last built; None if it never was."""
    try:
        return PartitionState.model_validate_json(lake.get(_state_key(campaign, key)))
    except NotFoundError:
        return None


def is_up_to_date(lake: Lake, campaign: Campaign, plan: Plan, key: str) -> bool:
    """Whether the partition was selected for this plan and none of its photos is worth another try."""
    selection, state = load_selection_report(lake, campaign.name, key), load_state(lake, campaign.name, key)
    return bool(
        selection
        and state
        and state.settled
        and selection.plan_digest == plan.digest
        and state.selection_digest == selection.digest
    )


@dataclass(frozen=True, slots=True)
class Account:
    """How the photos of all partitions of a plan fared: counts, and a sentence for each partition whose
    counts do not add up (`unjudged`: its selection, `untried`: its photographs)."""

    considered: int
    selected: int
    outcomes: dict[str, int]
    unjudged: tuple[str, ...]
    untried: tuple[str, ...]

    @property
    def failed_share(self) -> float:
        """The share of photos that should have come and did not."""
        lost = sum(self.outcomes[name] for name in ("failed", "refused", "rejected"))
        return lost / self.selected if self.selected else 0.0


def account(lake: Lake, campaign: Campaign) -> Account:
    """Add up a campaign's partitions; raises NotFoundError if it has no plan."""
    plan = load_plan(lake, campaign.name)
    considered = selected = 0
    outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    unjudged, untried = [], []
    for partition in plan.partitions:
        key = partition.key
        report, state = load_selection_report(lake, campaign.name, key), load_state(lake, campaign.name, key)
        if report is None or report.plan_digest != plan.digest:
            unjudged.append(f"{key} was not selected for release {plan.release}")
            continue
        considered, selected = considered + report.considered, selected + report.selected
        total = report.selected + sum(report.excluded.values())
        if total != report.considered:
            unjudged.append(f"{key}: {report.considered:,} photos considered, {total:,} judged")
        if report.considered != partition.photos:
            unjudged.append(f"{key}: {partition.photos:,} photos planned, {report.considered:,} considered")
        if state is None or state.selection_digest != report.digest:
            untried.append(f"{key}: its photos were not fetched for its newest selection")
            continue
        outcomes.update(state.outcomes)
        tried = sum(state.outcomes.values())
        if tried != report.selected:
            untried.append(f"{key}: {report.selected:,} photos selected, {tried:,} have an outcome")
    return Account(considered, selected, dict(outcomes), tuple(unjudged), tuple(untried))


def unfinished(lake: Lake, campaign: Campaign, plan: Plan) -> list[str]:
    """The keys of the partitions that are not up to date, in the plan's order."""
    keys = [partition.key for partition in plan.partitions]
    return [key for key in keys if not is_up_to_date(lake, campaign, plan, key)]


def stored_images(lake: Lake, campaign: Campaign, source_name: str, key: str, most: int) -> list[bytes]:
    """The bytes of up to `most` stored photographs of a partition, spread over its photo ids."""
    wanted = _selected(lake, campaign.name, key)
    stored = (
        Ledger(lake)
        .outcomes(source_name, campaign.image.slug, wanted["photo_id"])
        .filter(pl.col("outcome") == "stored")
        .sort("photo_id")
        .gather_every(max(1, wanted.height // most))
        .head(most)
    )
    return list(_images(lake, campaign.image.slug, stored))


def _images(lake: Lake, rendition: str, stored: pl.DataFrame) -> Iterable[bytes]:
    for (shard,), photos in stored.group_by("shard", maintain_order=True):
        index = pl.DataFrame(
            lake.read_table(index_key(rendition, str(shard)), ["photo_id", "offset", "size"])
        ).filter(pl.col("photo_id").is_in(photos["photo_id"].to_list()))
        for offset, size in index.select("offset", "size").iter_rows():
            yield lake.get_range(shard_key(rendition, str(shard)), offset, size)


def _selected(lake: Lake, campaign: str, key: str) -> pl.DataFrame:
    table = lake.read_table(selection_key(campaign, key), ["photo_id", "extension"])
    return pl.DataFrame(table).with_columns(pl.col("extension").cast(pl.String))


def _state_key(campaign: str, key: str) -> str:
    return f"campaigns/{campaign}/shards/{key}.json"


def _lease_key(campaign: str, key: str) -> str:
    return f"campaigns/{campaign}/shards/{key}.lease"
