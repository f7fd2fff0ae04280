from __future__ import annotations

import gzip
import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.errors import SourceError
from lakehouse.settings import Settings
from lakehouse.sources.transport import (
    DirectoryTransport,
    HttpTransport,
    S3Transport,
    Transport,
    open_transport,
)
from tests.sources.conftest import Site

DATA = gzip.compress(random.Random(0).randbytes(3 << 20))
DIGEST = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def http(site: Site) -> Iterator[HttpTransport]:
    site.files["taxa.csv.gz"] = DATA
    transport = HttpTransport(site.url, pause=0.001)
    yield transport
    transport.close()


def read(transport: Transport) -> bytes:
    return b"".join(transport.read("taxa.csv.gz", DIGEST, len(DATA)))


def test_http_head_says_size_etag_and_date(http: HttpTransport) -> None:
    head = http.head("taxa.csv.gz")
    assert head is not None
    assert (head.size, head.etag) == (len(DATA), DIGEST)
    assert head.last_modified == "Thu, 27 Aug 2026 03:00:00 GMT"
    assert http.head("projects.csv.gz") is None


def test_bytes_are_never_decoded_although_the_header_asks_for_it(http: HttpTransport) -> None:
    assert read(http) == DATA


def test_an_interrupted_read_is_resumed_where_it_broke(http: HttpTransport, site: Site) -> None:
    site.cuts = [1 << 20, 500_000, 0]
    assert read(http) == DATA
    resumed = [headers for _, _, headers in site.requests if "range" in headers]
    assert len(resumed) >= 2
    assert all(headers["if-match"] == f'"{DIGEST}"' for headers in resumed)


def test_a_server_that_knows_no_ranges_is_read_again_from_the_start(http: HttpTransport, site: Site) -> None:
    site.cuts, site.ranges = [1_500_000], False
    assert read(http) == DATA


def test_a_busy_server_is_asked_again(http: HttpTransport, site: Site) -> None:
    site.answers = [503, 429]
    assert http.head("taxa.csv.gz") is not None
    site.answers = [500, 503]
    assert read(http) == DATA


def test_a_server_that_keeps_breaking_off_is_given_up(http: HttpTransport, site: Site) -> None:
    site.cuts = [0] * 50
    with pytest.raises(SourceError, match=r"broke off 7 times, last after 0 of"):
        read(http)
    site.answers = [503] * 50
    with pytest.raises(SourceError, match="cannot be reached: answers 503"):
        http.head("taxa.csv.gz")


def test_a_file_replaced_while_being_read_is_an_error(http: HttpTransport, site: Site) -> None:
    site.cuts = [1_500_000]
    site.after_cut = lambda: site.files.update({"taxa.csv.gz": b"new"})
    with pytest.raises(SourceError, match=r"taxa\.csv\.gz changed while being read"):
        read(http)


def test_a_file_replaced_before_being_read_is_an_error(http: HttpTransport, site: Site) -> None:
    site.files["taxa.csv.gz"] = DATA + b"more"
    with pytest.raises(SourceError, match="changed while being read"):
        read(http)


def test_without_etags_date_and_size_identify_a_file(http: HttpTransport, site: Site) -> None:
    site.etags = False
    head = http.head("taxa.csv.gz")
    assert head is not None
    site.cuts = [1_500_000]
    assert b"".join(http.read("taxa.csv.gz", head.etag, head.size)) == DATA
    site.files["taxa.csv.gz"] = DATA[:-1]
    with pytest.raises(SourceError, match="changed while being read"):
        list(http.read("taxa.csv.gz", head.etag, head.size))


def test_an_unreachable_server_is_an_error() -> None:
    transport = HttpTransport("http://127.0.0.1:9", pause=0.001)
    with pytest.raises(SourceError, match="check the address and the network"):
        transport.head("taxa.csv.gz")


# --- S3


def s3(site: Site, monkeypatch: pytest.MonkeyPatch, **secrets: str) -> S3Transport:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    site.files["bucket/dump/taxa.csv.gz"] = DATA
    return S3Transport("s3://bucket/dump/", Settings(s3_endpoint=site.url), pause=0.001)


def test_s3_is_read_unsigned_without_credentials(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = s3(site, monkeypatch)
    head = transport.head("taxa.csv.gz")
    assert head is not None
    assert (head.size, head.etag, head.last_modified) == (len(DATA), DIGEST, "Thu, 27 Aug 2026 03:00:00 GMT")
    assert transport.head("absent") is None
    assert read(transport) == DATA
    assert not any("authorization" in headers for _, _, headers in site.requests)


def test_s3_is_signed_with_credentials(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = s3(site, monkeypatch, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
    assert transport.head("taxa.csv.gz") is not None
    assert all("Credential=key/" in headers["authorization"] for _, _, headers in site.requests)


def test_s3_resumes_and_notices_a_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = s3(site, monkeypatch)
    site.cuts = [1_500_000]
    assert read(transport) == DATA
    site.cuts = [1_500_000]
    site.after_cut = lambda: site.files.update({"bucket/dump/taxa.csv.gz": b"new"})
    with pytest.raises(SourceError, match=r"s3://bucket/dump/taxa\.csv\.gz changed while being read"):
        read(transport)


@pytest.mark.parametrize(
    ("uri", "endpoint", "url"),
    [
        ("s3://open-data", None, "https://open-data.s3.amazonaws.com/photos/1/medium.JPG"),
        ("s3://open.data/x", None, "https://s3.amazonaws.com/open.data/x/photos/1/medium.JPG"),
        ("s3://open-data/x", "http://h:1/", "http://h:1/open-data/x/photos/1/medium.JPG"),
    ],
)
def test_s3_objects_have_an_http_url(
    uri: str, endpoint: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    assert S3Transport(uri, Settings(s3_endpoint=endpoint)).url("photos/1/medium.JPG") == url


# --- directories


def test_a_directory_is_read_and_its_etag_is_time_and_size(tmp_path: Path) -> None:
    (tmp_path / "taxa.csv.gz").write_bytes(DATA)
    transport = DirectoryTransport(tmp_path)
    head = transport.head("taxa.csv.gz")
    assert head is not None
    stat = (tmp_path / "taxa.csv.gz").stat()
    assert head.etag == f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    assert b"".join(transport.read("taxa.csv.gz", head.etag, head.size)) == DATA
    assert transport.head("absent") is None
    assert transport.url("photos/1/medium.jpg") == (tmp_path / "photos/1/medium.jpg").as_uri()


def test_a_file_touched_while_being_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taxa.csv.gz").write_bytes(DATA)
    transport = DirectoryTransport(tmp_path)
    head = transport.head("taxa.csv.gz")
    assert head is not None
    pieces = transport.read("taxa.csv.gz", head.etag, head.size)
    next(pieces)
    time.sleep(0.01)
    (tmp_path / "taxa.csv.gz").write_bytes(DATA)
    with pytest.raises(SourceError, match="changed while being read"):
        list(pieces)


def test_the_kind_of_a_source_is_told_by_its_address(tmp_path: Path) -> None:
    kinds = {"https://example.org": HttpTransport, "s3://b/p": S3Transport, str(tmp_path): DirectoryTransport}
    for uri, kind in kinds.items():
        assert isinstance(open_transport(uri, Settings()), kind)
    with pytest.raises(SourceError, match="of no known kind"):
        open_transport("ftp://example.org", Settings())
