"""What a fetch is asked, what it answers, and how an exchange with a host is judged: no I/O here."""

from __future__ import annotations

import ipaddress
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from urllib.parse import quote, urlsplit, urlunsplit

import pycurl

MAX_REDIRECTS = 5
# A URL that needs no second look, as nearly all do; the group is the host.
_PLAIN = re.compile(r"(https?://[a-z0-9.-]+(?::[0-5]?\d{1,4})?)/[A-Za-z0-9/._~-]*\Z")


class Outcome(StrEnum):
    """What became of a photo; the ledger keeps the value."""

    STORED = "stored"
    GONE = "gone"  # the source no longer has it: no failure, and not asked for again
    FAILED = "failed"  # may work another time: a later run asks again
    REFUSED = "refused"  # the source will not serve it, however often it is asked
    REJECTED = "rejected"  # it came, and is not an image this lake takes


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a photo is not stored: the outcome and a short code for the reason, for example `http_404`."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class PhotoRequest:
    """A photo to fetch."""

    photo_id: int
    url: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: the whole body, or a problem.

    `length_known`: the host had announced the body's length, so that it cannot have been cut unnoticed.
    """

    request: PhotoRequest
    problem: Problem | None
    body: bytes = b""
    http_status: int | None = None
    attempts: int = 1
    etag: str | None = None
    last_modified: str | None = None
    length_known: bool = True


@dataclass(frozen=True, slots=True)
class Exchange:
    """One transfer as it ended: curl's result code and message (0: fine), then what the host said."""

    url: str
    code: int
    message: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    redirect_url: str | None = None


