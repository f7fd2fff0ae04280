"""Progress of long work, told by the library and shown by whoever is listening (the command line's bar, a
log).

The library calls `task(...)`; without a display installed that costs nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of long work under way."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """`steps` more of the total are done; `note` replaces the short text beside the bar."""


class Display(Protocol):
    """Something that shows tasks."""

    def start(self, description: str, total: float | None, unit: str) -> Task:
        """Show a new task of `total` `unit`s (None: unknown)."""

    def finish(self, task: Task) -> None:
        """The task ended, well or not."""


class _Silent:
    def advance(self, steps: float = 1, note: str = "") -> None:
        return None


_displays: list[Display] = []


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Show all tasks started inside this block on `display`."""
    _displays.append(display)
    try:
        yield
    finally:
        _displays.remove(display)


@contextmanager
def task(description: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
    """Tell of one piece of long work; the yielded task takes `advance(steps, note)`."""
    if not _displays:
        yield _Silent()
        return
    display = _displays[-1]
    shown = display.start(description, total, unit)
    try:
        yield shown
    finally:
        display.finish(shown)
