"""The decision behind every sensor that watches a state: pure, so that it can be tested by itself.

A sensor that only reacts to a change loses it when the run it started fails. These look at what is still to
be done, and count how often it was tried, so that nothing is lost and nothing storms.
"""

from dataclasses import dataclass

import dagster as dg

MOST = 3
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def under_way(instance: dg.DagsterInstance, *jobs: str) -> bool:
    """Whether a run of one of the jobs is queued or under way."""
    return any(instance.get_runs_count(dg.RunsFilter(job_name=name, statuses=UNDER_WAY)) for name in jobs)


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often runs were started for one state of the world (a release, a campaign file); the cursor."""

    state: str
    count: int

    def __str__(self) -> str:
        return f"{self.state} {self.count}"

    @classmethod
    def read(cls, cursor: str | None) -> "Attempts":
        """A cursor as it was written; anything else counts as none."""
        state, _, count = (cursor or "").rpartition(" ")
        return cls(state, int(count)) if state and count.isdecimal() else cls("", 0)


def decide(state: str, to_do: str, cursor: str | None, running: bool) -> Attempts | str:
    """Whether to start a run now.

    Parameters
    ----------
    state
        What the work is for; another one is tried anew.
    to_do
        What is still to be done for it, in words; empty if nothing is.
    running
        Whether a run that may be doing it is queued or under way.

    Returns
    -------
    Attempts or str
        What to remember if a run is to be started, else the reason why not.
    """
    if not to_do:
        return f"nothing to do: {state} is taken in"
    if running:
        return f"{to_do}; a run that sees to it is under way"
    known = Attempts.read(cursor)
    tried = known.count if known.state == state else 0
    if tried >= MOST:
        return f"{to_do}; {MOST} runs failed at it, so the next is yours to start: look at why they failed"
    return Attempts(state, tried + 1)
