"""Every condition that a download must survive."""

from __future__ import annotations

import gzip
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from lakehouse.errors import SourceError
from lakehouse.images.answers import Outcome, PhotoRequest, Problem
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.pace import HostPace, Latency
from lakehouse.images.wire import Limits
from lakehouse.settings import Settings


def gives(status, body=b"no", **headers):
    return lambda handler: handler.reply(status, body, **headers)


def once(fault):
    """The fault on the first request, the photo afterwards."""

    def behave(handler):
        if handler.hit == 1:
            fault(handler)
        else:
            photo_id = int(handler.path.split("/")[2])
            handler.reply(200, b"photo %d" % photo_id)

    return behave


def test_a_photo_comes_with_what_the_host_says_of_it(fetch, tools):
    answer = fetch(7)[7]
    assert answer.problem is None
    assert answer.body == tools.make_jpeg(7)
    assert (answer.http_status, answer.attempts, answer.etag) == (200, 1, '"7"')
    assert answer.last_modified == "Sat, 01 Nov 2025 10:00:00 GMT"
    assert answer.length_known


def test_nothing_but_identity_encoding_is_asked_for(fetch, server):
    fetch(7)
    headers = server.seen[server.photo_path(7)]
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("lakehouse/")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_photo_that_is_not_there_is_gone_without_a_retry(fetch, server, status):
    server.on(1, gives(status))
    answer = fetch(1, 2)[1]
    assert answer.problem == Problem(Outcome.GONE, f"http_{status}")
    assert server.hits[server.photo_path(1)] == 1


@pytest.mark.parametrize("status", [400, 401, 405, 416, 418, 451, 304])
def test_a_permanent_refusal_is_not_asked_again(fetch, server, status):
    server.on(1, gives(status, b"" if status == 304 else b"no"))
    assert fetch(1, 2)[1].problem == Problem(Outcome.REFUSED, f"http_{status}")
    assert server.hits[server.photo_path(1)] == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 202])
def test_a_passing_failure_is_asked_again(fetch, server, status):
    server.on(1, once(gives(status)))
    answer = fetch(1)[1]
    assert (answer.body, answer.attempts) == (b"photo 1", 2)


def test_a_failure_that_does_not_pass_ends_after_so_many_attempts(fetch, server):
    server.on(1, gives(500))
    answer = fetch(1, 2)[1]
    assert answer.problem == Problem(Outcome.FAILED, "http_500")
    assert (answer.attempts, server.hits[server.photo_path(1)]) == (4, 4)


def test_retry_after_is_obeyed_in_seconds(fetch, server):
    server.on(1, once(gives(503, b"<Error><Code>SlowDown</Code></Error>", Retry_After="1")))
    began = time.monotonic()
    assert fetch(1)[1].problem is None
    assert 0.95 < time.monotonic() - began < 2


def test_retry_after_is_obeyed_as_a_date(fetch, server):
    def throttle(handler):
        moment = datetime.now(UTC) + timedelta(seconds=1.99)
        handler.reply(429, b"", Retry_After=format_datetime(moment, usegmt=True))

    server.on(1, once(throttle))
    began = time.monotonic()
    assert fetch(1)[1].problem is None
    assert 0.8 < time.monotonic() - began < 2.2


def test_retry_after_pauses_the_whole_host(fetch, server):
    server.on(1, once(gives(503, b"", Retry_After="1")))
    fetch(*range(1, 60))
    gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert max(gaps) > 0.8


def test_a_throttling_host_is_asked_by_fewer_at_once(fetch, server, fetcher):
    def at_most_four(handler):
        if handler.server.now > 4:
            handler.reply(503, b"<Error><Code>SlowDown</Code></Error>")
        else:
            handler.reply(200, b"x")

    server.default, server.delay = at_most_four, 0.01
    answers = fetch(*range(300))
    assert sum(answer.problem is None for answer in answers.values()) >= 297
    assert fetcher._hosts[server.url].window < 16
    assert sum(server.hits.values()) < 600


def test_one_failure_among_many_does_not_stop_the_host(server, settings):
    server.on(1, once(gives(503)))
    limits = Limits(backoff_base=1.0, backoff_cap=1.0)
    requests = [PhotoRequest(one, server.photo_url(one)) for one in range(1, 60)]
    # By this seed the photo waits 0.96 s; the others do not.
    list(CurlFetcher(settings, limits, seed=2).fetch(requests))
    gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert max(gaps[:-1]) < 0.5 < gaps[-1]
    assert server.hits[server.photo_path(1)] == 2


