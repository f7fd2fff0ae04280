"""What every sensor that watches a state decides."""

from __future__ import annotations

from sensors.attempts import MOST, Attempts, decide


def test_work_that_is_to_be_done_is_started_and_counted() -> None:
    assert decide("r1", "r1 is new", None, running=False) == Attempts("r1", 1)


def test_nothing_is_started_where_nothing_is_to_be_done() -> None:
    assert decide("r1", "", "r1 1", running=False) == "nothing to do: r1 is taken in"


def test_nothing_is_started_while_a_run_is_under_way() -> None:
    found = decide("r1", "r1 is new", "r1 1", running=True)
    assert isinstance(found, str) and "under way" in found


def test_a_run_that_failed_is_started_again_but_not_for_ever() -> None:
    cursor, started = None, 0
    while isinstance(found := decide("r1", "r1 is new", cursor, running=False), Attempts):
        cursor, started = str(found), started + 1
    assert started == MOST
    assert "yours to start" in found


def test_another_state_is_tried_anew() -> None:
    assert decide("r2", "r2 is new", f"r1 {MOST}", running=False) == Attempts("r2", 1)


def test_a_cursor_of_another_kind_counts_as_none() -> None:
    assert decide("r1", "r1 is new", "20260827-2bfd2a25d902", running=False) == Attempts("r1", 1)
