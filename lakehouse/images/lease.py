"""One worker at a time on one piece of work, wherever the workers run: a lease, an object in the lake.

A lease is created only if it is absent, which every store decides for one of two that try. Its holder renews
it; one that nobody renews any more is taken over after `LIFE` seconds, or at once if its holder was a process
of this machine that is dead.

Nothing depends on it but speed: whatever is done twice has the same bytes under the same names.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from lakehouse.errors import AlreadyExistsError, LakehouseError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.progress import task

LIFE = 120.0  # seconds
_POLL = 1.0


@contextmanager
def lease(lake: Lake, key: str, life: float = LIFE, poll: float = _POLL) -> Iterator[None]:
    """Hold the lease `key` while the block runs; waits as long as another worker holds it."""
    mine = uuid.uuid4().hex
    if not _take(lake, key, mine, life):
        with task("another worker is at it; waiting", unit="second") as waiting:
            while not _take(lake, key, mine, life):
                time.sleep(poll)
                waiting.advance(poll)
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lake, key, mine, life, over), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        if _holder(lake, key).get("token") == mine:
            lake.delete(key)


def _take(lake: Lake, key: str, mine: str, life: float) -> bool:
    try:
        lake.create(key, _record(mine, life))
        return True
    except AlreadyExistsError:
        holder = _holder(lake, key)
        if not holder or not _is_over(holder):
            return False
    # Two that find it over at once may both come here; the later one should find the other's lease.
    if _holder(lake, key) == holder:
        lake.delete(key)
    return False


def _renew(lake: Lake, key: str, mine: str, life: float, over: threading.Event) -> None:
    while not over.wait(life / 4):
        try:
            if _holder(lake, key).get("token") != mine:
                return
            lake.put(key, _record(mine, life))
        except LakehouseError:
            # A lake that cannot be written stops the work itself; the lease can wait for the next round.
            continue


def _record(mine: str, life: float) -> bytes:
    values = {"token": mine, "host": socket.gethostname(), "pid": os.getpid(), "until": time.time() + life}
    return json.dumps(values).encode()


def _holder(lake: Lake, key: str) -> dict[str, object]:
    """What the lease says; empty if there is none, or none that can be read."""
    try:
        values = json.loads(lake.get(key))
    except NotFoundError:
        return {}
    except ValueError:
        return {"until": 0}
    return values if isinstance(values, dict) else {"until": 0}


def _is_over(holder: dict[str, object]) -> bool:
    until, pid = holder.get("until"), holder.get("pid")
    if not isinstance(until, int | float) or until < time.time():
        return True
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
