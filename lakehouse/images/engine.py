"""Where shards are built: in this process, in a pool of processes, or on a Dask cluster.

Each engine is an executor as in `concurrent.futures`, reduced to what is used: `submit` one task, `close`. At
most `width` tasks fetch at a time; that is what the connections to a host are divided by, so that all workers
together are as polite as one. A task that has fetched says so, and the next one may begin while its shard is
written into the lake. A task that is done twice makes the same bytes under the same names.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lakehouse.errors import LakehouseError, UsageError
from lakehouse.images.report import BEAT, Tally

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")
Tell = Callable[[Tally], None]
Fetched = Callable[[], None]
Function = Callable[[T, Tell, Fetched], R]

ATTEMPTS = 3  # how many workers a task may kill
_DASK = "dask://"
_CONNECT = 15.0  # seconds
_START = 1.0  # seconds that a process takes to start: one that is free before is waited for


class WorkerDied(LakehouseError):
    """A task's worker died (out of memory, killed), and so did those that it was given to afterwards."""

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"its worker process died {attempts} times (killed, or out of memory); what was stored is safe: "
            "give it more memory or fewer processes (LAKEHOUSE_ENGINE=processes:1) and run again"
        )


class Engine(Protocol):
    """Runs functions of a task somewhere: up to `most` at a time, of which `width` may fetch."""

    width: int
    most: int
    here: bool  # in the calling thread, before `submit` returns

    def submit(self, function: Function[T, R], task: T, tell: Tell, fetched: Fetched) -> Future[R]:
        """Run `function(task, tell, fetched)`.

        `tell` is called in this process, in any thread, with the counts so far; `fetched` likewise, when the
        task has no more to fetch (if the engine can tell).
        """


class _Inline:
    """Runs a task in the calling thread before `submit` returns."""

    width, most, here = 1, 1, True

    def submit(self, function: Function[T, R], task: T, tell: Tell, fetched: Fetched) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(function(task, tell, fetched))
        except LakehouseError as error:
            future.set_exception(error)
        return future


@contextmanager
def opened_engine(name: str, tasks: int, most: int) -> Iterator[Engine]:
    """The engine that LAKEHOUSE_ENGINE names, for so many tasks, of which at most `most` fetch at a time."""
    most = max(1, min(tasks, most))
    if name.startswith(_DASK):
        with _cluster(name, most) as cluster:
            yield cluster
        return
    kind, _, number = name.partition(":")
    if kind == "inline" or tasks <= 1:
        yield _Inline()
        return
    pool = _Processes(min(int(number) if number else usable_cores(), most))
    try:
        yield pool
    finally:
        pool.close()


