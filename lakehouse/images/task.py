"""One shard from the photos it shall hold: a function of its task, so that any process anywhere may run it.

The shard is published in the lake; what comes back is small: its rows for the ledger, and the counts.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import starmap
from urllib.parse import unquote, urlsplit

import polars as pl
import pyarrow as pa

from lakehouse.campaign import ImageSpec
from lakehouse.errors import LakehouseError
from lakehouse.images.answers import Answer, Outcome, PhotoRequest, Problem
from lakehouse.images.check import Checked, Checker
from lakehouse.images.engine import Fetched, Tell
from lakehouse.images.fetch import CurlFetcher, Fetcher
from lakehouse.images.ledger import LedgerRow, in_shard, ledger_rows
from lakehouse.images.report import Tally
from lakehouse.images.shard import Spool, spooling
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.tombstones import load_tombstones

_ODD = re.compile(r"[%?#]|[^:]//")  # in a URL that must be taken apart with care
_FETCHERS = threading.local()


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The photos of one shard, and all that is needed to build it anywhere.

    Attributes
    ----------
    settings
        How to fetch; `connections` and `rate` are this task's own share of what a host is asked.
    cores
        How many of them decoding may use.
    photos
        In the order of their ids: `photo_id`, `url`, and of those that failed before `first_at`, `attempts`.
    """

    lake: Lake
    settings: Settings
    source_name: str
    image: ImageSpec
    cores: int
    photos: pa.Table


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of the photos: rows for the ledger (`schema.LEDGER`), and the counts."""

    rows: pa.Table
    tally: Tally


def build_shard(task: ShardTask, tell: Tell, fetched: Fetched, fetcher: Fetcher | None = None) -> ShardResult:
    """Fetch, check and publish; `tell` is called with the counts so far after every photo, `fetched` before
    publishing begins.

    Raises SourceError if the source as a whole cannot be reached, LakeError if the lake cannot be written.
    """
    photos = pl.DataFrame(task.photos)
    work = _Work(task, photos, tell)
    with spooling(task.lake, photos["photo_id"]) as spool:
        rows = ledger_rows(work.fetch(fetcher or _shared_fetcher(task.settings), spool))
        fetched()
        shard = spool.publish(task.lake, task.image.slug)
    if shard:
        work.tally.shards.append(shard.sha256)
        rows = in_shard(rows, shard.sha256)
    pa.default_memory_pool().release_unused()
    return ShardResult(rows, work.tally)


class _Work:
    """The photos of one shard on their way."""

    def __init__(self, task: ShardTask, photos: pl.DataFrame, tell: Tell) -> None:
        self._task, self._photos, self._tell = task, photos, tell
        self._checker = Checker(task.image, task.settings.check, task.cores)
        self._rendition = task.image.slug
        self._tombstones = load_tombstones(task.lake)
        self.tally = Tally(requested=photos.height)
        # What an earlier run recorded of a photo that failed then: when it was first tried, how often.
        tried = photos.filter(pl.col("first_at").is_not_null())
        self._before: dict[int, tuple[datetime, int]] = {
            photo_id: (first_at, attempts)
            for photo_id, first_at, attempts in tried.select("photo_id", "first_at", "attempts").iter_rows()
        }

    def fetch(self, fetcher: Fetcher, spool: Spool) -> Iterator[LedgerRow]:
        """Fetch every photo, and give its row; the good ones are in the spool afterwards."""
        requests = starmap(PhotoRequest, self._photos.select("photo_id", "url").iter_rows())
        answered = 0
        again: list[PhotoRequest] = []
        for answer, checked in self._checker.checked(fetcher, requests):
            # Of a body whose length nobody announced, damage may mean that it was cut on the way.
            if isinstance(checked, Problem) and checked.reason == "corrupt" and not answer.length_known:
                again.append(answer.request)
            else:
                yield self._count(self._take(answer, checked, spool), answer)
                answered += 1
        if again:
            for answer, checked in self._checker.checked(fetcher, again):
                yield self._count(self._take(answer, checked, spool, extra=1), answer)
                answered += 1
        if answered != self._photos.height:
            raise LakehouseError(
                f"{self._photos.height} photos asked for, {answered} answered; report this as a bug"
            )

    def _take(self, answer: Answer, checked: Checked, spool: Spool, extra: int = 0) -> LedgerRow:
        """Spool what came; its row, but for the shard."""
        photo_id, now = answer.request.photo_id, datetime.now(UTC)
        first_at, attempts = self._before.get(photo_id, (now, 0))
        if not isinstance(checked, Problem) and self._tombstones.of_image(checked[1].sha256):
            # The picture that was taken back, uploaded again under another id.
            checked = Problem(Outcome.GONE, "taken_back")
        stored = None if isinstance(checked, Problem) else checked[1]
        if isinstance(checked, Problem):
            spool.leave_out(photo_id)
        else:
            spool.add(photo_id, source_file(answer.request.url), *checked)
        return LedgerRow(
            source=self._task.source_name,
            photo_id=photo_id,
            rendition=self._rendition,
            outcome=checked.outcome if isinstance(checked, Problem) else Outcome.STORED,
            reason=checked.reason if isinstance(checked, Problem) else "ok",
            http_status=answer.http_status,
            attempts=attempts + answer.attempts + extra,
            first_at=first_at,
            last_at=now,
            etag=answer.etag,
            last_modified=answer.last_modified,
            sha256=stored.sha256 if stored else None,
            size=stored.size if stored else None,
        )

    def _count(self, row: LedgerRow, answer: Answer) -> LedgerRow:
        self.tally.add(row.outcome, row.reason, answer.request, row.http_status, len(answer.body))
        self._tell(self.tally)
        return row


def source_file(url: str) -> str:
    """What the source calls a file: the last three parts of the URL's path, which no mirror changes."""
    if not _ODD.search(url) and url.count("/") >= 5:
        return "/".join(url.rsplit("/", 3)[1:])
    return "/".join(part for part in unquote(urlsplit(url).path).split("/")[-3:] if part)


def _shared_fetcher(settings: Settings) -> CurlFetcher:
    """This thread's fetcher, so that what a call learnt about a host serves the calls after it."""
    known: tuple[Settings, CurlFetcher] | None = getattr(_FETCHERS, "last", None)
    if known is None or known[0] != settings:
        known = _FETCHERS.last = (settings, CurlFetcher(settings))
    return known[1]
