"""A run that is killed at any instant, and the next one: the lake of an undisturbed run, byte for byte."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from lakehouse.campaign import ImageSpec
from lakehouse.images import build
from lakehouse.images.build import store_photos
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.ledger import Ledger
from lakehouse.images.wire import Limits
from lakehouse.lake import Lake
from lakehouse.settings import Settings

PHOTOS, SHARD = 240, 40
CHILD = f"""
import sys
import polars as pl
from lakehouse.campaign import ImageSpec
from lakehouse.images import build
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.wire import Limits
from lakehouse.lake import Lake
from lakehouse.settings import Settings
root, url = sys.argv[1:]
build.SHARD_PHOTOS = {SHARD}
settings = Settings(connections=8)
ids = list(range(1, {PHOTOS} + 1))
photos = pl.DataFrame({{"photo_id": ids, "url": [f"{{url}}/photos/{{one}}/medium.jpg" for one in ids]}})
fetcher = CurlFetcher(settings, Limits(attempts=3, backoff_base=0.01, backoff_cap=0.02))
print("ready", flush=True)
sys.stdin.readline()
build.store_photos(Lake(root, settings), "inat", photos, image=ImageSpec(), fetcher=fetcher)
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(build, "SHARD_PHOTOS", SHARD)


@pytest.fixture
def faulty(server):
    """The server, slow enough to be caught at work, with photos that do not come."""
    server.delay = 0.004
    server.on(3, lambda handler: handler.reply(404))
    server.on(4, lambda handler: handler.reply(403))
    server.on(5, lambda handler: handler.reply(500))
    server.on(77, lambda handler: handler.reply(200, b"<html>"))
    return server


@pytest.fixture
def clean(faulty, tmp_path):
    """What an undisturbed run makes."""
    return contents(finish(faulty, str(tmp_path / "clean")), faulty)


def finish(server, root: str) -> Lake:
    lake = Lake(root, Settings())
    fetcher = CurlFetcher(Settings(connections=8), Limits(attempts=3, backoff_base=0.01, backoff_cap=0.02))
    photos = server.photos(range(1, PHOTOS + 1))
    store_photos(lake, "inat", photos, image=ImageSpec(), fetcher=fetcher)
    return lake


def contents(lake: Lake, server) -> tuple[dict[str, bytes], list[tuple]]:
    """Every byte of the shards, and every outcome."""
    columns = ["photo_id", "outcome", "reason", "http_status", "sha256", "shard", "size"]
    known = Ledger(lake).outcomes("inat", "medium", pl.Series(range(1, PHOTOS + 1)))
    return {key: lake.get(key) for key in lake.list("shards")}, known.select(columns).rows()


def start(server, root: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CHILD, root, server.url]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=environment, **pipes)


def interrupt(child: subprocess.Popen[bytes], sent: signal.Signals, after: float) -> bool:
    """Let a child work for a while, then send the signal; whether it was still at work."""
    assert child.stdout.readline() == b"ready\n"
    child.stdin.write(b"go\n")
    child.stdin.flush()
    time.sleep(after)
    child.send_signal(sent)
    child.communicate()
    return child.returncode != 0


def check(server, root: str, clean) -> None:
    killed = finish(server, root)
    assert contents(killed, server) == clean
    assert not list((killed.path / ".tmp").iterdir())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_leaves_what_an_undisturbed_one_would(faulty, clean, tmp_path, sent):
    rng = random.Random(int(sent))
    root = str(tmp_path / "killed")
    # All start at once, since importing takes longest, and wait for their turn.
    children = [start(faulty, root) for _ in range(3 if sent == signal.SIGKILL else 1)]
    caught = [interrupt(child, sent, rng.uniform(0.02, 0.35)) for child in children]
    assert any(caught)
    check(faulty, root, clean)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_random_instants(faulty, clean, tmp_path):
    """`kill -9` at fifty seeded instants, one lake each, a third of them killed twice."""
    caught = 0
    for seed in range(50):
        rng = random.Random(seed)
        root = str(tmp_path / f"killed-{seed}")
        for _ in range(1 + (seed % 3 == 0)):
            caught += interrupt(start(faulty, root), signal.SIGKILL, rng.uniform(0.0, 1.5))
        check(faulty, root, clean)
    assert caught >= 50, f"only {caught} of the runs were killed at work"


def test_a_full_disk_ends_the_run_and_keeps_what_was_stored(server, tmp_path):
    """No file may grow beyond what half of the shards take, which is what a full disk looks like."""
    root = str(tmp_path / "lake")
    child = f"""
import json, resource, sys
import polars as pl
from lakehouse.campaign import ImageSpec
from lakehouse.errors import LakeError
from lakehouse.images import build
from lakehouse.lake import Lake
from lakehouse.settings import Settings
build.SHARD_PHOTOS = 10
ids = list(range(1, 21))
photos = pl.DataFrame({{"photo_id": ids, "url": [f"{server.url}/photos/{{one}}/medium.jpg" for one in ids]}})
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    build.store_photos(Lake({root!r}, Settings()), "inat", photos, image=ImageSpec())
except LakeError as error:
    print(json.dumps(str(error)))
"""
    large = os.urandom(80_000)
    from_images = server.photo_path
    server.routes[from_images(15)] = lambda handler: handler.reply(200, _padded(large))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", child], env=environment, capture_output=True, text=True, check=True
    )
    assert "what was stored is safe" in json.loads(done.stdout)
    lake = Lake(root, Settings())
    known = Ledger(lake).outcomes("inat", "medium", pl.Series(range(1, 21)))
    assert known["photo_id"].to_list() == list(range(1, 11))
    assert set(known["outcome"]) == {"stored"}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 60_000


def _padded(noise: bytes) -> bytes:
    """An image of more than 60,000 bytes."""
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.frombytes("L", (400, 200), noise).save(out, "PNG")
    return out.getvalue()
