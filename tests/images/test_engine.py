"""Shards built in this process, in worker processes, on a Dask cluster: the same bytes, the same manners."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from lakehouse.campaign import ImageSpec
from lakehouse.errors import LakeError, SourceError, UsageError
from lakehouse.images import build
from lakehouse.images.build import store_photos
from lakehouse.images.engine import ATTEMPTS, WorkerDied, opened_engine
from lakehouse.images.ledger import Ledger
from lakehouse.lake import Lake
from lakehouse.progress import shown_by
from lakehouse.settings import Settings
from tests.images import misbehaving

SHARD, PHOTOS = 20, 90


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(build, "SHARD_PHOTOS", SHARD)


@pytest.fixture
def faulty(server):
    """A server with photos that do not come."""
    server.delay = 0.003
    server.on(3, lambda handler: handler.reply(404))
    server.on(44, lambda handler: handler.reply(200, b"<html>"))
    return server


@pytest.fixture(scope="module")
def cluster():
    """A Dask scheduler and two workers, on loopback only."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        silence_logs="CRITICAL",
    ) as running:
        yield running


@pytest.fixture
def dask(cluster):
    return "dask://" + cluster.scheduler_address.removeprefix("tcp://")


@pytest.fixture
def store(faulty, tmp_path):
    """Store the photos in a lake of its own by the engine named."""

    def run(engine: str, photos: int = PHOTOS, **values):
        settings = Settings(engine=engine, connections=16, **values)
        lake = Lake(str(tmp_path / engine.replace("/", "-")), settings)
        report = store_photos(lake, "inat", faulty.photos(range(1, photos + 1)), image=ImageSpec())
        return lake, report

    return run


def contents(lake):
    """Every byte of the shards and their indexes, and every outcome."""
    columns = ["photo_id", "outcome", "reason", "http_status", "sha256", "shard", "size"]
    known = Ledger(lake).outcomes("inat", "medium", pl.Series(range(1, PHOTOS + 1)))
    return {key: lake.get(key) for key in lake.list("shards")}, known.select(columns).rows()


class Seen:
    """A display that remembers."""

    def __init__(self):
        self.told = []

    def start(self, description, total, unit):
        return self

    def advance(self, steps=1, note=""):
        self.told.append((time.monotonic(), steps, note))

    def finish(self, task):
        self.finished = time.monotonic()


def test_worker_processes_make_the_same_bytes(store, faulty):
    expected, alone = store("inline")
    built, report = store("processes:2")
    assert contents(built) == contents(expected)
    assert (report.stored, report.gone, report.rejected) == (PHOTOS - 2, 1, 1)
    assert (report.by_reason, report.bytes_now) == (alone.by_reason, alone.bytes_now)
    assert sorted(report.shards_now) == sorted(alone.shards_now)
    assert {*faulty.hits.values()} == {2}, "each photo was fetched once by each engine"


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_bytes_and_tells_how_far_it_is(store, dask, faulty):
    faulty.delay = 0.05
    seen = Seen()
    expected, _ = store("inline")
    with shown_by(seen):
        built, report = store(dask)
    assert contents(built) == contents(expected)
    assert report.requested == PHOTOS
    assert sum(steps for _, steps, _ in seen.told) == PHOTOS
    assert len([steps for _, steps, _ in seen.told if steps]) > 1


@pytest.mark.slow
def test_progress_comes_from_the_workers_while_they_work(store, faulty):
    faulty.delay = 0.15
    seen = Seen()
    with shown_by(seen):
        store("processes:2", photos=2 * SHARD)
    steps = [(moment, count) for moment, count, _ in seen.told if count]
    assert sum(count for _, count in steps) == 2 * SHARD
    assert len(steps) > 2, "more often than once a shard"


@pytest.mark.slow
def test_all_workers_together_ask_for_no_more_than_the_setting_allows(store, faulty):
    faulty.delay = 0.03
    store("processes:2")
    assert faulty.peak <= 16


