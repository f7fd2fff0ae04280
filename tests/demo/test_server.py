"""The embedded server answers as the public bucket does, and fails where it is told to."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from lakehouse.demo import EmbeddedServer, hazards, serve
from lakehouse.demo.bucket import photo_path
from lakehouse.demo.tables import release
from lakehouse.errors import SourceError

from .conftest import PHOTOS

FAULTS = hazards(PHOTOS).faults
PATHS = {photo.photo_id: photo_path(photo) for photo in release(1, PHOTOS).photos}
WHOLE = next(
    PATHS[photo.photo_id]
    for photo in release(1, PHOTOS).photos
    if photo.photo_id not in FAULTS and photo.extension == "jpg"
)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    server: EmbeddedServer, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    try:
        connection.request(method, f"/{path}", headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def faulty(fault: str) -> str:
    return next(PATHS[photo_id] for photo_id, kind in FAULTS.items() if kind == fault)


def test_it_listens_on_loopback_below_the_ephemeral_ports(server: EmbeddedServer) -> None:
    where = urlsplit(server.url)
    assert where.hostname == "127.0.0.1"
    assert where.port is not None and 28400 <= where.port < 32768


def test_two_servers_take_two_ports(month_one: Path, server: EmbeddedServer) -> None:
    with serve(month_one) as other:
        assert other.url != server.url


def test_a_taken_port_is_named(month_one: Path, server: EmbeddedServer) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(SourceError, match=str(port)), serve(month_one, port):
        pass


def test_it_is_gone_after_the_block(month_one: Path) -> None:
    with serve(month_one) as running:
        where = urlsplit(running.url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((where.hostname, where.port), timeout=2)


def test_a_table_is_sent_raw_and_says_that_it_is_gzip(server: EmbeddedServer, month_one: Path) -> None:
    answer = ask(server, "taxa.csv.gz")
    stored = (month_one / "taxa.csv.gz").read_bytes()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Length"] == str(len(stored))
    assert answer.body == stored
    assert gzip.decompress(answer.body).startswith(b"taxon_id\t")


def test_the_etag_is_the_md5_of_the_content(server: EmbeddedServer) -> None:
    answer = ask(server, WHOLE)
    assert answer.headers["ETag"] == f'"{hashlib.md5(answer.body, usedforsecurity=False).hexdigest()}"'
    assert answer.headers["Content-Type"] == "image/jpeg"


def test_head_answers_as_get_without_a_body(server: EmbeddedServer) -> None:
    head, get = ask(server, "photos.csv.gz", "HEAD"), ask(server, "photos.csv.gz")
    assert head.body == b""
    for name in ("ETag", "Content-Length", "Last-Modified", "Accept-Ranges"):
        assert head.headers[name] == get.headers[name]


def test_tables_are_dated_by_their_month_not_by_the_clock(server: EmbeddedServer, month_two: Path) -> None:
    assert ask(server, "taxa.csv.gz", "HEAD").headers["Last-Modified"] == "Mon, 27 Jul 2026 04:00:00 GMT"
    with serve(month_two) as later:
        assert ask(later, "taxa.csv.gz", "HEAD").headers["Last-Modified"] == "Thu, 27 Aug 2026 04:00:00 GMT"


@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None)]
)
def test_a_range_is_answered_in_part(
    server: EmbeddedServer, month_one: Path, asked: str, start: int, stop: int | None
) -> None:
    stored = (month_one / WHOLE).read_bytes()
    answer = ask(server, WHOLE, headers={"Range": asked})
    assert answer.status == 206
    assert answer.body == stored[start:stop]
    assert answer.headers["Content-Range"].endswith(f"/{len(stored)}")


def test_a_range_beyond_the_end_is_416(server: EmbeddedServer, month_one: Path) -> None:
    total = (month_one / WHOLE).stat().st_size
    answer = ask(server, WHOLE, headers={"Range": f"bytes={total}-"})
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{total}"


def test_if_match_of_another_version_is_412(server: EmbeddedServer) -> None:
    etag = ask(server, WHOLE, "HEAD").headers["ETag"]
    assert ask(server, WHOLE, headers={"If-Match": etag}).status == 200
    assert ask(server, WHOLE, headers={"If-Match": '"other"', "Range": "bytes=5-"}).status == 412


def test_if_none_match_of_this_version_is_304(server: EmbeddedServer) -> None:
    etag = ask(server, WHOLE, "HEAD").headers["ETag"]
    answer = ask(server, WHOLE, headers={"If-None-Match": etag})
    assert (answer.status, answer.body) == (304, b"")
    assert ask(server, WHOLE, headers={"If-None-Match": '"other"'}).status == 200


def test_what_is_not_there_is_forbidden_as_without_list_bucket(server: EmbeddedServer) -> None:
    for path in ("photos/1/medium.jpg", "nothing.csv.gz", "", "photos/"):
        answer = ask(server, path)
        assert answer.status == 403
        assert b"<Code>AccessDenied</Code>" in answer.body


def test_keys_are_case_sensitive(server: EmbeddedServer) -> None:
    assert ask(server, WHOLE.replace(".jpg", ".JPG")).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "../conftest.py",
        "photos/../month.json",
        "photos/1/../../faults.json",
        "%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "month.json",
        "photos/%31%2f..%2f..%2fmonth.json",
    ],
)
def test_no_path_leads_out_of_the_bucket(server: EmbeddedServer, path: str) -> None:
    assert ask(server, path).status == 403


@pytest.mark.parametrize("size", ["original", "large", "medium"])
def test_large_sizes_are_never_enlarged(server: EmbeddedServer, month_one: Path, size: str) -> None:
    assert ask(server, WHOLE.replace("medium", size)).body == (month_one / WHOLE).read_bytes()


@pytest.mark.parametrize(("size", "box"), [("small", 240), ("thumb", 100), ("square", 75)])
def test_small_sizes_are_made_the_same_every_time(server: EmbeddedServer, size: str, box: int) -> None:
    first, second = (ask(server, WHOLE.replace("medium", size)) for _ in range(2))
    assert first.body == second.body
    with Image.open(io.BytesIO(first.body)) as image:
        assert max(image.size) == box
        assert size != "square" or min(image.size) == box


def test_a_404_stays_one(server: EmbeddedServer) -> None:
    for _ in range(2):
        answer = ask(server, faulty("404"))
        assert answer.status == 404
        assert b"<Code>NoSuchKey</Code>" in answer.body


def test_a_403_stays_one(server: EmbeddedServer) -> None:
    assert [ask(server, faulty("403")).status for _ in range(2)] == [403, 403]


def test_a_503_passes_after_the_first_time(server: EmbeddedServer) -> None:
    first, second = (ask(server, faulty("503-then-200")) for _ in range(2))
    assert (first.status, first.headers["Retry-After"]) == (503, "0")
    assert b"<Code>SlowDown</Code>" in first.body
    assert second.status == 200


def test_a_cut_answer_passes_after_the_first_time(server: EmbeddedServer, month_one: Path) -> None:
    path = faulty("truncated-then-200")
    with pytest.raises(http.client.IncompleteRead):
        ask(server, path)
    assert ask(server, path).body == (month_one / path).read_bytes()


def test_a_page_instead_of_a_photo_says_200(server: EmbeddedServer) -> None:
    answer = ask(server, faulty("html"))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.body.startswith(b"<!DOCTYPE html>")


def test_a_corrupt_photo_has_the_length_it_announces(server: EmbeddedServer) -> None:
    answer = ask(server, faulty("corrupt"))
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.body.startswith(b"\xff\xd8") and not answer.body.endswith(b"\xff\xd9")


def test_photo_requests_are_counted_and_nothing_else(server: EmbeddedServer) -> None:
    ask(server, WHOLE)
    ask(server, WHOLE, "HEAD")
    ask(server, "taxa.csv.gz")
    ask(server, faulty("404"))
    assert server.photo_requests == 2


def test_sixty_four_kept_connections_are_served_at_once(server: EmbeddedServer, month_one: Path) -> None:
    stored = (month_one / WHOLE).read_bytes()
    barrier = threading.Barrier(64)
    wrong: list[object] = []

    def client() -> None:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
        try:
            connection.connect()
            barrier.wait(20)
            for _ in range(3):
                connection.request("GET", f"/{WHOLE}")
                if connection.getresponse().read() != stored:
                    wrong.append("other bytes")
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError) as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert server.photo_requests == 64 * 3
