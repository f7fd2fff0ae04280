"""How answers are judged, without a network."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from lakehouse.images.answers import PhotoRequest, host_of, redirect_problem, wire_url, without_credentials
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.wire import Limits
from lakehouse.settings import Settings

PUBLIC = "https://photos.example.org/1.jpg"


@pytest.mark.parametrize(
    ("origin", "target", "reason"),
    [
        (PUBLIC, "http://photos.example.org/1.jpg", "redirect_scheme"),
        (PUBLIC, "https://127.0.0.1/1.jpg", "redirect_private"),
        (PUBLIC, "https://10.0.0.8/1.jpg", "redirect_private"),
        (PUBLIC, "https://169.254.169.254/latest/meta-data", "redirect_private"),
        (PUBLIC, "https://[::1]/1.jpg", "redirect_private"),
        (PUBLIC, "https://db.internal/1.jpg", "redirect_private"),
        (PUBLIC, "https://cdn.example.net/1.jpg", None),
        ("http://127.0.0.1/1.jpg", "http://127.0.0.2/1.jpg", None),
        ("http://photos.example.org/1.jpg", PUBLIC, None),
    ],
)
def test_where_a_redirect_may_lead(origin, target, reason):
    problem = redirect_problem(origin, target, hops=0)
    assert (problem.reason if problem else None) == reason


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://bucket.s3.amazonaws.com/photos/1/medium.jpg", "https://bucket.s3.amazonaws.com"),
        ("http://user:pw@HOST:81/a%20b.jpg?x=1", "http://host:81"),
        ("http://127.0.0.1:28080/photos/1/medium.jpg", "http://127.0.0.1:28080"),
    ],
)
def test_the_quick_way_to_a_host_is_the_right_one(url, host):
    assert host_of(url) == host
    assert wire_url(url) == url


def test_a_url_is_shown_without_its_keys():
    assert without_credentials("https://u:p@host/a.jpg?X-Amz-Signature=1") == "https://host/a.jpg?…"


def test_a_slow_consumer_is_waited_for(server, settings, hasty):
    requests = (PhotoRequest(one, server.photo_url(one)) for one in range(10_000))
    answers = CurlFetcher(settings, hasty).fetch(requests)
    next(answers)
    time.sleep(0.5)
    next(answers)
    assert sum(server.hits.values()) <= 4 * settings.connections
    answers.close()


def test_the_next_request_is_sent_before_an_answer_is_looked_at(server, hasty):
    requests = (PhotoRequest(one, server.photo_url(one)) for one in range(10))
    answers = CurlFetcher(Settings(connections=1), hasty).fetch(requests)
    next(answers)
    deadline = time.monotonic() + 5
    while sum(server.hits.values()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # nobody asks for the next answer
    assert sum(server.hits.values()) >= 2
    answers.close()


def test_answers_that_nobody_took_count_as_memory_in_use(server):
    server.default = lambda handler: handler.reply(200, bytes(100_000))
    requests = (PhotoRequest(one, server.photo_url(one)) for one in range(300))
    answers = CurlFetcher(Settings(connections=100), Limits(buffered=300_000)).fetch(requests)
    next(answers)
    time.sleep(0.3)
    # Without that, twice as many as there are connections; now what was under way when the bound was reached.
    assert sum(server.hits.values()) <= 60
    assert sum(1 for _ in answers) == 299
    # None of those that had to pause timed out and was asked for again.
    assert sum(server.hits.values()) == 300


def test_every_test_that_the_guide_names_is_there():
    folder = Path(__file__).parent
    guide = (folder.parents[1] / "docs" / "images.md").read_text()
    tests = "".join(path.read_text() for path in folder.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", guide))
    assert len(named) > 40
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []
