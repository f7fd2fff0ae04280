"""A lease: one worker at a time, and none locked out by a worker that is no more."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from lakehouse.images.lease import lease

KEY = "campaigns/c/shards/aves-3.lease"


def test_one_at_a_time(lake):
    at_work, most = 0, 0
    lock = threading.Lock()

    def work():
        nonlocal at_work, most
        with lease(lake, KEY, poll=0.01):
            with lock:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.05)
            with lock:
                at_work -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, at_work) == (1, 0)
    assert not lake.exists(KEY)


def test_it_is_given_back_after_an_error(lake):
    with pytest.raises(ValueError, match="no"), lease(lake, KEY):
        raise ValueError("no")
    assert not lake.exists(KEY)


def test_the_lease_of_a_dead_process_is_taken_over_at_once(lake):
    with lease(lake, KEY):
        record = json.loads(lake.get(KEY))
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    lake.put(KEY, json.dumps({**record, "token": "other", "pid": child.pid}).encode())
    began = time.monotonic()
    with lease(lake, KEY, poll=0.01):
        assert json.loads(lake.get(KEY))["token"] != "other"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("left", [b"not json", b'["x"]', b'{"token": "x", "host": "elsewhere", "until": 1}'])
def test_a_lease_that_is_over_or_unreadable_is_taken_over(lake, left):
    lake.put(KEY, left)
    with lease(lake, KEY, poll=0.01):
        assert lake.exists(KEY)


def test_the_lease_of_another_machine_is_waited_for(lake):
    until = time.time() + 0.5
    lake.put(KEY, json.dumps({"token": "x", "host": "elsewhere", "pid": 1, "until": until}).encode())
    with lease(lake, KEY, poll=0.01):
        assert time.time() >= until


def test_it_is_renewed_as_long_as_the_work_takes(lake):
    with lease(lake, KEY, life=0.4):
        before = json.loads(lake.get(KEY))["until"]
        time.sleep(0.5)
        assert json.loads(lake.get(KEY))["until"] > before