def test_a_wave_of_failures_stops_the_host():
    pace = HostPace(64, None, 60.0, Latency(8.0, 0.2, 0.02))
    paused = []
    for _ in range(3):
        pace.trouble(1.0, 0.0, cut=True, asked=0.0, wait=5.0)
        paused.append(pace.ready_at())
    assert paused == [1.0, 1.0, 6.0]
    pace.served("http://host/1")
    pace.trouble(7.0, 6.5, cut=True, asked=0.0, wait=5.0)
    assert pace.ready_at() == 7.0
    pace.trouble(7.0, 6.5, cut=True, asked=2.0, wait=0.1)
    assert pace.ready_at() == 9.0, "what the host asks for counts at once"


def test_there_are_never_more_requests_at_once_than_allowed(fetch, server, settings):
    server.delay = 0.05
    fetch(*range(100))
    assert 8 < server.peak <= settings.connections


def test_the_rate_per_host_is_kept(server, hasty):
    requests = [PhotoRequest(one, server.photo_url(one)) for one in range(30)]
    list(CurlFetcher(Settings(connections=16, rate=50), hasty).fetch(requests))
    assert server.times[-1] - server.times[0] > 0.4


def test_a_cut_body_is_asked_again(fetch, server):
    def cut(handler):
        handler.reply(200, b"only half", Content_Length="1000")
        handler.hang_up()

    server.on(1, once(cut))
    server.on(2, cut)
    answers = fetch(1, 2)
    assert (answers[1].body, answers[1].attempts) == (b"photo 1", 2)
    assert answers[2].problem == Problem(Outcome.FAILED, "truncated")


def test_a_cut_chunked_body_is_asked_again(fetch, server):
    def cut(handler):
        handler.reply(200, b"9\r\nonly half\r\n", Transfer_Encoding="chunked")
        handler.hang_up()

    server.on(1, once(cut))
    assert fetch(1)[1].attempts == 2


def test_a_chunked_body_has_no_known_length(fetch, server):
    server.on(1, gives(200, b"5\r\nimage\r\n0\r\n\r\n", Transfer_Encoding="chunked"))
    answer = fetch(1)[1]
    assert (answer.body, answer.length_known) == (b"image", False)


def test_a_reset_connection_is_asked_again(fetch, server):
    server.on(1, once(lambda handler: handler.hang_up()))
    assert fetch(1)[1].attempts == 2


def test_garbage_instead_of_http_is_a_failure(fetch, server):
    def garbage(handler):
        handler.wfile.write(b"\x00\x01garbage\r\n\r\n")
        handler.hang_up()

    server.on(1, garbage)
    assert fetch(1)[1].problem.outcome is Outcome.FAILED


def test_a_host_that_is_not_there_is_a_failure(fetcher, tools):
    answers = list(
        fetcher.fetch([PhotoRequest(1, f"http://127.0.0.1:{tools.free_port()}/photos/1/medium.jpg")])
    )
    assert answers[0].problem == Problem(Outcome.FAILED, "connect")


def test_a_name_that_does_not_resolve_is_a_failure(fetcher):
    answers = list(fetcher.fetch([PhotoRequest(1, "http://no-such-host.invalid/1.jpg")]))
    assert answers[0].problem == Problem(Outcome.FAILED, "dns")


def test_tls_with_a_host_that_does_not_speak_it_is_a_failure(fetcher, server):
    url = server.photo_url(1).replace("http://", "https://")
    assert next(iter(fetcher.fetch([PhotoRequest(1, url)]))).problem == Problem(Outcome.FAILED, "tls")


def test_a_host_that_is_down_ends_the_run_when_it_is_the_only_one(fetcher, tools):
    port = tools.free_port()
    requests = [PhotoRequest(one, f"http://127.0.0.1:{port}/{one}.jpg") for one in range(500)]
    with pytest.raises(SourceError, match="has served nothing for"):
        list(fetcher.fetch(requests))


def test_a_host_that_is_down_does_not_stop_another(fetcher, server, tools):
    dead = f"http://127.0.0.1:{tools.free_port()}"
    server.delay = 0.02
    requests = [
        PhotoRequest(one, f"{dead}/{one}.jpg" if one % 2 else server.photo_url(one)) for one in range(300)
    ]
    answers = list(fetcher.fetch(requests))
    assert {one.problem is None for one in answers if one.request.photo_id % 2 == 0} == {True}
    reasons = {one.problem.reason for one in answers if one.request.photo_id % 2}
    assert "host_down" in reasons and reasons <= {"connect", "host_down"}


