"""What the commands show: tables and bars for people (stderr for the bars), JSON on stdout for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from lakehouse.progress import Task, shown_by

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(message: str, code: int, as_json: bool) -> int:
    """Say what went wrong, in one line; returns the exit code."""
    if as_json:
        print(json.dumps({"error": message, "exit_code": code}, ensure_ascii=False))
    else:
        err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return code


def emit(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=str)
    print()


def say(text: str, **given: object) -> None:
    """Print one line, however long; what is given is filled in as it is, for only `text` is markup."""
    out.print(text.format(**{name: escape(str(value)) for name, value in given.items()}), soft_wrap=True)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, grouped: bool = True
) -> None:
    """Print a table; numbers are right-aligned, with thousands separators if `grouped`."""
    body = [list(row) for row in rows]
    grid = Table(title=escape(title) if title else None, title_justify="left", title_style="bold")
    for position, name in enumerate(columns):
        cells = [row[position] for row in body if row[position] != ""]
        numeric = bool(cells) and all(isinstance(cell, int | float) for cell in cells)
        # A name or digest is copied whole or not at all; only prose is wrapped.
        whole = not any(" " in str(cell) for cell in cells)
        grid.add_column(escape(name), justify="right" if numeric else "left", no_wrap=whole)
    for row in body:
        grid.add_row(
            *(f"{cell:,}" if grouped and isinstance(cell, int) else escape(str(cell)) for cell in row)
        )
    out.print(grid)


def facts(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair a line, the names aligned."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        out.print(f"  [dim]{escape(name):<{width}}[/]  {escape(text)}", soft_wrap=True)


def by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names and counts, the largest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def human_bytes(count: float) -> str:
    """Bytes in a unit that reads well."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def human_time(seconds: float) -> str:
    """A duration in a unit that reads well."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Bar:
    """One task on the terminal's progress display."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    def advance(self, steps: float = 1, note: str = "") -> None:
        if note:
            self.progress.update(self.task, advance=steps, note=escape(note))
        else:
            self.progress.advance(self.task, steps)


class _Bars:
    """Shows the library's tasks as Rich progress bars; a task's bar goes when it ends."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def start(self, description: str, total: float | None, unit: str) -> Task:
        shown = f"{description}" if not unit else f"{description} [dim]({unit}s)[/]"
        return _Bar(self.progress, self.progress.add_task(shown, total=total, note=""))

    def finish(self, task: Task) -> None:
        assert isinstance(task, _Bar)
        self.progress.remove_task(task.task)


@contextmanager
def bars(as_json: bool) -> Iterator[None]:
    """Show progress on stderr while the block runs; nothing where a script listens or there is no
    terminal."""
    if as_json or not err.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=True) as progress, shown_by(_Bars(progress)):
        yield