def usable_cores() -> int:
    """Cores that this process may use: under a scheduler or in a container fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- processes


class _Processes:
    """Worker processes, each driven by one thread at a time: one that dies takes no other task with it.

    There are more than `width` of them only if some are still busy with a shard that the network has given.
    """

    here = False

    def __init__(self, width: int) -> None:
        self.width, self.most = width, 2 * width
        self._threads = ThreadPoolExecutor(self.most, thread_name_prefix="shards")
        self._workers: set[_Worker] = set()
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._closing = False

    def submit(self, function: Function[T, R], task: T, tell: Tell, fetched: Fetched) -> Future[R]:
        return self._threads.submit(self._run, function, task, tell, fetched)

    def close(self) -> None:
        """End the workers, at work or not: nothing that they do counts before it is whole."""
        self._closing = True
        for worker in self._workers.copy():
            worker.end()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, function: Function[T, R], task: T, tell: Tell, fetched: Fetched) -> R:
        for _ in range(ATTEMPTS):
            if self._closing:
                break
            worker = self._worker()
            try:
                result: R = worker.call(function, task, tell, fetched)
                return result
            except _Dead:
                self._workers.discard(worker)
                worker.end()
            finally:
                if worker in self._workers:
                    self._idle.put(worker)
        raise WorkerDied(ATTEMPTS)

    def _worker(self) -> _Worker:
        with suppress(Empty):
            return self._idle.get(timeout=_START if len(self._workers) >= self.width else 0)
        worker = _Worker()
        self._workers.add(worker)
        if self._closing:
            worker.end()
        return worker


class _Dead(Exception):
    """A worker process is gone."""


class _Worker:
    """A process and the pipe to it."""

    def __init__(self) -> None:
        # Not forked: the libraries that read tables and talk to S3 have threads, which a fork would lose.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, function: Function[T, R], task: T, tell: Tell, fetched: Fetched) -> R:
        """The function's value; raises _Dead if the process is gone."""
        try:
            self._pipe.send((function, task))
            while True:
                said, value = self._pipe.recv()
                if said == "so far":
                    tell(value)
                elif said == "fetched":
                    fetched()
                else:
                    break
        except (EOFError, OSError) as error:
            raise _Dead from error
        if said == "failed":
            raise value
        result: R = value
        return result

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """Work off tasks until the other end is gone, by whatever way: then this process is of no use."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with suppress(EOFError, OSError):
        while True:
            function, task = pipe.recv()
            tell = _throttled(lambda tally: pipe.send(("so far", tally)), BEAT)
            try:
                answer = "done", function(task, tell, lambda: pipe.send(("fetched", None)))
            # Whatever it is, it is raised again where the result is awaited.
            except Exception as error:  # noqa: BLE001
                error.add_note(traceback.format_exc())
                answer = "failed", error
            pipe.send(answer)


def _throttled(tell: Tell, every: float) -> Tell:
    due = 0.0

    def quietly(tally: Tally) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + every
            tell(tally)

    return quietly


# --- Dask


class _Cluster:
    """A Dask cluster; its workers have this package and reach the same lake."""

    here = False

    def __init__(self, client: Client, width: int) -> None:
        # A worker's thread is busy until its shard is in the lake: no other task could begin there.
        self.width = self.most = width
        self._client = client
        self._topic = f"lakehouse-{uuid.uuid4().hex}"
        self._tells: dict[str, Tell] = {}
        client.subscribe_topic(self._topic, self._on_event)

    def submit(self, function: Function[T, R], task: T, tell: Tell, fetched: Fetched) -> Future[R]:
        from distributed import Future as Promise

        number, future = uuid.uuid4().hex, Future[R]()
        self._tells[number] = tell
        promise = self._client.submit(
            _on_cluster, function, task, self._topic, number, pure=False, key=f"shard-{number}"
        )

        def done(promise: Promise) -> None:
            """In Dask's own thread; the scheduler forgets a future as soon as nobody holds it."""
            del self._tells[number]
            try:
                future.set_result(promise.result())
            # Whatever it is, whoever waits for the future gets it.
            except BaseException as error:  # noqa: BLE001
                future.set_exception(_as_ours(error))
            finally:
                promise.release()

        promise.add_done_callback(done)
        return future

    def close(self) -> None:
        """Leave the cluster; what is still running there is dropped."""
        self._client.unsubscribe_topic(self._topic)

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        if tell := self._tells.get(event[1]["number"]):
            tell(pickle.loads(event[1]["tally"]))


@contextmanager
def _cluster(name: str, most: int) -> Iterator[_Cluster]:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            f"LAKEHOUSE_ENGINE is {name}, which needs Dask: pip install 'lakehouse[dask]'"
        ) from None
    address = "tcp://" + name.removeprefix(_DASK)
    try:
        client = Client(address, set_as_default=False, timeout=_CONNECT)
    except OSError as error:
        raise UsageError(f"LAKEHOUSE_ENGINE is {name}: no Dask scheduler answers there ({error})") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UsageError(f"LAKEHOUSE_ENGINE is {name}: the cluster has no workers; start some")
        cluster = _Cluster(client, max(1, min(threads, most)))
        try:
            yield cluster
        finally:
            cluster.close()


def _on_cluster(function: Function[T, R], task: T, topic: str, number: str) -> R:
    from distributed import get_worker

    worker = get_worker()

    def tell(tally: Tally) -> None:
        worker.log_event(topic, {"number": number, "tally": pickle.dumps(tally)})

    # The scheduler keeps the last events of a topic: so not more often than needed.
    return function(task, _throttled(tell, 5 * BEAT), lambda: None)


def _as_ours(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return WorkerDied(ATTEMPTS)
    if isinstance(error, asyncio.CancelledError | CancelledError):
        return LakehouseError(
            "the Dask scheduler forgot a task (a restart, or the connection was lost); what was stored "
            "is safe: run again"
        )
    return error
