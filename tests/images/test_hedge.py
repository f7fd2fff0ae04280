"""Late answers: asked for a second time, within bounds."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from lakehouse.images.answers import PhotoRequest
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.pace import Latency
from lakehouse.images.wire import Wire
from lakehouse.settings import Settings


@pytest.fixture
def hedging(settings, hasty):
    return CurlFetcher(
        settings, replace(hasty, first_byte=5, total=8, slow_seconds=8, hedge_least=0.1), seed=1
    )


def late_once(seconds, then):
    """Late the first time, in time afterwards."""

    def behave(handler):
        if handler.hit == 1:
            time.sleep(seconds)
        then(handler)

    return behave


def fetch(fetcher, server, photos):
    requests = [PhotoRequest(one, server.photo_url(one)) for one in range(photos)]
    began = time.monotonic()
    answers = {answer.request.photo_id: answer for answer in fetcher.fetch(requests)}
    return answers, time.monotonic() - began


def test_a_straggler_is_asked_for_again_and_the_first_answer_counts(hedging, server, tools):
    for photo_id in (60, 90, 150):
        server.on(photo_id, late_once(3, tools.serve_photo))
    answers, seconds = fetch(hedging, server, 200)
    assert seconds < 2
    assert {answer.problem for answer in answers.values()} == {None}
    assert answers[60].body == tools.make_jpeg(60)
    assert (answers[60].attempts, server.hits[server.photo_path(60)]) == (1, 2)


def test_a_second_try_that_fails_leaves_the_first_its_chance(hedging, server, tools):
    def behave(handler):
        if handler.hit == 1:
            time.sleep(1)
            tools.serve_photo(handler)
        else:
            handler.reply(500)

    server.on(100, behave)
    answers, _ = fetch(hedging, server, 150)
    assert (answers[100].problem, answers[100].attempts) == (None, 1)
    assert server.hits[server.photo_path(100)] == 2


def test_no_more_than_the_allowed_share_is_asked_twice(hedging, server, tools):
    turn = threading.Lock()
    asked = 0

    def sometimes_late(handler):
        nonlocal asked
        with turn:
            asked += 1
            late = asked > 60 and asked % 3 == 0
        if late:
            time.sleep(0.4)
        tools.serve_photo(handler)

    server.default = sometimes_late
    answers, _ = fetch(hedging, server, 300)
    assert len(answers) == 300
    assert 300 < sum(server.hits.values()) <= 300 + 2 + 0.02 * 310


def test_there_are_never_more_requests_at_once_than_allowed_even_so(server, hasty, tools, monkeypatch):
    most = 0
    start = Wire.start

    def counted(wire, *arguments):
        nonlocal most
        start(wire, *arguments)
        most = max(most, len(wire))

    monkeypatch.setattr(Wire, "start", counted)
    limits = replace(hasty, first_byte=5, total=8, slow_seconds=8, hedge_least=0.05, hedge_share=1)
    for photo_id in range(40, 80):
        server.on(photo_id, late_once(0.5, tools.serve_photo))
    fetch(CurlFetcher(Settings(connections=8), limits, seed=1), server, 120)
    assert most == 8


def test_late_is_measured_by_the_median():
    latency = Latency(factor=8, least=0.2, share=0.02)
    assert latency.late == float("inf")
    for _ in range(20):
        latency.took(0.05)
    assert latency.late == pytest.approx(0.4)
    for _ in range(200):
        latency.took(0.001)
    assert latency.late == 0.2


def test_the_share_of_second_tries_is_bounded():
    latency = Latency(factor=8, least=0.2, share=0.02)
    for _ in range(100):
        latency.ask()
    assert [latency.hedge() for _ in range(5)] == [True, True, True, False, False]
