"""What a fetch did, counted so that every photo asked for is accounted for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.images.answers import Outcome, PhotoRequest, without_credentials
from lakehouse.progress import Task

if TYPE_CHECKING:
    import polars as pl

_EXAMPLES = 5
BEAT = 0.2  # seconds from one look at the progress to the next


@dataclass(frozen=True, slots=True)
class Example:
    """A photo that shows a reason; the URL without credentials."""

    photo_id: int
    url: str
    http_status: int | None


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What became of the photos asked for, known before or fetched now.

    `requested` is the sum of the five outcomes. `by_reason` and `examples` are about photos not stored.
    """

    requested: int
    stored: int
    gone: int
    failed: int
    refused: int
    rejected: int
    fetched_now: int
    bytes_now: int
    seconds: float
    shards_now: tuple[str, ...]
    by_reason: dict[str, int]
    examples: dict[str, tuple[Example, ...]]

    def __post_init__(self) -> None:
        assert self.requested == self.stored + self.gone + self.failed + self.refused + self.rejected


def failed_share(report: FetchReport) -> float:
    """The share of photos that should have come and did not; what is gone at the source is no failure."""
    if not report.requested:
        return 0.0
    return (report.failed + report.refused + report.rejected) / report.requested


@dataclass(slots=True)
class Tally:
    """Counts while the work is under way."""

    requested: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    shards: list[str] = field(default_factory=list)
    fetched: int = 0
    bytes: int = 0

    def add(
        self, outcome: Outcome, reason: str, request: PhotoRequest, http_status: int | None, size: int
    ) -> None:
        """A photo was asked for now; `size` bytes came."""
        self.fetched += 1
        self.bytes += size
        self.outcomes[outcome] += 1
        if outcome is not Outcome.STORED:
            self.reasons[reason] += 1
            self._show(reason, request.photo_id, request.url, http_status)

    def add_known(self, settled: pl.DataFrame) -> None:
        """Photos whose outcome an earlier run recorded: ledger columns and `url`."""
        for (outcome, reason), photos in settled.group_by("outcome", "reason", maintain_order=True):
            self.outcomes[Outcome(str(outcome))] += photos.height
            if outcome == Outcome.STORED.value:
                continue
            self.reasons[str(reason)] += photos.height
            some = photos.head(_EXAMPLES).select("photo_id", "url", "http_status")
            for photo_id, url, status in some.iter_rows():
                self._show(str(reason), photo_id, url, status)

    @property
    def settled(self) -> int:
        """Photos whose outcome is known."""
        return self.outcomes.total()

    def merge(self, other: Tally) -> None:
        """Add the counts of a part; `requested` covers it already."""
        self.outcomes += other.outcomes
        self.reasons += other.reasons
        self.shards += other.shards
        self.fetched += other.fetched
        self.bytes += other.bytes
        for reason, shown in other.examples.items():
            self.examples[reason] = (self.examples.get(reason, []) + shown)[:_EXAMPLES]

    @property
    def note(self) -> str:
        """What came and what did not go well so far, in a few words."""
        unwell = [outcome for outcome in Outcome if outcome is not Outcome.STORED and self.outcomes[outcome]]
        parts = [f"{self.bytes / 1e6:,.1f} MB"] if self.bytes else []
        return ", ".join([*parts, *(f"{self.outcomes[outcome]:,} {outcome.value}" for outcome in unwell)])

    def report(self, seconds: float) -> FetchReport:
        """The final counts."""
        return FetchReport(
            requested=self.requested,
            stored=self.outcomes[Outcome.STORED],
            gone=self.outcomes[Outcome.GONE],
            failed=self.outcomes[Outcome.FAILED],
            refused=self.outcomes[Outcome.REFUSED],
            rejected=self.outcomes[Outcome.REJECTED],
            fetched_now=self.fetched,
            bytes_now=self.bytes,
            seconds=seconds,
            shards_now=tuple(self.shards),
            by_reason=dict(sorted(self.reasons.items())),
            examples={reason: tuple(shown) for reason, shown in sorted(self.examples.items())},
        )

    def _show(self, reason: str, photo_id: int, url: str, http_status: int | None) -> None:
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _EXAMPLES:
            shown.append(Example(photo_id, without_credentials(url), http_status))


class Pulse:
    """Tells a display how far the work is, but not more often than anybody can see.

    Parameters
    ----------
    done
        Counts of what is finished.
    running
        Counts so far of the parts under way, wherever they run.
    """

    def __init__(self, shown: Task, done: Tally, running: Mapping[int, Tally]) -> None:
        self._shown, self._done, self._running = shown, done, running
        self._told = 0
        self._began = time.monotonic()
        self._next = 0.0

    def beat(self) -> None:
        """Something may have happened."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + BEAT
            self.close()

    def close(self) -> None:
        """Tell what was not told yet."""
        now = Tally(requested=self._done.requested)
        for part in (self._done, *self._running.values()):
            now.merge(part)
        seconds = time.monotonic() - self._began
        rate = [f"{now.fetched / seconds:,.0f}/s"] if now.fetched and seconds else []
        steps, self._told = max(0, now.settled - self._told), max(self._told, now.settled)
        self._shown.advance(steps, ", ".join([*rate, *filter(None, [now.note])]))
