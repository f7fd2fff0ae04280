"""Serves the embedded source over HTTP on loopback the way S3 serves the public bucket, faults included.

HEAD and GET, strong ETags, ranges, conditions, `Content-Encoding: gzip` on the tables, XML errors, and 403
for what is not there (the public bucket lets nobody list it). What `faults.json` names goes wrong as it says,
for the first request or for good.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageOps

from lakehouse.demo.bucket import TABLES
from lakehouse.errors import SourceError

HOST = "127.0.0.1"
# Below the ports that systems hand out to outgoing connections, so that none of those can sit on it.
PORTS = range(28400, 28600)

_PHOTO = re.compile(r"photos/(\d+)/(original|large|medium|small|thumb|square)\.([A-Za-z]+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_SMALLER = {"small": 240, "thumb": 100, "square": 75}
_FORMATS = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif"}
_HTML = b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body>One moment.</body></html>\n"
_MESSAGES = {
    "AccessDenied": "Access Denied",
    "NoSuchKey": "The specified key does not exist.",
    "SlowDown": "Please reduce your request rate.",
    "PreconditionFailed": "At least one of the pre-conditions you specified did not hold",
    "InvalidRange": "The requested range is not satisfiable",
    "MethodNotAllowed": "The specified method is not allowed against this resource.",
}


@dataclass
class EmbeddedServer:
    """The running server: where it is, and what was asked of it.

    Attributes
    ----------
    url
        Base URL, `http://127.0.0.1:<port>`.
    directory
        What it serves.
    """

    url: str
    directory: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _photo_requests: int = 0
    _seen: set[int] = field(default_factory=set, repr=False)

    @property
    def photo_requests(self) -> int:
        """How many GET requests for photographs were answered, whatever the answer."""
        with self._lock:
            return self._photo_requests

    def count_photo(self) -> None:
        """One more GET of a photograph."""
        with self._lock:
            self._photo_requests += 1

    def first_time(self, photo_id: int) -> bool:
        """Whether this photo's fault has not struck yet; from now on it has."""
        with self._lock:
            new = photo_id not in self._seen
            self._seen.add(photo_id)
            return new


