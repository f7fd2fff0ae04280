"""Photos into the lake: accounting, what is asked for again, and crashes."""

from __future__ import annotations

import io
import random
import tarfile

import polars as pl
import pytest
from PIL import Image

from lakehouse.campaign import ImageSpec
from lakehouse.errors import SourceError
from lakehouse.images import build
from lakehouse.images.answers import Answer
from lakehouse.images.build import failed_share, store_photos
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.ledger import Ledger
from lakehouse.images.shard import shard_key
from lakehouse.images.task import source_file
from lakehouse.lake import Lake
from lakehouse.progress import shown_by
from lakehouse.settings import Settings

MEDIUM = ImageSpec()


@pytest.fixture
def store(lake, fetcher):
    def run(photos, image=MEDIUM, into=None, by=None):
        return store_photos(into or lake, "inat", photos, image=image, fetcher=by or fetcher)

    return run


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(build, "SHARD_PHOTOS", 40)


def tree(lake: Lake) -> dict[str, bytes]:
    return {key: lake.get(key) for key in lake.list("shards")}


def ledger(lake: Lake, photos: pl.DataFrame) -> list[tuple]:
    columns = ["photo_id", "outcome", "reason", "http_status", "sha256", "shard", "size"]
    return Ledger(lake).outcomes("inat", "medium", photos["photo_id"]).select(columns).rows()


def misbehave(server) -> None:
    server.on(3, lambda handler: handler.reply(404))
    server.on(4, lambda handler: handler.reply(403))
    server.on(5, lambda handler: handler.reply(500))
    server.on(6, lambda handler: handler.reply(451))
    server.on(7, lambda handler: handler.reply(200, b"<html>"))
    server.on(8, lambda handler: handler.reply(200, b"\xff\xd8\xff\xe0" + b"x" * 100))


def test_every_photo_asked_for_is_accounted_for(store, server, lake):
    misbehave(server)
    report = store(server.photos(range(1, 51)))
    counts = (report.requested, report.stored, report.gone, report.failed, report.refused, report.rejected)
    assert counts == (50, 44, 2, 1, 1, 2)
    assert (report.fetched_now, len(report.shards_now)) == (50, 1)
    assert report.by_reason == {
        "corrupt": 1, "http_403": 1, "http_404": 1, "http_451": 1, "http_500": 1, "wrong_type": 1
    }  # fmt: skip
    assert [one.photo_id for one in report.examples["http_404"]] == [3]
    assert failed_share(report) == 4 / 50


def test_what_is_settled_is_not_asked_for_again_and_what_failed_is(store, server, lake):
    misbehave(server)
    photos = server.photos(range(1, 51))
    first = store(photos)
    server.hits.clear()
    server.on(5, serve)
    second = store(photos)
    assert set(server.hits) == {server.photo_path(5)}
    assert (second.stored, second.failed, second.fetched_now) == (45, 0, 1)
    assert second.by_reason == {key: count for key, count in first.by_reason.items() if key != "http_500"}
    assert store(photos).fetched_now == 0


def serve(handler):
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "blue").save(out, "JPEG")
    handler.reply(200, out.getvalue())


def test_the_ledger_counts_attempts_from_the_first(store, server, lake):
    server.on(5, lambda handler: handler.reply(500))
    photos = server.photos([5])
    store(photos)
    before = Ledger(lake).outcomes("inat", "medium", photos["photo_id"]).row(0, named=True)
    store(photos)
    after = Ledger(lake).outcomes("inat", "medium", photos["photo_id"]).row(0, named=True)
    assert (before["attempts"], after["attempts"]) == (4, 8)
    assert after["first_at"] == before["first_at"] < after["last_at"]


def test_a_stored_photo_is_in_the_shard_that_the_ledger_names(store, server, lake, tools):
    photos = server.photos(range(1, 11))
    report = store(photos)
    row = Ledger(lake).outcomes("inat", "medium", photos["photo_id"]).row(4, named=True)
    assert (row["shard"], row["etag"], row["http_status"]) == (report.shards_now[0], '"5"', 200)
    with tarfile.open(lake.uri(shard_key("medium", row["shard"]))) as tar:
        assert tar.extractfile("5.jpg").read() == tools.make_jpeg(5)


def test_a_photo_named_twice_is_fetched_once(store, server):
    report = store(pl.concat([server.photos(range(1, 11)), server.photos(range(5, 15))]))
    assert (report.requested, sum(server.hits.values())) == (14, 14)


def test_a_photo_of_another_campaign_is_not_fetched_again(store, server):
    store(server.photos(range(1, 11)))
    report = store(server.photos(range(5, 15)).to_arrow())
    assert (report.requested, report.stored, report.fetched_now) == (10, 10, 4)
    assert set(server.hits.values()) == {1}


def test_another_rendition_is_another_photo(store, server, lake):
    store(server.photos([1]))
    report = store(server.photos([1]), ImageSpec(max_side=32, format="webp"))
    assert report.fetched_now == 1
    with tarfile.open(lake.uri(shard_key("medium-32-webp-q90", report.shards_now[0]))) as tar:
        assert tar.getnames() == ["1.webp", "1.json"]