@pytest.mark.slow
def test_the_rate_is_shared(store, faulty):
    began = time.monotonic()
    store("processes:2", photos=2 * SHARD, rate=20.0)
    took = max(faulty.times) - min(faulty.times)
    # A tenth of a second's worth may be caught up by each worker.
    assert took >= (2 * SHARD) / 20 - 1
    assert time.monotonic() - began >= took


@pytest.mark.slow
def test_a_second_run_asks_for_nothing(store, faulty):
    store("processes:2")
    hits = faulty.hits.total()
    _, report = store("processes:2")
    assert (report.fetched_now, faulty.hits.total()) == (0, hits)


@pytest.mark.slow
def test_a_source_that_denies_everything_ends_the_run(store, faulty):
    faulty.default = lambda handler: handler.reply(403)
    with pytest.raises(SourceError, match="none of them was recorded as gone"):
        store("processes:2", photos=400)


def test_the_next_shard_is_fetched_while_one_is_published(faulty, tmp_path, monkeypatch):
    publish, waited = Lake.publish, []

    def slowly(lake, file, key):
        if not waited:
            waited.append(faulty.hits.total())
            until(lambda: faulty.hits.total() > waited[0])
        publish(lake, file, key)

    @contextmanager
    def threads(name, tasks, most):
        with ThreadPoolExecutor(2) as pool:
            yield SimpleNamespace(width=1, most=2, here=False, submit=pool.submit)

    monkeypatch.setattr(Lake, "publish", slowly)
    monkeypatch.setattr(build, "opened_engine", threads)
    lake = Lake(str(tmp_path / "lake"), Settings())
    report = store_photos(lake, "inat", faulty.photos(range(1, PHOTOS + 1)), image=ImageSpec())
    assert report.stored == PHOTOS - 2
    assert waited == [SHARD], "nobody else fetched before that shard was fetched"


def test_one_process_fetches_and_another_publishes(tmp_path):
    with opened_engine("processes:1", 9, 2) as engine:
        assert (engine.width, engine.most) == (1, 2)
        told = []
        engine.submit(misbehaving.double, 1, _no_news, lambda: told.append("fetched")).result(60)
        assert told == ["fetched"]


def test_an_unknown_engine_is_wrong_usage(monkeypatch):
    monkeypatch.setattr("lakehouse.images.engine._CONNECT", 1.0)
    with pytest.raises(ValueError, match="engine"):
        Settings(engine="ray://x")
    with (
        pytest.raises(UsageError, match="no Dask scheduler answers"),
        opened_engine("dask://127.0.0.1:9", 2, 2),
    ):
        pass


# --- what the engines do with functions that misbehave


def _no_news(tally):
    return None


def _nobody():
    return None


def test_a_task_that_kills_its_worker_fails_alone():
    with opened_engine("processes:2", 9, 2) as engine:
        futures = {task: engine.submit(misbehaving.deadly, task, _no_news, _nobody) for task in range(5)}
        errors = {task: future.exception(60) for task, future in futures.items()}
    assert isinstance(errors.pop(3), WorkerDied)
    assert set(errors.values()) == {None}


def test_a_worker_that_dies_once_costs_nothing(tmp_path):
    with opened_engine("processes:2", 9, 2) as engine:
        futures = [
            engine.submit(partial(misbehaving.dies_once, str(tmp_path)), task, _no_news, _nobody)
            for task in range(3)
        ]
        assert [future.result(60) for future in futures] == [0, 1, 2]
    assert ATTEMPTS > 1


def test_errors_come_back_as_they_are():
    with opened_engine("processes:2", 9, 2) as engine:
        with pytest.raises(LakeError, match="no room"):
            engine.submit(misbehaving.fails, 1, _no_news, _nobody).result(60)
        with pytest.raises(ZeroDivisionError, match="a bug") as raised:
            engine.submit(misbehaving.fails, 2, _no_news, _nobody).result(60)
        assert "fails" in raised.value.__notes__[0]
        told = []
        assert engine.submit(misbehaving.double, 21, told.append, _nobody).result(60) == 42
    assert [tally.requested for tally in told] == [21]


