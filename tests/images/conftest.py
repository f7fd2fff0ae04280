"""A photo server on loopback that misbehaves on request, and small images to serve."""

from __future__ import annotations

import io
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lakehouse.images.answers import Answer, PhotoRequest
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.wire import Limits
from lakehouse.lake import Lake
from lakehouse.settings import Settings

Behaviour = Callable[["Handler"], None]


def make_jpeg(seed: int, width: int = 96, height: int = 80, form: str = "JPEG", **options: object) -> bytes:
    """A small image that differs for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(out, form, **options)
    return out.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers by the behaviour set for the path; else `/photos/<id>/medium.jpg` is the image of that id."""

    protocol_version = "HTTP/1.1"
    server: FaultServer

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.hits[self.path] += 1
            server.now += 1
            server.peak = max(server.peak, server.now)
            server.times.append(time.monotonic())
            server.seen[self.path] = dict(self.headers.items())
        try:
            if server.delay:
                time.sleep(server.delay() if callable(server.delay) else server.delay)
            (server.routes.get(self.path) or server.default or serve_photo)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.now -= 1

    @property
    def hit(self) -> int:
        """How often this path was asked for, this time included."""
        return self.server.hits[self.path]

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        if "Content_Length" not in headers and "Transfer_Encoding" not in headers:
            headers["Content_Length"] = str(len(body))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        return None


def serve_photo(handler: Handler) -> None:
    """The ordinary behaviour."""
    photo_id = int(handler.path.split("/")[2])
    handler.reply(
        200, make_jpeg(photo_id), ETag=f'"{photo_id}"', Last_Modified="Sat, 01 Nov 2025 10:00:00 GMT"
    )


class FaultServer(ThreadingHTTPServer):
    """The server; `on(path, behaviour)` sets what a path does."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.routes: dict[str, Behaviour] = {}
        self.default: Behaviour | None = None
        self.delay: float | Callable[[], float] = 0.0
        self.hits: Counter[str] = Counter()
        self.seen: dict[str, dict[str, str]] = {}
        self.times: list[float] = []
        self.now = self.peak = 0
        self.url = f"http://127.0.0.1:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        return None  # a client that hangs up is part of the game

    def photo_path(self, photo_id: int) -> str:
        return f"/photos/{photo_id}/medium.jpg"

    def photo_url(self, photo_id: int) -> str:
        return self.url + self.photo_path(photo_id)

    def on(self, photo_id: int, behaviour: Behaviour) -> None:
        self.routes[self.photo_path(photo_id)] = behaviour

    def photos(self, photo_ids: range | list[int]) -> pl.DataFrame:
        """A photo table."""
        ids = list(photo_ids)
        return pl.DataFrame(
            {"photo_id": ids, "extension": ["jpg"] * len(ids), "url": [self.photo_url(one) for one in ids]},
            schema={"photo_id": pl.Int64, "extension": pl.String, "url": pl.String},
        )


def free_port() -> int:
    """A port below the ephemeral range, so that no client of this machine can hold it."""
    rng = random.Random()
    while True:
        port = rng.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(free_port()) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def settings() -> Settings:
    return Settings(connections=16)


@pytest.fixture
def lake(tmp_path: Path, settings: Settings) -> Lake:
    return Lake(str(tmp_path / "lake"), settings)


@pytest.fixture
def hasty() -> Limits:
    """Limits for a test: everything at once, little patience."""
    return Limits(
        connect=1,
        first_byte=0.6,
        total=4,
        slow_seconds=1,
        max_bytes=100_000,
        attempts=4,
        backoff_base=0.01,
        backoff_cap=0.05,
        retry_after_cap=2,
        patience=0.3,
    )


@pytest.fixture
def fetcher(settings: Settings, hasty: Limits) -> CurlFetcher:
    return CurlFetcher(settings, hasty, seed=1)


@pytest.fixture
def fetch(fetcher: CurlFetcher, server: FaultServer) -> Callable[..., dict[int, Answer]]:
    """Fetch photos of the server by id; answers by id."""

    def run(*photo_ids: int) -> dict[int, Answer]:
        requests = [PhotoRequest(photo_id, server.photo_url(photo_id)) for photo_id in photo_ids]
        answers = list(fetcher.fetch(requests))
        assert sorted(answer.request.photo_id for answer in answers) == sorted(photo_ids)
        return {answer.request.photo_id: answer for answer in answers}

    return run


@pytest.fixture
def tools() -> SimpleNamespace:
    """What tests need from here beside fixtures: this folder is no package."""
    return SimpleNamespace(make_jpeg=make_jpeg, free_port=free_port, serve_photo=serve_photo)