def test_nothing_stored_makes_no_shard(store, server, lake):
    server.default = lambda handler: handler.reply(404)
    report = store(server.photos(range(5)))
    assert (report.gone, report.shards_now, failed_share(report)) == (5, (), 0.0)
    assert tree(lake) == {}


def test_no_photos_are_no_work(store, server):
    report = store(server.photos([]))
    assert (report.requested, failed_share(report)) == (0, 0.0)


def test_a_photo_without_a_url_is_an_error(store):
    with pytest.raises(SourceError, match="1 photos have no id or no URL"):
        store(pl.DataFrame({"photo_id": [1, 2], "url": ["http://x/1.jpg", None]}))


def test_a_wrong_extension_is_put_right(store, server, lake, tools):
    server.on(1, lambda handler: handler.reply(200, tools.make_jpeg(1, form="PNG")))
    report = store(server.photos([1]))
    with tarfile.open(lake.uri(shard_key("medium", report.shards_now[0]))) as tar:
        assert tar.getnames() == ["1.png", "1.json"]


def test_damage_is_asked_again_only_where_the_body_may_have_been_cut(store, server, tools):
    whole = tools.make_jpeg(1)

    def cut_once_without_length(handler):
        if handler.hit > 1:
            handler.reply(200, whole)
            return
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(whole[:-200])
        handler.close_connection = True

    server.on(1, cut_once_without_length)
    server.on(2, lambda handler: handler.reply(200, whole[:-200]))
    report = store(server.photos([1, 2]))
    assert (report.stored, report.by_reason) == (1, {"corrupt": 1})
    assert server.hits[server.photo_path(2)] == 1


def test_a_wave_of_denials_records_nothing(store, server, lake):
    server.default = lambda handler: handler.reply(403)
    photos = server.photos(range(100))
    with pytest.raises(SourceError):
        store(photos)
    assert ledger(lake, photos) == []
    assert not list((lake.path / ".tmp").iterdir())


def test_finished_slices_survive_a_wave_of_denials(store, server, lake, small_shards):
    photos = server.photos(range(120))
    for photo_id in range(40, 120):
        server.on(photo_id, lambda handler: handler.reply(403))
    server.default = lambda handler: serve_until_denied(handler, server)
    with pytest.raises(SourceError):
        store(photos)
    assert {row[1] for row in ledger(lake, photos)} == {"stored"}


def serve_until_denied(handler, server):
    """Photos until the first denial, nothing from then on."""
    if any(path not in {server.photo_path(one) for one in range(40)} for path in server.hits):
        handler.reply(403)
    else:
        serve(handler)


def test_progress_tells_of_every_photo(store, server):
    class Shown:
        done, note = 0.0, ""

        def start(self, description, total, unit):
            assert (description, total, unit) == ("photos", 50, "photo")
            return self

        def advance(self, steps=1, note=""):
            self.done += steps
            self.note = note

        def finish(self, task):
            assert self.done == 50

    misbehave(server)
    store(server.photos(range(1, 11)))
    shown = Shown()
    with shown_by(shown):
        store(server.photos(range(1, 51)))
    rate, _, rest = shown.note.partition("/s, ")
    assert rate.isdecimal()
    assert rest == "0.1 MB, 2 gone, 1 failed, 1 refused, 2 rejected"


def test_shards_do_not_depend_on_speed_or_order(server, tmp_path, hasty, store, small_shards):
    misbehave(server)
    photos = server.photos(range(1, 91))
    trees, ledgers = [], []
    for seed, connections in enumerate((1, 4, 32)):
        settings = Settings(connections=connections)
        lake = Lake(str(tmp_path / f"lake-{seed}"), settings)
        rng = random.Random(seed)
        server.delay = lambda rng=rng: rng.uniform(0, 0.005)
        shuffled = photos.sample(fraction=1, shuffle=True, seed=seed)
        store(shuffled, into=lake, by=CurlFetcher(settings, hasty, seed=seed))
        trees.append(tree(lake))
        ledgers.append(ledger(lake, photos))
    assert trees[0] == trees[1] == trees[2]
    assert ledgers[0] == ledgers[1] == ledgers[2]


class Instant:
    """A fetcher that needs no network."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def fetch(self, requests):
        for request in reversed(list(requests)):
            yield Answer(request, None, body=self.data)


def test_any_fetcher_will_do(store, server, tools):
    assert store(server.photos(range(10)), by=Instant(tools.make_jpeg(1))).stored == 10


def test_the_source_file_is_the_same_on_every_mirror():
    names = {
        source_file("https://bucket.example/photos/1/medium.jpg"),
        source_file("http://user:pw@127.0.0.1:8000/mirror/photos/1/medium.jpg?key=secret"),
        source_file("file:///data/source/photos/1/medium.jpg"),
    }
    assert names == {"photos/1/medium.jpg"}