def silent(handler):
    time.sleep(3)
    handler.hang_up()


def drip(handler):
    handler.reply(200, b"", Content_Length="1000")
    for _ in range(40):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("reason", "clock", "fault"),
    [
        ("timeout_first_byte", {"first_byte": 0.5}, silent),
        ("timeout_slow", {"slow_seconds": 1}, drip),
        ("timeout_total", {"total": 1}, drip),
    ],
)
def test_each_clock_has_its_own_name(server, settings, hasty, reason, clock, fault):
    # The other clocks have a minute, so that none of them is first on a machine that is busy.
    patient = replace(hasty, first_byte=60, slow_seconds=60, total=60, patience=60, attempts=2)
    server.on(1, fault)
    server.on(2, once(fault))
    requests = [PhotoRequest(photo_id, server.photo_url(photo_id)) for photo_id in (1, 2)]
    fetched = CurlFetcher(settings, replace(patient, **clock)).fetch(requests)
    answers = {answer.request.photo_id: answer for answer in fetched}
    assert answers[1].problem.reason == reason
    assert answers[2].body == b"photo 2"


def test_a_connection_that_is_never_accepted_is_a_timeout(fetcher, tools):
    port = tools.free_port()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))
        listening.listen(0)
        blockers = [socket.socket() for _ in range(4)]
        for blocker in blockers:
            blocker.setblocking(False)
            blocker.connect_ex(("127.0.0.1", port))
        answer = next(iter(fetcher.fetch([PhotoRequest(1, f"http://127.0.0.1:{port}/1.jpg")])))
        for blocker in blockers:
            blocker.close()
    assert answer.problem.outcome is Outcome.FAILED
    assert answer.problem.reason.startswith("timeout_")


def test_waiting_for_a_turn_is_no_timeout(server, hasty):
    server.delay = 0.25
    requests = [PhotoRequest(one, server.photo_url(one)) for one in range(8)]
    answers = list(CurlFetcher(Settings(connections=1), hasty).fetch(requests))
    assert {(answer.problem, answer.attempts) for answer in answers} == {(None, 1)}


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_above_the_cap_is_given_up_while_it_streams(fetch, server, announced):
    def endless(handler):
        handler.reply(200, b"", **({"Content_Length": str(10**9)} if announced else {"Connection": "close"}))
        while True:
            handler.wfile.write(b"x" * 10_000)

    def close_delimited(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 10_000)

    server.on(1, endless if announced else close_delimited)
    assert fetch(1)[1].problem == Problem(Outcome.REJECTED, "too_large")
    assert server.hits[server.photo_path(1)] == 1


@pytest.mark.parametrize("status", [200, 204])
def test_an_empty_body_is_asked_for_once_more(fetch, server, status):
    server.on(1, gives(status, b""))
    server.on(2, once(gives(status, b"")))
    answers = fetch(1, 2)
    assert answers[1].problem == Problem(Outcome.REJECTED, "empty")
    assert (answers[1].attempts, answers[2].body) == (2, b"photo 2")


def test_a_redirect_is_followed(fetch, server, tools):
    server.on(1, gives(302, b"", Location="/photos/2/medium.jpg"))
    server.on(3, gives(308, b"", Location=server.photo_url(4)))
    answers = fetch(1, 3)
    assert [answers[one].body for one in (1, 3)] == [tools.make_jpeg(2), tools.make_jpeg(4)]
    assert answers[1].attempts == 1


def test_redirects_have_an_end(fetch, server):
    server.on(1, gives(302, b"", Location="/photos/1/medium.jpg"))
    assert fetch(1)[1].problem == Problem(Outcome.REFUSED, "too_many_redirects")
    assert server.hits[server.photo_path(1)] == 6


def test_a_redirect_leads_nowhere_but_to_http(fetch, server):
    server.on(1, gives(302, b"", Location="file:///etc/hostname"))
    server.on(2, gives(302, b"", Location="ftp://127.0.0.1/x"))
    assert {answer.problem.reason for answer in fetch(1, 2).values()} == {"redirect_scheme"}


