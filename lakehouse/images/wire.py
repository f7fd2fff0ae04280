"""Transfers side by side: libcurl's multi interface on the system's selector, in the calling thread.

Its own loop rather than asyncio's, so that it works the same inside a notebook, a Dagster step and a script.
When the transfers under way hold more bytes than allowed, all but the oldest pause until those are done.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import selectors
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import certifi
import pycurl

from lakehouse.images.answers import TIMEOUT_FIRST_BYTE, Exchange

T = TypeVar("T")

_USER_AGENT = "lakehouse/0.1"
_LOOK = 0.002  # seconds between looks at the memory in use
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


class _Transfer(Generic[T]):
    """A curl handle and what it receives; the callbacks are C methods, so no signal handler runs in them."""

    def __init__(self, handle: pycurl.Curl, token: T, url: str, signature: Signature | None) -> None:
        self.handle, self.token, self.url, self.signature = handle, token, url, signature
        self.paused = False
        self.started = time.monotonic()
        self.head: list[bytes] = []
        self.body = io.BytesIO()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.HEADERFUNCTION, self.head.append)
        handle.setopt(pycurl.WRITEFUNCTION, self.body.write)

    def exchange(self, code: int, message: str) -> Exchange:
        status = self.handle.getinfo(pycurl.RESPONSE_CODE) or None
        return Exchange(
            url=self.url,
            code=code,
            message=message,
            status=status,
            headers=parse_head(self.head),
            body=b"" if code else self.body.getvalue(),
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
        self._selector = selectors.DefaultSelector()
        self._timer = math.inf
        self._broken: BaseException | None = None
        self._active: dict[pycurl.Curl, _Transfer[T]] = {}  # in the order they were started
        self._idle: dict[Signature | None, list[pycurl.Curl]] = {}
        self._look_again = 0.0

    def __len__(self) -> int:
        return len(self._active)

    @property
    def buffered(self) -> int:
        """Bytes held by the transfers under way."""
        return sum(transfer.body.tell() for transfer in self._active.values())

    def start(self, token: T, url: str, signature: Signature | None = None) -> None:
        """Begin a transfer."""
        idle = self._idle.setdefault(signature, [])
        handle = idle.pop() if idle else self._new_handle(signature)
        self._active[handle] = _Transfer(handle, token, url, signature)
        self._multi.add_handle(handle)
        self._check()

    def cancel(self, token: T) -> None:
        """Drop a transfer; nothing more is heard of it."""
        for handle, transfer in self._active.items():
            if transfer.token is token:
                del self._active[handle]
                self._release(handle, transfer)
                return

    def wait(self, until: float) -> list[tuple[T, Exchange]]:
        """Move bytes until something ended or the monotonic clock reads `until`; what ended."""
        silent = next((one for one in self._active.values() if not one.head), None)
        clock = silent.started + self._limits.first_byte if silent else math.inf
        pause = min(until, self._timer, clock) - time.monotonic()
        if self._selector.get_map():
            events = self._selector.select(None if pause == math.inf else max(pause, 0))
        else:  # an empty selector does not wait on every platform
            events = []
            time.sleep(min(max(pause, 0), 1.0))
        for key, mask in events:
            bits = (pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0) | (
                pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
            )
            self._act(key.fd, bits)
            self._bound_memory()
        if self._timer <= time.monotonic():
            self._timer = math.inf
            self._act(pycurl.SOCKET_TIMEOUT, 0)
        self._bound_memory()
        return self._ended() + self._late()

    def close(self) -> list[T]:
        """Drop everything under way; the tokens of what was dropped."""
        dropped = [transfer.token for transfer in self._active.values()]
        for handle in self._active:
            self._multi.remove_handle(handle)
        for handle in [*self._active, *(one for idle in self._idle.values() for one in idle)]:
            handle.close()
        self._active.clear()
        self._idle.clear()
        self._multi.close()
        self._selector.close()
        return dropped

    # --- inside

    def _bound_memory(self) -> None:
        """Let the oldest two transfers alone until there is room for the others again."""
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + _LOOK
        full = self.buffered > self._limits.buffered
        for position, transfer in enumerate(self._active.values()):
            pause = full and position >= 2
            if pause is transfer.paused:
                continue
            # One that is not connected yet or has just ended cannot be paused; it is looked at again.
            with contextlib.suppress(pycurl.error):
                transfer.handle.pause(pycurl.PAUSE_RECV if pause else pycurl.PAUSE_CONT)
                transfer.paused = pause
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
            known = descriptor in self._selector.get_map()
            events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
                selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
            )
            if what == pycurl.POLL_REMOVE or not events:
                if known:
                    self._selector.unregister(descriptor)
            elif known:
                self._selector.modify(descriptor, events)
            else:
                self._selector.register(descriptor, events)
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
        for transfer in self._active.values():
            if transfer.started > latest:
                break
            if not transfer.head:
                late.append(transfer.handle)
        return [self._finish(handle, pycurl.E_OPERATION_TIMEDOUT, TIMEOUT_FIRST_BYTE) for handle in late]

    def _finish(self, handle: pycurl.Curl, code: int, message: str) -> tuple[T, Exchange]:
        transfer = self._active.pop(handle)
        exchange = transfer.exchange(code, message)
        self._release(handle, transfer)
        return transfer.token, exchange

    def _release(self, handle: pycurl.Curl, transfer: _Transfer[T]) -> None:
        transfer.body.close()
        self._multi.remove_handle(handle)
        self._check()
        self._idle[transfer.signature].append(handle)


def parse_head(lines: list[bytes]) -> dict[str, str]:
    """The header fields of the last response in `lines` (a 1xx may come before it), in lower case."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(b"HTTP/"):
            fields.clear()
            continue
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return fields
