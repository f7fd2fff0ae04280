"""Progress in Dagster's log while a partition runs."""

from __future__ import annotations

from assets.live import LogDisplay
from lakehouse.progress import shown_by, task


def test_figures_come_while_the_work_runs(monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr("assets.live.time.monotonic", lambda: now)
    lines: list[str] = []
    observed: list[dict[str, object]] = []
    with shown_by(LogDisplay(lines.append, observed.append)), task("photos", 4000, "photo") as progress:
        for _ in range(30):
            now += 3
            progress.advance(100, "120/s, 9.3 MB, 2 gone")
    assert len(lines) == 7
    assert lines[0] == "photos: 400 of 4,000 photos, 120/s, 9.3 MB, 2 gone, 108 s left"
    assert observed == [
        {"done": 2000.0, "seconds": 60.0, "state": "120/s, 9.3 MB, 2 gone", "total": 4000, "seconds left": 60}
    ]


def test_what_is_done_in_a_moment_is_not_told() -> None:
    lines: list[str] = []
    with shown_by(LogDisplay(lines.append, lines.append)), task("taxa", unit="taxon") as progress:
        progress.advance()
    assert lines == []


def test_a_task_is_shown_on_every_display() -> None:
    lines: list[str] = []
    others: list[str] = []
    with (
        shown_by(LogDisplay(lines.append, print, log_every=0)),
        shown_by(LogDisplay(others.append, print, log_every=0)),
        task("taxa", unit="taxon") as progress,
    ):
        progress.advance()
    assert lines == others == ["taxa: 1 taxons"]
