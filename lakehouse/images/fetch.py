"""Photos from the network: who is asked, when, how often, and when to stop."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lakehouse.errors import SourceError, UnreachableError
from lakehouse.images.answers import (
    Answer,
    Exchange,
    Kind,
    Outcome,
    PhotoRequest,
    Problem,
    Verdict,
    host_of,
    judge,
    redirect_problem,
    wire_url,
)
from lakehouse.images.pace import HostPace, Latency, RetryBudget, backoff, retry_after
from lakehouse.images.s3 import S3Access
from lakehouse.images.wire import Limits, Signature, Wire
from lakehouse.settings import Settings

_LOCAL = "file://"
_AT_ONCE = 8  # answers that are handed on before the network is looked after again


class Fetcher(Protocol):
    """Something that gets photos."""

    def fetch(self, requests: Iterable[PhotoRequest]) -> Generator[Answer, None, None]:
        """One answer for every request, in any order; closing the generator drops what is under way.

        Raises SourceError if the source as a whole fails, so that nothing can be said of single photos.
        """


class CurlFetcher:
    """Fetches over http and https (and reads file:// URLs), politely and persistently.

    One fetcher should serve a whole run: it remembers each host's pace, and whether the host serves anything.
    It belongs to one thread.

    Parameters
    ----------
    settings
        `connections` (in all) and `rate` (requests per second and host).
    limits
        Clocks, sizes and patience.
    seed
        Of the jitter; for tests.
    """

    def __init__(self, settings: Settings, limits: Limits | None = None, seed: int | None = None) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._rng = random.Random(seed)
        self._hosts: dict[str, HostPace] = {}
        self._budget = RetryBudget()

    def fetch(self, requests: Iterable[PhotoRequest]) -> Generator[Answer, None, None]:
        """One answer for every request, in the order they come in."""
        with closing(_Run(self._settings, self._limits, self._rng, self._hosts, self._budget)) as run:
            yield from run.answers(iter(requests))


@dataclass(slots=True, eq=False)
class _Job:
    """A request on its way: where it stands, how often it was tried. A probe asks if a host still serves.

    It has two flights while it is asked for a second time because the first is late.
    """

    request: PhotoRequest
    url: str
    host: str
    signature: Signature | None = None
    probe: bool = False
    flights: list[_Flight] = field(default_factory=list)
    hops: int = 0
    attempts: int = 0
    empty: bool = False
    started: float = 0.0
    origin: str = field(init=False)

    def __post_init__(self) -> None:
        self.origin = self.url


@dataclass(frozen=True, slots=True, eq=False)
class _Flight:
    """One transfer of a job."""

    job: _Job
    started: float


@dataclass(slots=True)
class _Run:
    """The state of one `fetch`."""

    settings: Settings
    limits: Limits
    rng: random.Random
    hosts: dict[str, HostPace]
    budget: RetryBudget
    wire: Wire[_Flight] = field(init=False)
    s3: S3Access = field(init=False)
    ready: deque[Answer] = field(default_factory=deque)
    queues: dict[str, deque[_Job]] = field(default_factory=dict)  # only hosts with something to do
    aloft: dict[str, deque[_Flight]] = field(default_factory=dict)  # not asked for twice yet, by host
    later: list[tuple[float, int, _Job]] = field(default_factory=list)
    # Denials not yet believed, by host, and when they came.
    held: dict[str, list[tuple[float, Answer]]] = field(default_factory=dict)
    order: Iterator[int] = field(default_factory=itertools.count)
    asked: set[str] = field(default_factory=set)
    challenged: set[str] = field(default_factory=set)  # hosts with a probe under way
    queued: int = 0

    def __post_init__(self) -> None:
        self.wire = Wire(self.settings.connections, self.limits)
        self.s3 = S3Access(self.settings)

    def close(self) -> None:
        for flight in self.wire.close():
            self._pace(flight.job.host).end()
        self.s3.close()

    def answers(self, requests: Iterator[PhotoRequest]) -> Generator[Answer, None, None]:
        # More than are asked for at a time, so that whatever ends is followed at once.
        most = self.settings.connections + max(_AT_ONCE, self.settings.connections // 2)
        more = True
        while True:
            while more and not self.wire.full and self._under_way + len(self.ready) < most:
                request = next(requests, None)
                if request is None:
                    more = False
                else:
                    self._accept(request)
            until = self._start_what_may()
            if self.ready:
                # What ended gives way to the next requests before anybody looks at it.
                self.wire.send()
            if self.wire.busy:
                until = 0.0
            elif self.ready:
                for _ in range(min(_AT_ONCE, len(self.ready))):
                    answer = self.ready.popleft()
                    self.wire.unread -= len(answer.body)
                    yield answer
                until = 0.0  # there is room for more now
            if self._under_way:
                for flight, exchange in self.wire.wait(until):
                    self._land(flight, exchange)
            elif not more and not self.ready and not self._settle_denials():
                return

    @property
    def _under_way(self) -> int:
        return len(self.wire) + self.queued + len(self.later)

    # --- starting

    def _accept(self, request: PhotoRequest) -> None:
        is_s3 = request.url.startswith("s3://")
        url = wire_url(self.s3.url(request.url) if is_s3 else request.url)
        if url is None:
            self.ready.append(Answer(request, Problem(Outcome.REFUSED, "bad_url"), attempts=0))
        elif url.startswith("file:"):
            self._finish_local(request, url)
        else:
            self._enqueue(_Job(request, url, host_of(url), self.s3.signature if is_s3 else None))

    def _pace(self, host: str) -> HostPace:
        if host not in self.hosts:
            limits = self.limits
            latency = Latency(limits.hedge_factor, limits.hedge_least, limits.hedge_share)
            self.hosts[host] = HostPace(
                self.settings.connections, self.settings.rate, limits.patience, latency
            )
        return self.hosts[host]

    def _enqueue(self, job: _Job) -> None:
        self.asked.add(job.host)
        self.queues.setdefault(job.host, deque()).append(job)
        self.queued += 1

    def _start_what_may(self) -> float:
        """Start what pace and connections allow; when to look again."""
        now = time.monotonic()
        while self.later and self.later[0][0] <= now:
            self._enqueue(heapq.heappop(self.later)[2])
        until = min(self.later[0][0] if self.later else math.inf, self._hedge(now))
        room = not self.wire.full
        for host, queue in list(self.queues.items()):
            pace = self._pace(host)
            while queue:
                if pace.is_down(now):
                    self._fail(self._take(queue), Problem(Outcome.FAILED, "host_down"))
                elif not room or len(self.wire) >= self.settings.connections:
                    break
                elif (at := pace.ready_at()) <= now:
                    job = self._take(queue)
                    job.attempts += job.hops == 0
                    flight = self._launch(job, now)
                    if not job.probe:
                        self.aloft.setdefault(job.host, deque()).append(flight)
                else:
                    until = min(until, at)
                    break
            if not queue:
                del self.queues[host]
        return until

    def _launch(self, job: _Job, now: float) -> _Flight:
        flight, pace = _Flight(job, now), self._pace(job.host)
        job.flights.append(flight)
        pace.start(now)
        pace.latency.ask()
        # A signature is for the bucket, not for wherever it redirects to.
        self.wire.start(flight, job.url, job.signature if job.hops == 0 else None)
        return flight

    def _hedge(self, now: float) -> float:
        """Ask a second time for what is late, over connections that are free anyway; when to look again.

        Every request is a GET, so that asking twice does no harm; the first good answer counts.
        """
        again = math.inf
        for host, flights in self.aloft.items():
            pace = self._pace(host)
            while flights:
                flight, due = flights[0], flights[0].started + pace.latency.late
                if flight in flight.job.flights:
                    if due > now:
                        again = min(again, due)
                        break
                    if len(self.wire) >= self.settings.connections or pace.ready_at() > now:
                        break
                    if pace.latency.hedge():
                        self._launch(flight.job, now)
                flights.popleft()
        return again

    def _take(self, queue: deque[_Job]) -> _Job:
        self.queued -= 1
        return queue.popleft()

    # --- ending

    def _land(self, flight: _Flight, exchange: Exchange) -> None:
        """One transfer of a job ended; unless it failed while another still flies, the job ends with it."""
        job, pace = flight.job, self._pace(flight.job.host)
        if flight not in job.flights:
            return  # the other landed in the same moment
        job.flights.remove(flight)
        job.started = flight.started
        pace.end()
        verdict = judge(exchange, self.limits.max_bytes)
        if job.flights and verdict.kind not in (Kind.WHOLE, Kind.FINAL, Kind.DENIED, Kind.REDIRECT):
            self._trouble(job, exchange, verdict)
            return
        for other in job.flights:
            self.wire.cancel(other)
            pace.end()
        job.flights.clear()
        self._finish(job, exchange, verdict)

    def _finish(self, job: _Job, exchange: Exchange, verdict: Verdict) -> None:
        if verdict.kind is Kind.REDIRECT:
            self._pace(job.host).answered()
            self._redirect(job, exchange)
        elif verdict.problem is None or verdict.kind in (Kind.FINAL, Kind.DENIED):
            self._conclude(job, exchange, verdict)
        else:
            self._retry(job, exchange, verdict, verdict.problem)

    def _conclude(self, job: _Job, exchange: Exchange, verdict: Verdict) -> None:
        host, pace = job.host, self._pace(job.host)
        if job.probe:
            if verdict.problem is not None:
                raise self._denied(host, verdict.problem.reason)
            self.challenged.discard(host)
            pace.trust(self._believe(host, job.started))
            return
        answer = Answer(
            request=job.request,
            problem=verdict.problem,
            body=verdict.body,
            http_status=exchange.status,
            attempts=job.attempts,
            etag=exchange.headers.get("etag"),
            last_modified=exchange.headers.get("last-modified"),
            length_known="content-length" in exchange.headers,
        )
        if verdict.kind is Kind.DENIED:
            pace.denied()
            self.held.setdefault(host, []).append((time.monotonic(), answer))
            if pace.denies_all:
                self._challenge(host)
            return
        self.ready.append(answer)
        self.wire.unread += len(answer.body)
        if verdict.kind is Kind.WHOLE:
            self.budget.earn()
            pace.latency.took(time.monotonic() - job.started)
            pace.signature = job.signature if job.hops == 0 else None
            pace.served(job.url, self._believe(host, job.started))
        else:
            pace.answered()

    def _finish_local(self, request: PhotoRequest, url: str) -> None:
        """Read a file; a missing one is a denial, since a folder that is not mounted misses them all."""
        job = _Job(request, url, _LOCAL, attempts=1, started=time.monotonic())
        path = Path(url2pathname(urlsplit(url).path))
        try:
            # One byte more than allowed is read, so that a file that grows meanwhile is seen to be too large.
            with path.open("rb") as file:
                body = file.read(self.limits.max_bytes + 1)
        except FileNotFoundError:
            verdict = Verdict(Kind.DENIED, Problem(Outcome.GONE, "file_missing"))
        except OSError:
            verdict = Verdict(Kind.FINAL, Problem(Outcome.FAILED, "file_unreadable"))
        else:
            verdict = judge(Exchange(url, 0, status=200, body=body), self.limits.max_bytes)
            if verdict.kind is Kind.EMPTY:
                verdict = Verdict(Kind.FINAL, verdict.problem)
        self._conclude(job, Exchange(url, 0, headers={"content-length": ""}), verdict)

    def _redirect(self, job: _Job, exchange: Exchange) -> None:
        target = exchange.redirect_url or ""
        problem = redirect_problem(job.url, target, job.hops)
        url = wire_url(target)
        if problem is None and url is None:
            problem = Problem(Outcome.REFUSED, "bad_redirect")
        if problem is not None or url is None:
            self._conclude(job, exchange, Verdict(Kind.FINAL, problem))
            return
        job.url, job.host, job.hops = url, host_of(url), job.hops + 1
        self._enqueue(job)

    def _retry(self, job: _Job, exchange: Exchange, verdict: Verdict, problem: Problem) -> None:
        now, limits = time.monotonic(), self.limits
        wait, asked = self._trouble(job, exchange, verdict)
        if self._pace(job.host).is_down(now) and len(self.asked) == 1:
            raise UnreachableError(
                f"{job.host} has served nothing for {limits.patience:g} s (last: {problem.reason}); what "
                "was stored before is safe: check the network or LAKEHOUSE_SOURCE and run again"
            )
        tried = job.empty if verdict.kind is Kind.EMPTY else job.attempts >= limits.attempts
        # A throttled retry costs no budget: the host itself paces it.
        if tried or not (verdict.kind is Kind.THROTTLED or self.budget.spend()):
            self._fail(job, problem, exchange)
            return
        job.empty = job.empty or verdict.kind is Kind.EMPTY
        if not job.probe:
            # From the start again: a redirect may lead elsewhere by then.
            job.url, job.hops = job.origin, 0
            job.host = host_of(job.url)
        heapq.heappush(self.later, (now + max(wait, asked), next(self.order), job))

    def _trouble(self, job: _Job, exchange: Exchange, verdict: Verdict) -> tuple[float, float]:
        """Tell the host's pace of a failure; seconds to wait by our own rule, and by the host's wish."""
        now, limits, pace = time.monotonic(), self.limits, self._pace(job.host)
        wait = backoff(max(job.attempts, 1), limits.backoff_base, limits.backoff_cap, self.rng)
        asked = retry_after(exchange.headers.get("retry-after"), datetime.now(UTC), limits.retry_after_cap)
        if verdict.kind is Kind.EMPTY:
            pace.answered()
        else:
            slow = verdict.kind in (Kind.THROTTLED, Kind.TIMEOUT, Kind.UNREACHABLE)
            pace.trouble(now, job.started, cut=slow, asked=asked or 0.0, wait=wait if slow else 0.0)
        return wait, asked or 0.0

    def _fail(self, job: _Job, problem: Problem, exchange: Exchange | None = None) -> None:
        if job.probe:
            raise self._denied(job.host, problem.reason)
        status = exchange.status if exchange else None
        self.ready.append(Answer(job.request, problem, http_status=status, attempts=job.attempts))

    # --- denials

    def _believe(self, host: str, served: float) -> int:
        """Release the denials that came before a request that was served began; how many stay in doubt.

        Only such a request is proof: one that had begun before may have been served before the host turned.
        """
        held = self.held.pop(host, [])
        doubtful = [(came, answer) for came, answer in held if came > served]
        self.ready.extend(answer for came, answer in held if came <= served)
        if doubtful:
            self.held[host] = doubtful
        return len(doubtful)

    def _challenge(self, host: str) -> None:
        """Ask for a photo that the host served before; without one, or if it is denied too, the run ends."""
        pace = self._pace(host)
        if host in self.challenged:
            return
        if pace.proof is None:
            raise self._denied(host, self._last_reason(host))
        self.challenged.add(host)
        proof = PhotoRequest(0, pace.proof)
        if host == _LOCAL:
            self._probe_local(proof)
        else:
            self._enqueue(_Job(proof, pace.proof, host, pace.signature, probe=True))

    def _probe_local(self, proof: PhotoRequest) -> None:
        if not Path(url2pathname(urlsplit(proof.url).path)).is_file():
            raise self._denied(_LOCAL, "file_missing")
        self.challenged.discard(_LOCAL)
        self._pace(_LOCAL).trust(self._believe(_LOCAL, time.monotonic()))

    def _settle_denials(self) -> bool:
        """Decide on the denials held at the end of the requests; whether there is more to do."""
        for host in list(self.held):
            pace = self._pace(host)
            if pace.denies_few:
                self._believe(host, math.inf)
            elif pace.proof is not None:
                self._challenge(host)
            else:
                # Too many to believe, too few to accuse the host: a later run asks again.
                doubt = Problem(Outcome.FAILED, "host_denies")
                self.ready.extend(
                    Answer(held.request, doubt, http_status=held.http_status, attempts=held.attempts)
                    for _, held in self.held.pop(host)
                )
        return bool(self.ready) or self._under_way > 0

    def _last_reason(self, host: str) -> str:
        held = self.held.get(host)
        problem = held[-1][1].problem if held else None
        return problem.reason if problem else "denied"

    def _denied(self, host: str, reason: str) -> SourceError:
        return SourceError(
            f"{host} denies photo after photo ({reason}) and serves none; none of them was recorded as gone: "
            "check that the source allows access (LAKEHOUSE_SOURCE) and run again"
        )