class Kind(Enum):
    """What an exchange means for the request and for its host."""

    WHOLE = "a body to look at"
    REDIRECT = "the photo is elsewhere"
    FINAL = "asking again changes nothing"
    DENIED = "final for this photo, unless the host denies everything"
    EMPTY = "worth asking once more"
    TRANSIENT = "worth asking again"
    THROTTLED = "the host asks for less"
    TIMEOUT = "a clock ran out"
    UNREACHABLE = "no conversation with the host"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of an exchange, and the problem it is if nothing better comes of further attempts."""

    kind: Kind
    problem: Problem | None = None
    body: bytes = b""


_GONE = {404, 410}
_TRANSIENT = {202, 206, 408, 425, 500, 502, 504}  # 202: a firewall's challenge; 206: a range nobody asked for
_UNREACHABLE = {
    pycurl.E_COULDNT_RESOLVE_PROXY: "proxy",
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_COULDNT_CONNECT: "connect",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls",
    pycurl.E_GOT_NOTHING: "reset",
    pycurl.E_SEND_ERROR: "reset",
    pycurl.E_RECV_ERROR: "reset",
}
_FINAL = {
    pycurl.E_URL_MALFORMAT: Problem(Outcome.REFUSED, "bad_url"),
    pycurl.E_FILESIZE_EXCEEDED: Problem(Outcome.REJECTED, "too_large"),
}
TIMEOUT_FIRST_BYTE = "first byte"  # the message of a transfer that the wire itself gave up


def judge(exchange: Exchange, max_bytes: int) -> Verdict:
    """What an exchange means; a timeout or a broken transfer is never success, whatever its status."""
    if exchange.code:
        return _judge_broken(exchange.code, exchange.message)
    status = exchange.status or 0
    if status in (200, 203):
        return _judge_body(exchange, max_bytes)
    if status in (204, 205):
        return Verdict(Kind.EMPTY, Problem(Outcome.REJECTED, "empty"))
    if status in (301, 302, 303, 307, 308) and exchange.redirect_url:
        return Verdict(Kind.REDIRECT)
    reason = f"http_{status}"
    if status == 403:
        return Verdict(Kind.DENIED, Problem(Outcome.GONE, reason))
    if status == 401:
        return Verdict(Kind.DENIED, Problem(Outcome.REFUSED, reason))
    if status in _GONE:
        return Verdict(Kind.FINAL, Problem(Outcome.GONE, reason))
    if status in (429, 503):
        return Verdict(Kind.THROTTLED, Problem(Outcome.FAILED, reason))
    if status in _TRANSIENT or status >= 500:
        return Verdict(Kind.TRANSIENT, Problem(Outcome.FAILED, reason))
    return Verdict(Kind.FINAL, Problem(Outcome.REFUSED, reason))


def _judge_broken(code: int, message: str) -> Verdict:
    if code in _FINAL:
        return Verdict(Kind.FINAL, _FINAL[code])
    if code in _UNREACHABLE:
        return Verdict(Kind.UNREACHABLE, Problem(Outcome.FAILED, _UNREACHABLE[code]))
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return Verdict(Kind.TIMEOUT, Problem(Outcome.FAILED, f"timeout_{_clock(message)}"))
    if code == pycurl.E_PARTIAL_FILE:
        return Verdict(Kind.TRANSIENT, Problem(Outcome.FAILED, "truncated"))
    return Verdict(Kind.TRANSIENT, Problem(Outcome.FAILED, f"curl_{code}"))


def _clock(message: str) -> str:
    """Which of the four clocks ran out, by the only trace curl leaves of it."""
    if message == TIMEOUT_FIRST_BYTE:
        return "first_byte"
    if "too slow" in message:
        return "slow"
    return "connect" if "onnect" in message or "Resolving" in message else "total"


def _judge_body(exchange: Exchange, max_bytes: int) -> Verdict:
    body, encoding = exchange.body, exchange.headers.get("content-encoding")
    if encoding and encoding.strip().lower() in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
        # Nobody asked for it (Accept-Encoding: identity), so the object is stored that way.
        decoder = zlib.decompressobj(wbits=31)
        try:
            body = decoder.decompress(body, max_bytes + 1)
        except zlib.error:
            return Verdict(Kind.TRANSIENT, Problem(Outcome.FAILED, "truncated"))
        if len(body) <= max_bytes and not decoder.eof:
            return Verdict(Kind.TRANSIENT, Problem(Outcome.FAILED, "truncated"))
    if len(body) > max_bytes:
        return Verdict(Kind.FINAL, Problem(Outcome.REJECTED, "too_large"))
    if not body:
        return Verdict(Kind.EMPTY, Problem(Outcome.REJECTED, "empty"))
    return Verdict(Kind.WHOLE, body=body)


def redirect_problem(origin: str, target: str, hops: int) -> Problem | None:
    """Why a redirect is not followed: too many, down from https, from a public host to a private one."""
    if hops >= MAX_REDIRECTS:
        return Problem(Outcome.REFUSED, "too_many_redirects")
    before, after = urlsplit(origin), urlsplit(target)
    allowed = ("https",) if before.scheme == "https" else ("http", "https")
    if after.scheme not in allowed:
        return Problem(Outcome.REFUSED, "redirect_scheme")
    if _is_private(after.hostname) and not _is_private(before.hostname):
        return Problem(Outcome.REFUSED, "redirect_private")
    return None


def _is_private(host: str | None) -> bool:
    if not host or host == "localhost" or host.endswith((".localhost", ".internal", ".local")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def wire_url(url: str) -> str | None:
    """The URL with spaces and non-ASCII escaped; None if it is no http, https or file URL."""
    if _PLAIN.match(url):
        return url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme == "file":
        return url if host in (None, "localhost") and parts.path else None
    if parts.scheme not in ("http", "https") or not host:
        return None
    try:
        netloc = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    path, query = quote(parts.path, safe="/%:@!$&'()*+,;=~"), quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return urlunsplit((parts.scheme, netloc, path, query, ""))


def host_of(url: str) -> str:
    """The host whose pace a URL shares: scheme, name and port, never credentials."""
    if plain := _PLAIN.match(url):
        return plain[1]
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def without_credentials(url: str) -> str:
    """The URL fit to be shown: no user, no password, no query (a presigned URL is a key)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", "")
    )
