"""Storage that fails at a chosen operation: a process that is killed there leaves the same lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lakehouse.images.ledger import Ledger
from lakehouse.lake import Lake
from lakehouse.snapshots.removal import LEASE

LAKE = ("put", "create", "publish", "delete")
LEDGER = ("forget", "move", "purge")


class Killed(BaseException):
    """Nothing catches this."""


class Fuse:
    """Counts the operations that change storage, and blows before, or right after, the one it is set to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.at: float = -1
        self.depth = 0

    def around(self, original: Any, name: str) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            if self.depth:  # put() is made of publish(): one operation
                return original(*arguments, **named)
            number = len(self.seen)
            self.seen.append(name)
            if self.at == number:
                raise Killed(f"before {name} {number}")
            self.depth += 1
            try:
                result = original(*arguments, **named)
            finally:
                self.depth -= 1
            if self.at == number + 0.5:
                raise Killed(f"after {name} {number}")
            return result

        return run


@contextmanager
def fused(at: float = -1) -> Iterator[Fuse]:
    """Every lake has this fuse while the block runs; `at` 3 is before the fourth operation, 3.5 after it."""
    fuse = Fuse()
    with pytest.MonkeyPatch.context() as patch:
        for kind, names in ((Lake, LAKE), (Ledger, LEDGER)):
            for name in names:
                patch.setattr(kind, name, fuse.around(getattr(kind, name), f"{kind.__name__}.{name}"))
        fuse.at = at
        yield fuse


def bury_holder(lake: Lake) -> None:
    """A lease whose holder is dead is over at once; the test's process, which held it, lives on."""
    lake.delete(LEASE)
