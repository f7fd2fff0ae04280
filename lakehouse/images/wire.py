"""Transfers side by side: libcurl's multi interface on the system's selector, in the calling thread.

Its own loop rather than asyncio's, so that it works the same inside a notebook, a Dagster step and a script.
When the transfers under way hold more bytes than allowed, all but the oldest two pause until those are done.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import certifi
import pycurl

from lakehouse.images.answers import TIMEOUT_FIRST_BYTE, Exchange

T = TypeVar("T")

_USER_AGENT = "lakehouse/0.1"
# Seconds between looks at the memory in use: from this while all is free down to that, the less there is.
_LOOK, _LOOK_CLOSELY = 0.01, 0.001
_EPOLL = hasattr(select, "epoll")  # elsewhere poll(), which takes the same events, and milliseconds
_AT_ONCE = 16  # transfers that are looked after before those that ended give way to the next ones
# Seconds without a byte, after which a transfer holds up no other while memory is scarce, and for how long.
_STUCK, _REST = 0.2, 1.0
_AT_MOST = 1024 * 1024  # bytes that one look after a transfer brings, nearly always
_BUFFER = 64 * 1024  # bytes that are read at once; libcurl's default of 16 kB is a system call for each
_READ = {
    name.encode(): name
    for name in ("content-encoding", "content-length", "etag", "last-modified", "retry-after")
}
_FIRST_LETTERS = {
    letter.encode() for name in ("http/", *_READ.values()) for letter in (name[0], name[0].upper())
}
# The wheel's libcurl looks where the machine that built it keeps its authorities.
_AUTHORITIES = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or certifi.where()


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a fetch; seconds and bytes.

    Attributes
    ----------
    connect, first_byte, total
        Clocks of one transfer, all from its start; waiting for a turn is not counted.
    slow_bytes, slow_seconds
        A transfer below so many bytes a second for so long is given up.
    max_bytes
        Size of a body.
    attempts
        How often one photo is asked for.
    backoff_base, backoff_cap, retry_after_cap
        Waiting after failures, and the most that a Retry-After is obeyed.
    patience
        How long nothing may work with a host before it counts as down.
    buffered
        No transfer starts, and all but the oldest pause, while those under way hold more bytes than this.
    hedge_factor, hedge_least, hedge_share
        What takes so many times the median, and at least so many seconds, is asked for a second time over
        another connection; at most this share of the transfers.
    """

    connect: float = 10
    first_byte: float = 20
    total: float = 120
    slow_bytes: int = 1_000
    slow_seconds: int = 20
    max_bytes: int = 32 * 1024 * 1024
    attempts: int = 6
    backoff_base: float = 0.5
    backoff_cap: float = 30
    retry_after_cap: float = 120
    patience: float = 60
    buffered: int = 64 * 1024 * 1024
    hedge_factor: float = 8
    hedge_least: float = 0.2
    hedge_share: float = 0.02


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request to S3 is signed with (AWS Signature Version 4)."""

    region: str
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class _Line(Generic[T]):
    """A curl handle with what it receives, used for one transfer after the other.

    The callbacks are C methods, so no signal handler runs in them; they are set once.
    """

    __slots__ = (
        "chunks",
        "got",
        "handle",
        "head",
        "moved",
        "paused",
        "rests",
        "signature",
        "started",
        "token",
        "url",
    )

    def __init__(self, handle: pycurl.Curl, signature: Signature | None) -> None:
        self.handle, self.signature = handle, signature
        self.head: list[bytes] = []
        self.chunks: list[bytes] = []
        handle.setopt(pycurl.HEADERFUNCTION, self.head.append)
        handle.setopt(pycurl.WRITEFUNCTION, self.chunks.append)

    def begin(self, token: T, url: str) -> None:
        self.token, self.url = token, url
        self.paused = False
        self.started = self.moved = time.monotonic()
        self.got, self.rests = 0, 0.0
        self.handle.setopt(pycurl.URL, url)

    def pause(self, pause: bool, now: float) -> None:
        """Stop or go on receiving; one that has just ended cannot, and is looked at again."""
        if pause is not self.paused:
            with contextlib.suppress(pycurl.error):
                self.handle.pause(pycurl.PAUSE_RECV if pause else pycurl.PAUSE_CONT)
                self.paused, self.moved = pause, now

    def is_stuck(self, now: float) -> bool:
        """Whether nothing came of late, and others should have its turn for a while."""
        if self.paused:
            return now < self.rests
        if (got := len(self.chunks)) != self.got:
            self.got, self.moved = got, now
        if now - self.moved < _STUCK:
            return False
        self.rests = now + _REST
        return True

    def exchange(self, code: int, message: str) -> Exchange:
        status = self.handle.getinfo(pycurl.RESPONSE_CODE) or None
        return Exchange(
            url=self.url,
            code=code,
            message=message,
            status=status,
            headers=parse_head(self.head),
            body=b"" if code else b"".join(self.chunks),
            redirect_url=self.handle.getinfo(pycurl.REDIRECT_URL) if status and 300 <= status < 400 else None,
        )


class Wire(Generic[T]):
    """Transfers under way, each known by the token it was started with."""

    def __init__(self, connections: int, limits: Limits) -> None:
        self._limits = limits
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._poll: Any = select.epoll() if _EPOLL else select.poll()
        self._events: dict[int, int] = {}  # by descriptor, what is waited for
        self._timer = math.inf
        self._broken: BaseException | None = None
        self._active: dict[pycurl.Curl, _Line[T]] = {}  # in the order they were started
        self._idle: dict[Signature | None, list[_Line[T]]] = {}
        self._look_again, self._reads_left = 0.0, 0
        self._full = self._waiting = False  # at the last look: no room, some are paused
        self._more = False  # the last `wait` may not have looked after all that have something to read
        self.unread = 0  # bytes of ended transfers that nobody took yet

    def __len__(self) -> int:
        return len(self._active)

    @property
    def busy(self) -> bool:
        """Whether another `wait` finds more to do at once."""
        return self._more and bool(self._active)

    @property
    def full(self) -> bool:
        """Whether the transfers under way, and what came of earlier ones, hold more than they may."""
        return self._full or self.unread > self._limits.buffered

    @property
    def buffered(self) -> int:
        """Bytes held by the transfers under way."""
        return sum(int(handle.getinfo(pycurl.SIZE_DOWNLOAD_T)) for handle in self._active)

    def start(self, token: T, url: str, signature: Signature | None = None) -> None:
        """Begin a transfer."""
        idle = self._idle.get(signature)
        line = idle.pop() if idle else _Line[T](self._new_handle(signature), signature)
        line.begin(token, url)
        self._active[line.handle] = line
        self._multi.add_handle(line.handle)
        self._check()

    def cancel(self, token: T) -> None:
        """Drop a transfer; nothing more is heard of it."""
        for line in self._active.values():
            if line.token is token:
                del self._active[line.handle]
                self._release(line)
                return

    def send(self) -> None:
        """Let what was started ask now, and not only when the next `wait` comes."""
        if self._timer <= time.monotonic():
            self._timer = math.inf
            self._act(pycurl.SOCKET_TIMEOUT, 0)

    def wait(self, until: float) -> list[tuple[T, Exchange]]:
        """Move bytes until something ended or the monotonic clock reads `until`; what ended."""
        silent = next((one for one in self._active.values() if not one.head), None)
        clock = silent.started + self._limits.first_byte if silent else math.inf
        look = self._look_again if self._waiting else math.inf
        pause = max(min(until, self._timer, clock, look) - time.monotonic(), 0.0)
        for descriptor, events in self._ready(pause):
            # An error or the end of a connection is found by reading.
            bits = (pycurl.CSELECT_OUT if events & select.POLLOUT else 0) | (
                pycurl.CSELECT_IN if events & ~select.POLLOUT else 0
            )
            self._act(descriptor, bits)
            self._bound_memory()
        self.send()
        self._bound_memory()
        return self._ended() + self._late()

    def close(self) -> list[T]:
        """Drop everything under way; the tokens of what was dropped."""
        dropped = [line.token for line in self._active.values()]
        for handle in self._active:
            self._multi.remove_handle(handle)
        for line in [*self._active.values(), *(one for idle in self._idle.values() for one in idle)]:
            line.handle.close()
        self._active.clear()
        self._idle.clear()
        self._multi.close()
        if _EPOLL:
            self._poll.close()
        return dropped

    # --- inside

    def _ready(self, pause: float) -> list[tuple[int, int]]:
        """Descriptors on which something can be done, waiting for `pause` seconds at most."""
        self._more = False
        if not self._events:  # nothing to wait for but the clock
            time.sleep(min(pause, 1.0))
            return []
        if _EPOLL:
            ready: list[tuple[int, int]] = self._poll.poll(None if pause == math.inf else pause, _AT_ONCE)
        else:
            ready = self._poll.poll(None if pause == math.inf else pause * 1000)[:_AT_ONCE]
        self._more = len(ready) == _AT_ONCE
        return ready

    def _bound_memory(self) -> None:
        """Let only the oldest two that get on receive until there is room for the others again; beyond twice
        the bound the oldest two, whether they get on or not.

        Those without a first byte hold nothing, and curl does not connect what is paused.
        """
        now = time.monotonic()
        self._reads_left -= 1
        if now < self._look_again and self._reads_left > 0:
            return
        held, bound = self.buffered + self.unread, self._limits.buffered
        self._look_again = now + max(_LOOK_CLOSELY, _LOOK * (1 - held / bound))
        self._reads_left = max(1, (bound - held) // _AT_MOST)
        self._full = held > bound
        if not self._full and not self._waiting:
            return
        going = resumed = 0
        self._waiting = False
        for line in self._active.values():
            if not line.head:
                continue
            may_go = not self._full or (going < 2 and (held > 2 * bound or not line.is_stuck(now)))
            if line.paused and may_go:
                # All that the system received meanwhile comes at once, some megabytes of each.
                may_go = resumed < 2
                resumed += may_go
            line.pause(not may_go, now)
            going += may_go
            self._waiting |= line.paused
        self._check()

    def _new_handle(self, signature: Signature | None) -> pycurl.Curl:
        limits, handle = self._limits, pycurl.Curl()
        fields = ["Accept-Encoding: identity", "Accept: image/*, */*;q=0.1"]
        if signature:
            handle.setopt(pycurl.AWS_SIGV4, f"aws:amz:{signature.region}:s3")
            handle.setopt(pycurl.USERNAME, signature.key_id)
            handle.setopt(pycurl.PASSWORD, signature.secret)
            if signature.token:
                fields.append(f"X-Amz-Security-Token: {signature.token}")
        for option, value in (
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),  # redirects are decided here, hop by hop
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),  # so that a connection is a connection
            (pycurl.USERAGENT, _USER_AGENT),
            (pycurl.HTTPHEADER, fields),
            (pycurl.CAINFO, _AUTHORITIES),
            (pycurl.CONNECTTIMEOUT_MS, math.ceil(limits.connect * 1000)),
            (pycurl.TIMEOUT_MS, math.ceil(limits.total * 1000)),
            (pycurl.LOW_SPEED_LIMIT, limits.slow_bytes),
            (pycurl.LOW_SPEED_TIME, limits.slow_seconds),
            (pycurl.MAXFILESIZE_LARGE, limits.max_bytes),
            (pycurl.DNS_CACHE_TIMEOUT, 300),
            (pycurl.BUFFERSIZE, _BUFFER),
            (pycurl.NOSIGNAL, 1),
        ):
            handle.setopt(option, value)
        return handle

    def _act(self, descriptor: int, bits: int) -> None:
        self._multi.socket_action(descriptor, bits)
        self._check()

    def _check(self) -> None:
        # pycurl prints and drops what is raised in a callback; an interrupt must not be lost.
        if self._broken is not None:
            broken, self._broken = self._broken, None
            raise broken

    def _on_socket(self, what: int, descriptor: int, multi: pycurl.CurlMulti, data: Any) -> None:
        try:
            events = (select.POLLIN if what & pycurl.POLL_IN else 0) | (
                select.POLLOUT if what & pycurl.POLL_OUT else 0
            )
            known = self._events.get(descriptor)
            if what == pycurl.POLL_REMOVE or not events:
                if known is not None:
                    del self._events[descriptor]
                    self._poll.unregister(descriptor)
            elif known is None:
                self._poll.register(descriptor, events)
                self._events[descriptor] = events
            elif known != events:
                self._poll.modify(descriptor, events)
                self._events[descriptor] = events
        except BaseException as error:  # noqa: BLE001  (raised again by _check)
            self._broken = error

    def _on_timer(self, milliseconds: int) -> None:
        try:
            self._timer = math.inf if milliseconds < 0 else time.monotonic() + milliseconds / 1000
        except BaseException as error:  # noqa: BLE001  (raised again by _check)
            self._broken = error

    def _ended(self) -> list[tuple[T, Exchange]]:
        waiting, ended = 1, []
        while waiting:
            waiting, fine, failed = self._multi.info_read()
            ended += [self._finish(handle, 0, "") for handle in fine]
            ended += [self._finish(handle, code, message) for handle, code, message in failed]
        return ended

    def _late(self) -> list[tuple[T, Exchange]]:
        """Transfers without a first byte in time, which curl has no clock for."""
        latest = time.monotonic() - self._limits.first_byte
        late = []
        for line in self._active.values():
            if line.started > latest:
                break
            if not line.head:
                late.append(line.handle)
        return [self._finish(handle, pycurl.E_OPERATION_TIMEDOUT, TIMEOUT_FIRST_BYTE) for handle in late]

    def _finish(self, handle: pycurl.Curl, code: int, message: str) -> tuple[T, Exchange]:
        line = self._active.pop(handle)
        ended = line.token, line.exchange(code, message)
        self._release(line)
        return ended

    def _release(self, line: _Line[T]) -> None:
        self._multi.remove_handle(line.handle)
        line.head.clear()
        line.chunks.clear()
        del line.token
        self._check()
        self._idle.setdefault(line.signature, []).append(line)


def parse_head(lines: list[bytes]) -> dict[str, str]:
    """What this project reads of the last response in `lines` (a 1xx may come before it), in lower case."""
    fields: dict[str, str] = {}
    for line in lines:
        if line[:1] not in _FIRST_LETTERS:
            continue
        if line.startswith(b"HTTP/"):
            fields.clear()
            continue
        name, colon, value = line.partition(b":")
        if colon and (key := _READ.get(name.strip().lower())):
            fields[key] = value.decode("latin-1").strip()
    return fields
