"""How hard a host may be asked, and when not to believe it: decisions only, on a clock that is handed in."""

from __future__ import annotations

import math
import random
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from statistics import median

from lakehouse.images.wire import Signature

_FIRST_WINDOW = 32
_DENIALS_IN_A_ROW = 50
_RECENT = 200
_FEW_DENIALS = 10
_WAVE, _TROUBLES = 3, 20  # failures in a row
_FEW_ANSWERS = 20


def backoff(attempt: int, base: float, cap: float, rng: random.Random) -> float:
    """Seconds to wait after the `attempt`-th failure: full jitter below a capped exponential."""
    return rng.uniform(0, min(cap, base * 2 ** min(attempt - 1, 30)))


def retry_after(value: str | None, now: datetime, cap: float) -> float | None:
    """Seconds that a Retry-After header asks for, in either form, at most `cap`; None if it says nothing."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:  # RFC 9110: an HTTP date is in GMT
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    return min(max(seconds, 0.0), cap) if math.isfinite(seconds) else None


class RetryBudget:
    """Bounds the retries of a whole run, so that an outage is not answered with a storm.

    Every retry takes one token, every success gives half a token back.
    """

    def __init__(self, tokens: float = 500) -> None:
        self._most = self._tokens = tokens

    def earn(self) -> None:
        """A request succeeded."""
        self._tokens = min(self._most, self._tokens + 0.5)

    def spend(self) -> bool:
        """Take a token for a retry; False if there is none."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Latency:
    """How long a host takes, and when a request is so late that it is worth asking a second time (a hedge).

    Late is `factor` times the median of the last answers, at least `least` seconds. Hedges are bounded to
    `share` of the requests, so that a host that is slow as a whole is not asked twice for everything.
    """

    def __init__(self, factor: float, least: float, share: float) -> None:
        self._factor, self._least, self._share = factor, least, share
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._fresh = 0
        self._asked = self._hedged = 0
        self.late = math.inf

    def ask(self) -> None:
        """A request starts."""
        self._asked += 1

    def took(self, seconds: float) -> None:
        """A photo came after so many seconds."""
        self._recent.append(seconds)
        self._fresh += 1
        if self._fresh >= _FEW_ANSWERS:
            self._fresh = 0
            self.late = max(self._least, self._factor * median(self._recent))

    def hedge(self) -> bool:
        """Take leave to ask a second time; False if too much was asked twice already."""
        if self._hedged >= 1 + self._share * self._asked:
            return False
        self._hedged += 1
        return True


class HostPace:
    """The pace of one host.

    The number of requests under way (the window) starts small, grows by one with every success until the
    first sign of distress, then additively, and is halved at most once per round trip (AIMD). A host with
    which nothing has worked for `patience` seconds is down; after as long again a request may probe it (a
    half-open breaker).

    Denials (401, 403) are believed as long as the host also serves photos. `proof` is a URL it served before:
    asking for it again tells a wave of removed photos from a host that denies everything.
    """

    def __init__(self, limit: int, rate: float | None, patience: float, latency: Latency) -> None:
        self.latency = latency
        self.proof: str | None = None
        self.signature: Signature | None = None  # that the proof was asked with
        self.denials = 0  # in a row, not disproved by a photo served after them
        self._limit = float(limit)
        self._gap = 1 / rate if rate else 0.0
        self._patience = patience
        self._window = min(float(_FIRST_WINDOW), self._limit)
        self._ramping = True
        self._active = 0
        self._next_slot = 0.0
        self._not_before = 0.0
        self._last_cut = -math.inf
        self._troubles = 0
        self._trouble_since = 0.0
        self._down_until = -math.inf
        self._recent: deque[bool] = deque(maxlen=_RECENT)

    @property
    def window(self) -> int:
        """How many requests may be under way."""
        return int(self._window)

    def ready_at(self) -> float:
        """When the next request may start; never, as long as the window is full."""
        if self._active >= self.window:
            return math.inf
        return max(self._next_slot, self._not_before)

    def is_down(self, now: float) -> bool:
        """Whether the host is not worth a request now."""
        return now < self._down_until

    def start(self, now: float) -> None:
        """A request starts."""
        self._active += 1
        # A loop that comes late may catch up a little, never more than a tenth of a second's worth.
        self._next_slot = max(self._next_slot, now - 0.1) + self._gap

    def end(self) -> None:
        """A request ended, in whatever way."""
        self._active -= 1

    def answered(self) -> None:
        """The host gave a definite answer: it is there."""
        self._troubles = 0
        self._recent.append(False)

    def served(self, url: str, denials: int = 0) -> None:
        """The host served a photo; so many `denials` are newer than the request for it."""
        self.answered()
        self.proof, self.denials = url, denials
        step = 1.0 if self._ramping else 1 / self._window
        self._window = min(self._limit, self._window + step)

    def denied(self) -> None:
        """The host denied a photo."""
        self._troubles = 0
        self.denials += 1
        self._recent.append(True)

    def trouble(self, now: float, started: float, *, cut: bool, asked: float, wait: float) -> None:
        """A request failed and it concerns the host: `cut` the window, start nothing for the seconds that the
        host `asked` for, or for `wait` if others just failed too: one in a hundred that fails is no reason to
        leave the host alone.
        """
        if not self._troubles:
            self._trouble_since = now
        self._troubles += 1
        pause = asked if asked or self._troubles < _WAVE else wait
        self._not_before = max(self._not_before, now + pause)
        if cut and started > self._last_cut:  # one distress, however many requests it hits, halves once
            self._last_cut, self._ramping = now, False
            self._window = max(1.0, self._window / 2)
        if self._troubles >= _TROUBLES and now - self._trouble_since >= self._patience:
            self._down_until = now + self._patience

    @property
    def denies_all(self) -> bool:
        """Whether so much is denied that the host must prove that it still serves anything.

        More than 50 denials in a row, or half of the last 200 answers.
        """
        return self.denials > _DENIALS_IN_A_ROW or (
            len(self._recent) == _RECENT and sum(self._recent) >= _RECENT // 2
        )

    @property
    def denies_few(self) -> bool:
        """Whether the denials at the end of a run are too few to doubt the host."""
        return self.denials < _FEW_DENIALS

    def trust(self, denials: int = 0) -> None:
        """The host served its proof again: its denials are real, but for as many newer ones."""
        self._recent.clear()
        self.denials = denials
