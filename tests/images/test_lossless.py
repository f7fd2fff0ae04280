"""A host with faults in passing: nothing is lost."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from lakehouse.campaign import ImageSpec
from lakehouse.images.build import store_photos
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.wire import Limits
from lakehouse.settings import Settings


@pytest.fixture
def quick():
    return CurlFetcher(Settings(connections=16), Limits(backoff_base=0.01, backoff_cap=0.05), seed=1)


def test_one_percent_503_and_one_percent_cut_bodies_lose_nothing(server, lake, quick, tools):
    rng = random.Random(7)

    def faulty(handler):
        luck = rng.random()
        if luck < 0.01:
            handler.reply(503, b"<Error><Code>SlowDown</Code></Error>")
        elif luck < 0.02:
            body = tools.make_jpeg(int(handler.path.split("/")[2]))
            handler.reply(200, body[: len(body) // 2], Content_Length=str(len(body)))
            handler.hang_up()
        else:
            tools.serve_photo(handler)

    server.default = faulty
    report = store_photos(lake, "inat", server.photos(range(1000)), image=ImageSpec(), fetcher=quick)
    assert (report.stored, report.requested) == (1000, 1000)
    assert sum(server.hits.values()) > 1000


def test_memory_is_bounded_by_bytes_and_not_by_the_number_of_large_images(server, settings, hasty):
    """Sixteen bodies of 4 MB at a time, of which 8 MB may be held: most of them have to wait."""
    from lakehouse.images.answers import PhotoRequest
    from lakehouse.images.wire import Wire

    most = 0
    bound = Wire._bound_memory

    def watched(wire):
        nonlocal most
        most = max(most, wire.buffered)
        bound(wire)

    def large(handler):
        handler.reply(200, b"", Content_Length="4000000")
        for _ in range(40):
            handler.wfile.write(bytes(100_000))
            # Or else it is the system that holds them: it takes some megabytes of each before anybody asks.
            time.sleep(0.003)

    server.default, server.delay = large, 0.01
    limits = replace(hasty, max_bytes=5_000_000, buffered=8_000_000, total=60, slow_seconds=10, first_byte=10)
    requests = [PhotoRequest(one, server.photo_url(one)) for one in range(64)]
    Wire._bound_memory = watched
    try:
        answers = list(CurlFetcher(settings, limits, seed=1).fetch(requests))
    finally:
        Wire._bound_memory = bound
    assert [answer.problem for answer in answers] == [None] * 64
    assert most < 32_000_000


def test_images_that_are_early_wait_on_disk_beyond_the_budget(lake, tools, monkeypatch):
    from lakehouse.images import shard
    from lakehouse.images.shard import index_key, shard_key, spooling
    from lakehouse.images.validate import inspect

    def publish():
        with spooling(lake, range(1, 41)) as spool:
            for photo_id in [*range(2, 41), 1]:
                data = tools.make_jpeg(photo_id)
                spool.add(photo_id, f"photos/{photo_id}/medium.jpg", data, inspect(data))
                assert spool._held <= shard.HELD
            return spool.publish(lake, "medium")

    first = publish()
    before = lake.get(shard_key("medium", first.sha256))
    for key in (shard_key("medium", first.sha256), index_key("medium", first.sha256)):
        lake.delete(key)
    monkeypatch.setattr(shard, "HELD", 5_000)
    assert publish() == first
    assert lake.get(shard_key("medium", first.sha256)) == before
