"""What a worker process may be given to do; a module of its own, so that workers start quickly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from lakehouse.errors import LakeError
from lakehouse.images.report import Tally


def double(task, tell, fetched):
    tell(Tally(requested=task))
    fetched()
    return 2 * task


def deadly(task, tell, fetched):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return os.getpid()


def dies_once(folder, task, tell, fetched):
    marker = Path(folder) / str(task)
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def fails(task, tell, fetched):
    raise (LakeError("no room") if task == 1 else ZeroDivisionError("a bug"))
