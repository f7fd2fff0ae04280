"""The embedded source: a miniature iNaturalist Open Data bucket that the project draws for itself, and its
server.

The taxa are real (ids, names, ranks and ancestry are facts); people, observations and photographs are
invented and drawn from seeds, so that two machines get the same bytes. Every hazard of the real files is in
it once or more.
"""

from __future__ import annotations

from lakehouse.demo.bucket import current_month, write_bucket
from lakehouse.demo.server import EmbeddedServer, serve
from lakehouse.demo.tables import Hazards, MonthTwoChanges, hazards, month_two_changes

__all__ = [
    "EmbeddedServer",
    "Hazards",
    "MonthTwoChanges",
    "current_month",
    "hazards",
    "month_two_changes",
    "serve",
    "write_bucket",
]
