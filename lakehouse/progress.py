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


class _Everywhere:
    """A task on every display there is; on none it is silent."""

    def __init__(self, shown: list[Task]) -> None:
        self._shown = shown

    def advance(self, steps: float = 1, note: str = "") -> None:
        for one in self._shown:
            one.advance(steps, note)


_displays: list[Display] = []


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Show all tasks started inside this block on `display` too."""
    _displays.append(display)
    try:
        yield
    finally:
        _displays.remove(display)


@contextmanager
def task(description: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
    """Tell of one piece of long work; the yielded task takes `advance(steps, note)`."""
    shown = [(display, display.start(description, total, unit)) for display in _displays]
    try:
        yield _Everywhere([one for _, one in shown])
    finally:
        for display, one in shown:
            display.finish(one)