@dataclass(frozen=True, slots=True)
class _Content:
    data: bytes
    etag: str
    kind: str
    encoding: str
    modified: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "AmazonS3"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    timeout = 120
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        key = unquote(urlsplit(self.path).path).lstrip("/")
        photo = _PHOTO.fullmatch(key)
        if photo:
            if self.command == "GET":
                self.server.handle.count_photo()
            fault = self.server.faults().get(photo[1])
            if fault is not None and self._fail(int(photo[1]), fault, key):
                return
        content = _content(self.server.handle.directory, key)
        if content is None:
            self._error(HTTPStatus.FORBIDDEN, "AccessDenied", key)
        else:
            self._content(content, key)

    def _fail(self, photo_id: int, fault: str, key: str) -> bool:
        """Answer as the fault says; False if the request is to be answered normally."""
        if fault == "404":
            self._error(HTTPStatus.NOT_FOUND, "NoSuchKey", key)
        elif fault == "403":
            self._error(HTTPStatus.FORBIDDEN, "AccessDenied", key)
        elif fault == "html":
            self._send(HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"}, _HTML)
        elif self.command == "HEAD" or fault == "corrupt":
            return False  # the corrupt file is on disk, cut in half, and served as it is
        elif not self.server.handle.first_time(photo_id):
            return False
        elif fault == "503-then-200":
            self._error(HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown", key, {"Retry-After": "0"})
        elif fault == "truncated-then-200":
            content = _content(self.server.handle.directory, key)
            if content is None:
                return False
            self._send(HTTPStatus.OK, self._headers_of(content), content.data, cut=len(content.data) // 2)
        else:
            raise SourceError(f"faults.json gives photo {photo_id} the unknown fault {fault!r}")
        return True

    def _headers_of(self, content: _Content) -> dict[str, str]:
        headers = {
            "ETag": content.etag,
            "Last-Modified": content.modified,
            "Accept-Ranges": "bytes",
            "Content-Type": content.kind,
        }
        if content.encoding:
            headers["Content-Encoding"] = content.encoding
        return headers

    def _content(self, content: _Content, key: str) -> None:
        headers = self._headers_of(content)
        if not _matches(self.headers.get("If-Match", "*"), content.etag):
            self._error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", key)
            return
        if (unless := self.headers.get("If-None-Match")) and _matches(unless, content.etag):
            self._send(HTTPStatus.NOT_MODIFIED, headers, None)
            return
        total = len(content.data)
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or asked[0] == "bytes=-":
            self._send(HTTPStatus.OK, headers, content.data)
            return
        first, last = _span(asked[1], asked[2], total)
        if first >= total or last < first:
            self._error(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                "InvalidRange",
                key,
                {"Content-Range": f"bytes */{total}"},
            )
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        self._send(HTTPStatus.PARTIAL_CONTENT, headers, content.data[first : last + 1])

    def _error(self, status: HTTPStatus, code: str, key: str, headers: dict[str, str] | None = None) -> None:
        # S3 names the key in NoSuchKey only; what gets there matched a pattern that has nothing to escape.
        detail = f"<Key>{key}</Key>" if code == "NoSuchKey" else ""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{_MESSAGES[code]}</Message>{detail}"
            "<RequestId>0</RequestId></Error>"
        )
        self._send(status, {"Content-Type": "application/xml", **(headers or {})}, text.encode())

    def _send(
        self, status: HTTPStatus, headers: dict[str, str], body: bytes | None, cut: int | None = None
    ) -> None:
        """One answer; `cut` breaks the connection after that many bytes of the body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None and self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()
        if cut is not None:
            self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(timestamp, usegmt=True)

    def log_message(self, format: str, *args: object) -> None:
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    # A port in TIME_WAIT may be taken again; a port another server listens on may not.
    allow_reuse_address = os.name == "posix"

    def __init__(self, port: int, directory: Path) -> None:
        self.handle = EmbeddedServer("", directory)
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__((HOST, port), _Handler)
        self.handle.url = f"http://{HOST}:{self.server_address[1]}"

    def faults(self) -> dict[str, str]:
        path = self.handle.directory / "faults.json"
        return _faults(path, path.stat().st_mtime_ns) if path.exists() else {}

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        assert isinstance(request, socket.socket)
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        # A client that hangs up is no error of ours; anything else is shown by the base class.
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def hang_up(self) -> None:
        """End kept-alive connections, so that their threads end too."""
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):  # it may have ended by itself meanwhile
                    connection.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=4)
def _faults(path: Path, modified: int) -> dict[str, str]:
    return {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}


def _matches(condition: str, etag: str) -> bool:
    return any(part.strip() in ("*", etag) for part in condition.split(","))


def _span(first: str, last: str, total: int) -> tuple[int, int]:
    """First and last byte (inclusive) that a Range header asks for."""
    if not first:
        return max(0, total - int(last)) if int(last) else total, total - 1
    return int(first), min(int(last), total - 1) if last else total - 1


def _content(directory: Path, key: str) -> _Content | None:
    """What stands under a key; None for what is no key of the bucket, which is all that path tricks are."""
    size = "medium"
    if photo := _PHOTO.fullmatch(key):
        size, path = photo[2], directory / "photos" / photo[1] / f"medium.{photo[3]}"
    elif key in {f"{name}.csv.gz" for name in TABLES}:
        path = directory / key
    else:
        return None
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _load(path, size, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=128)
def _load(path: Path, size: str, modified: int, length: int) -> _Content:
    data = path.read_bytes()
    if size in _SMALLER:
        data = _resized(data, size)
    kind = _FORMATS.get(path.suffix.lstrip(".").lower(), "application/octet-stream")
    table = path.suffix == ".gz"
    return _Content(
        data=data,
        etag=f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"',
        kind="text/csv" if table else kind,
        encoding="gzip" if table else "",
        modified=formatdate(modified / 1e9, usegmt=True),
    )


def _resized(data: bytes, size: str) -> bytes:
    """The smaller size of a photograph, never enlarged; what cannot be decoded stays as it is."""
    box, buffer = _SMALLER[size], io.BytesIO()
    try:
        with Image.open(io.BytesIO(data)) as image:
            form = image.format or "JPEG"
            image.load()
            if size == "square":
                smaller = ImageOps.fit(image, (box, box), Image.Resampling.LANCZOS)
            else:
                smaller = image.copy()
                smaller.thumbnail((box, box), Image.Resampling.LANCZOS)
    except OSError:
        return data
    smaller.save(buffer, form, quality=85)
    return buffer.getvalue()


@contextmanager
def serve(directory: Path, port: int = 0) -> Iterator[EmbeddedServer]:
    """Serve an embedded source on loopback while the block runs.

    Parameters
    ----------
    directory
        What `write_bucket` wrote.
    port
        A fixed port, or 0 for the first free one from 28400 up.
    """
    server = _bind(Path(directory).resolve(), port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.handle
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()


def _bind(directory: Path, port: int) -> _Server:
    for candidate in (port,) if port else PORTS:
        try:
            return _Server(candidate, directory)
        except OSError as error:
            last = error
    asked = port or f"{PORTS.start}-{PORTS.stop - 1}"
    raise SourceError(f"no port to serve the embedded source on: {HOST}:{asked} is taken ({last})")
