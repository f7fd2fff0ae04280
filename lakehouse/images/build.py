"""Photos into the lake: what the ledger does not know is fetched, checked, stored in shards, and recorded.

The unit of work is a slice of photos in the order of their ids. Its shard is published before its outcomes
are recorded, and both appear whole or not at all, so a run that is killed leaves nothing that the next one
must repair: it does the unrecorded slices again and finds the same bytes under the same names.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import polars as pl
import pyarrow as pa

from lakehouse.campaign import ImageSpec
from lakehouse.errors import LakehouseError, SourceError
from lakehouse.images.answers import Answer, Outcome, PhotoRequest, Problem
from lakehouse.images.check import Checked, Checker
from lakehouse.images.fetch import CurlFetcher, Fetcher
from lakehouse.images.ledger import Ledger, LedgerRow
from lakehouse.images.report import FetchReport, Pulse, Tally, failed_share
from lakehouse.images.shard import Spool, spooling
from lakehouse.images.uploads import abort_abandoned
from lakehouse.lake import Lake
from lakehouse.progress import task
from lakehouse.settings import Settings
from lakehouse.tombstones import Tombstones, load_tombstones

__all__ = ["SHARD_PHOTOS", "FetchReport", "failed_share", "store_photos"]

SHARD_PHOTOS = 10_000  # about 0.75 GB of medium photos

_ODD = re.compile(r"[%?#]|[^:]//")  # in a URL that must be taken apart with care
_KNOWN = ["photo_id", "outcome", "reason", "http_status", "attempts", "first_at"]
_SWEPT: set[str] = set()  # lakes looked after by this process
_FETCHERS = threading.local()


def store_photos(
    lake: Lake,
    source_name: str,
    photos: pl.DataFrame | pa.Table,
    *,
    image: ImageSpec,
    fetcher: Fetcher | None = None,
    settings: Settings | None = None,
) -> FetchReport:
    """See to it that every photo is in the lake, or that the ledger says why not.

    A photo that is stored, gone, refused or rejected already is not asked for again; one that failed is.

    Parameters
    ----------
    source_name
        The source the photo ids belong to.
    photos
        Columns `photo_id` and `url`; a photo that is named twice counts once.
    image
        The rendition.
    fetcher
        Where the bytes come from; by default the network, at the pace that `settings` allow.

    Raises
    ------
    SourceError
        The source as a whole cannot be reached or denies everything; finished slices are kept.
    LakeError
        The lake cannot be written; finished slices are kept.
    """
    began = time.monotonic()
    if lake.root not in _SWEPT:
        abort_abandoned(lake)
        _SWEPT.add(lake.root)
    wanted = _distinct(photos)
    ledger = Ledger(lake)
    known = ledger.outcomes(source_name, image.slug, wanted["photo_id"]).select(_KNOWN)
    found = wanted.join(known, on="photo_id", how="left", maintain_order="left")
    tally = Tally(requested=wanted.height)
    settled = found.filter(pl.col("outcome").is_not_null() & (pl.col("outcome") != Outcome.FAILED.value))
    tally.add_known(settled)
    tombstones = load_tombstones(lake)
    settings = settings or lake.settings
    fetcher = fetcher or _shared_fetcher(settings)
    checker = Checker(image, settings.check)
    with task("photos", wanted.height, "photo") as shown, closing(Pulse(shown, tally)) as pulse:
        pulse.beat(settled.height)
        for part in _slices(found):
            work = _Slice(source_name, image, part, tally, pulse, checker, tombstones)
            with spooling(lake, part["photo_id"]) as spool:
                rows = work.fetch(fetcher, spool)
                shard = spool.publish(lake, image.slug)
            if shard:
                tally.shards.append(shard.sha256)
            ledger.record(rows, shard.sha256 if shard else None)
    return tally.report(time.monotonic() - began)


class _Slice:
    """The photos of one shard on their way."""

    def __init__(
        self,
        source_name: str,
        image: ImageSpec,
        photos: pl.DataFrame,
        tally: Tally,
        pulse: Pulse,
        checker: Checker,
        tombstones: Tombstones,
    ) -> None:
        self._tombstones = tombstones
        self._source_name, self._image = source_name, image
        self._photos, self._tally, self._pulse, self._checker = photos, tally, pulse, checker
        # What an earlier run recorded of a photo that failed then: when it was first tried, how often.
        tried = photos.filter(pl.col("first_at").is_not_null())
        self._before: dict[int, tuple[datetime, int]] = {
            photo_id: (first_at, attempts)
            for photo_id, first_at, attempts in tried.select("photo_id", "first_at", "attempts").iter_rows()
        }

    def fetch(self, fetcher: Fetcher, spool: Spool) -> list[LedgerRow]:
        """Fetch every photo of the slice; the good ones are in the spool afterwards."""
        rows: list[LedgerRow] = []
        requests = [
            PhotoRequest(photo_id, url)
            for photo_id, url in self._photos.select("photo_id", "url").iter_rows()
            if not self._tombstones.of_photo(photo_id)
        ]
        again: list[PhotoRequest] = []
        for answer, checked in self._checker.checked(fetcher, requests):
            # Of a body whose length nobody announced, damage may mean that it was cut on the way.
            if isinstance(checked, Problem) and checked.reason == "corrupt" and not answer.length_known:
                again.append(answer.request)
            else:
                rows.append(self._count(self._take(answer, checked, spool), answer))
        if again:
            for answer, checked in self._checker.checked(fetcher, again):
                rows.append(self._count(self._take(answer, checked, spool, extra=1), answer))
        if len(rows) != len(requests):
            raise LakehouseError(
                f"{len(requests)} photos asked for, {len(rows)} answered; report this as a bug"
            )
        return rows

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
            source=self._source_name,
            photo_id=photo_id,
            rendition=self._image.slug,
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
        self._tally.add(row.outcome, row.reason, answer.request, row.http_status, len(answer.body))
        self._pulse.beat()
        return row


def source_file(url: str) -> str:
    """What the source calls a file: the last three parts of the URL's path, which no mirror changes."""
    if not _ODD.search(url) and url.count("/") >= 5:
        return "/".join(url.rsplit("/", 3)[1:])
    return "/".join(part for part in unquote(urlsplit(url).path).split("/")[-3:] if part)


def _distinct(photos: pl.DataFrame | pa.Table) -> pl.DataFrame:
    frame = pl.DataFrame(photos) if isinstance(photos, pa.Table) else photos
    wanted = frame.select(pl.col("photo_id").cast(pl.Int64), pl.col("url").cast(pl.String))
    missing = wanted.filter(pl.any_horizontal(pl.all().is_null())).height
    if missing:
        raise SourceError(
            f"{missing} photos have no id or no URL; leave them out of the source's photo table"
        )
    return wanted.sort("photo_id", "url").unique("photo_id", keep="first", maintain_order=True)


def _slices(found: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """What there is to do, in the order of the photo ids.

    Photos that failed before come after those never tried, in slices of their own: so the slices that a
    killed run did not get to are cut by the next one where they would have been.
    """
    for part in (pl.col("outcome").is_null(), pl.col("outcome") == Outcome.FAILED.value):
        yield from found.filter(part).iter_slices(SHARD_PHOTOS)


def _shared_fetcher(settings: Settings) -> CurlFetcher:
    """This thread's fetcher, so that what a call learnt about a host serves the calls after it."""
    known: tuple[Settings, CurlFetcher] | None = getattr(_FETCHERS, "last", None)
    if known is None or known[0] != settings:
        known = _FETCHERS.last = (settings, CurlFetcher(settings))
    return known[1]