def test_a_gzipped_answer_nobody_asked_for_is_unpacked(fetch, server):
    server.on(1, gives(200, gzip.compress(b"image" * 100), Content_Encoding="gzip"))
    server.on(2, gives(200, gzip.compress(bytes(10_000_000)), Content_Encoding="gzip"))
    server.on(3, gives(200, gzip.compress(b"image" * 100)[:-20], Content_Encoding="gzip"))
    server.on(4, gives(200, b"plain all the same", Content_Encoding="gzip"))
    answers = fetch(1, 2, 3, 4)
    assert answers[1].body == b"image" * 100
    assert answers[2].problem == Problem(Outcome.REJECTED, "too_large")
    assert answers[3].problem == Problem(Outcome.FAILED, "truncated")
    assert answers[4].body == b"plain all the same"


def test_a_host_that_denies_everything_ends_the_run(fetch, server):
    server.default = gives(403)
    with pytest.raises(SourceError, match="denies photo after photo"):
        fetch(*range(200))


def test_a_host_that_starts_to_deny_everything_ends_the_run_and_nothing_is_gone(fetcher, server):
    requests = [PhotoRequest(one, server.photo_url(one)) for one in range(400)]
    got = []
    with pytest.raises(SourceError, match="none of them was recorded as gone"):
        for answer in fetcher.fetch(requests):
            got.append(answer)
            if len(got) == 100:
                server.default = gives(403)
    assert {answer.problem for answer in got} == {None}


def test_many_removed_photos_are_gone_if_the_host_still_serves_others(fetch, server):
    for photo_id in range(100, 300):
        server.on(photo_id, gives(403))
    answers = fetch(*range(300))
    assert {answers[photo_id].problem for photo_id in range(100, 300)} == {Problem(Outcome.GONE, "http_403")}


def test_a_few_denials_are_believed_without_proof(fetch, server):
    server.default = gives(403)
    assert {answer.problem.outcome for answer in fetch(1, 2, 3).values()} == {Outcome.GONE}


def test_some_denials_without_any_photo_are_asked_again_by_a_later_run(fetch, server):
    server.default = gives(403)
    problems = {answer.problem for answer in fetch(*range(20)).values()}
    assert problems == {Problem(Outcome.FAILED, "host_denies")}


def test_files_are_read_and_missing_ones_are_gone(fetcher, tmp_path):
    (tmp_path / "a b.jpg").write_bytes(b"image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "large.jpg").write_bytes(bytes(200_000))
    names = ["a b.jpg", "none.jpg", "empty.jpg", "large.jpg"]
    requests = [PhotoRequest(one, (tmp_path / name).as_uri()) for one, name in enumerate(names)]
    found = {answer.request.photo_id: answer for answer in fetcher.fetch(requests)}
    assert found[0].body == b"image"
    reasons = [found[one].problem.reason for one in (1, 2, 3)]
    assert reasons == ["file_missing", "empty", "too_large"]
    assert found[1].problem.outcome is Outcome.GONE


def test_a_folder_that_is_not_there_does_not_make_its_photos_gone(fetcher, tmp_path):
    requests = [PhotoRequest(one, (tmp_path / "unmounted" / f"{one}.jpg").as_uri()) for one in range(100)]
    with pytest.raises(SourceError):
        list(fetcher.fetch(requests))


@pytest.mark.parametrize(
    "url", ["ftp://host/x.jpg", "not a url", "http://", "http://[::1/x", "http://h:99999/"]
)
def test_what_is_no_url_is_refused(fetcher, url):
    assert next(iter(fetcher.fetch([PhotoRequest(1, url)]))).problem == Problem(Outcome.REFUSED, "bad_url")


def test_a_url_with_spaces_and_accents_works(fetcher, server):
    server.routes["/photos/caf%C3%A9%201.jpg"] = gives(200, b"image")
    assert next(iter(fetcher.fetch([PhotoRequest(1, server.url + "/photos/café 1.jpg")]))).body == b"image"


def test_credentials_are_sent_and_not_shown(fetcher, server, capfd):
    url = server.photo_url(1).replace("http://", "http://user:secret@")
    assert next(iter(fetcher.fetch([PhotoRequest(1, url)]))).problem is None
    assert server.seen[server.photo_path(1)]["Authorization"].startswith("Basic ")
    assert "secret" not in "".join(capfd.readouterr())


def test_closing_midway_drops_what_is_under_way_and_the_fetcher_goes_on(fetcher, server, fetch):
    server.delay = 0.02
    running = fetcher.fetch(PhotoRequest(one, server.photo_url(one)) for one in range(10_000))
    for _ in range(20):
        next(running)
    running.close()
    assert len(fetch(*range(50))) == 50
    assert sum(server.hits.values()) < 150