@pytest.mark.slow
def test_a_task_that_kills_dask_workers_ends_with_an_error(dask):
    with opened_engine(dask, 9, 2) as engine:
        assert isinstance(engine.submit(misbehaving.deadly, 3, _no_news, _nobody).exception(200), WorkerDied)


# --- kill -9

PARENT = f"""
import sys
from lakehouse.campaign import ImageSpec
from lakehouse.images import build
from lakehouse.lake import Lake
from lakehouse.settings import Settings
import polars as pl
root, url = sys.argv[1:]
build.SHARD_PHOTOS = {SHARD}
ids = list(range(1, {PHOTOS} + 1))
photos = pl.DataFrame({{"photo_id": ids, "url": [f"{{url}}/photos/{{one}}/medium.jpg" for one in ids]}})
settings = Settings(engine="processes:2", connections=16)
build.store_photos(Lake(root, settings), "inat", photos, image=ImageSpec())
print("done", flush=True)
"""


def workers_of(pid: int) -> list[int]:
    """The worker processes of a parent, not the helper that multiprocessing starts beside them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid and b"spawn_main" in line:
                found.append(int(entry.name))
    return found


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def start(root: Path, url: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PARENT, str(root), url]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def child(faulty, tmp_path):
    """A run in a process of its own, with two workers at work."""
    faulty.delay = 0.1
    process = start(tmp_path / "killed", faulty.url)
    until(lambda: faulty.hits, 60.0)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds worker processes in /proc")
def test_a_killed_worker_costs_its_shard_a_second_try_and_no_more(child, store, faulty, tmp_path):
    os.kill(workers_of(child.pid)[0], signal.SIGKILL)
    out, errors = child.communicate(timeout=200)
    assert (out, child.returncode) == (b"done\n", 0), errors
    faulty.delay = 0.0
    expected, _ = store("inline")
    built = Lake(str(tmp_path / "killed"), Settings())
    assert contents(built) == contents(expected)
    assert not list((built.path / ".tmp").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds worker processes in /proc")
def test_workers_end_with_their_parent_and_the_next_run_completes(child, store, faulty, tmp_path):
    workers = workers_of(child.pid)
    child.kill()
    child.wait()
    until(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers))
    faulty.delay = 0.0
    expected, _ = store("inline")
    settings = Settings(engine="processes:2", connections=16)
    built = Lake(str(tmp_path / "killed"), settings)
    store_photos(built, "inat", faulty.photos(range(1, PHOTOS + 1)), image=ImageSpec())
    assert contents(built) == contents(expected)
    assert not list((built.path / ".tmp").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_at_random_instants_leave_what_an_undisturbed_run_would(store, faulty, tmp_path):
    """A worker or the parent is killed, ten times at seeded instants, each time in a lake of its own."""
    expected = contents(store("inline")[0])
    settings = Settings(engine="processes:2", connections=16)
    for seed in range(10):
        rng = random.Random(seed)
        faulty.delay = 0.05
        faulty.hits.clear()
        root = tmp_path / f"killed-{seed}"
        process = start(root, faulty.url)
        until(lambda: faulty.hits, 60.0)
        time.sleep(rng.uniform(0, 1))
        victims = workers_of(process.pid)
        os.kill(victims[0] if seed % 2 and victims else process.pid, signal.SIGKILL)
        process.communicate(timeout=200)
        faulty.delay = 0.0
        built = Lake(str(root), settings)
        store_photos(built, "inat", faulty.photos(range(1, PHOTOS + 1)), image=ImageSpec())
        assert contents(built) == expected, f"seed {seed}"
        assert not list((built.path / ".tmp").iterdir())
