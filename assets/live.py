"""The library's progress in Dagster while a partition runs: lines in the log, now and then an observation."""

import time
from collections.abc import Callable

from lakehouse.progress import Task

Figures = dict[str, float | str]

_LOG_EVERY = 10.0
_OBSERVE_EVERY = 60.0


class LogDisplay:
    """Tells of tasks that take longer than a moment.

    Parameters
    ----------
    log
        Takes a line, every `log_every` seconds.
    observe
        Takes the same figures as metadata, every `observe_every` seconds.
    """

    def __init__(
        self,
        log: Callable[[str], object],
        observe: Callable[[Figures], object],
        log_every: float = _LOG_EVERY,
        observe_every: float = _OBSERVE_EVERY,
    ) -> None:
        self._log, self._observe = log, observe
        self._log_every, self._observe_every = log_every, observe_every

    def start(self, description: str, total: float | None, unit: str) -> Task:
        """A task to follow."""
        return _Followed(self, description, total, unit)

    def finish(self, task: Task) -> None:
        """What was done is in the materialization."""

    def tell(self, line: str, figures: Figures, seconds: float, last: float) -> None:
        """Log, and observe if that is due."""
        self._log(line)
        if seconds // self._observe_every > last // self._observe_every:
            self._observe(figures)

    @property
    def log_every(self) -> float:
        """Seconds from line to line."""
        return self._log_every


class _Followed:
    def __init__(self, display: LogDisplay, description: str, total: float | None, unit: str) -> None:
        self._display, self._description, self._total, self._unit = display, description, total, unit
        self._began = time.monotonic()
        self._done = self._told = 0.0
        self._note = ""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Count; tell if it is time."""
        self._done += steps
        self._note = note or self._note
        seconds = time.monotonic() - self._began
        if seconds - self._told < self._display.log_every:
            return
        last, self._told = self._told, seconds
        of = f" of {self._total:,.0f}" if self._total else ""
        left = self._left(seconds)
        parts = [f"{self._done:,.0f}{of} {self._unit}s", self._note, f"{left:.0f} s left" if left else ""]
        figures: Figures = {"done": self._done, "seconds": round(seconds, 1), "state": self._note}
        if self._total:
            figures["total"] = self._total
        if left:
            figures["seconds left"] = round(left)
        line = f"{self._description}: {', '.join(part for part in parts if part)}"
        self._display.tell(line, figures, seconds, last)

    def _left(self, seconds: float) -> float | None:
        if not self._total or not self._done:
            return None
        return seconds * max(self._total - self._done, 0) / self._done
