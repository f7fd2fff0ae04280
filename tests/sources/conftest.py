"""A bucket's HTTP face on loopback, with the faults of real ones on request."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Site:
    """What the server holds; `cuts` breaks GETs after so many bytes, `answers` are statuses sent first."""

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    etags: bool = True
    ranges: bool = True
    after_cut: Callable[[], None] | None = None
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    dates: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    url: str = ""


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            name = self.path.lstrip("/")
            site.requests.append(
                (self.command, name, {key.lower(): value for key, value in self.headers.items()})
            )
            if site.answers:
                return self.status(site.answers.pop(0))
            data = site.files.get(name)
            if data is None:
                return self.status(404)
            etag = f'"{site.tags.get(name) or hashlib.md5(data).hexdigest()}"'
            if site.etags and self.headers.get("If-Match", etag) != etag:
                return self.status(412)
            start = re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) if site.ranges else None
            body = data[int(start[1]) :] if start else data
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Encoding", "gzip")
            usual = format_datetime(datetime(2026, 8, 27, 3, tzinfo=UTC), usegmt=True)
            self.send_header("Last-Modified", site.dates.get(name, usual))
            for header, value in site.headers.items():
                self.send_header(header, value)
            if site.etags:
                self.send_header("ETag", etag)
            if start:
                self.send_header("Content-Range", f"bytes {start[1]}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if self.command == "HEAD":
                return None
            if site.cuts:
                self.wfile.write(body[: site.cuts.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                if site.after_cut:
                    site.after_cut()
                return None
            self.wfile.write(body)
            return None

        def status(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up on a broken answer is no news."""


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    server = _Server(("127.0.0.1", 0), _handler(made))
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
