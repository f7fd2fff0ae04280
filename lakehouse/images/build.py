"""Photos into the lake: what the ledger does not know is fetched, checked, stored in shards, and recorded.

The unit of work is a slice of photos in the order of their ids. Its shard is published before its outcomes
are recorded, and both appear whole or not at all, so a run that is killed leaves nothing that the next one
must repair: it does the unrecorded slices again and finds the same bytes under the same names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from queue import Empty, SimpleQueue

import polars as pl
import pyarrow as pa

from lakehouse.campaign import ImageSpec
from lakehouse.errors import LakehouseError, SourceError
from lakehouse.images.answers import Outcome
from lakehouse.images.engine import Engine, WorkerDied, opened_engine, usable_cores
from lakehouse.images.fetch import Fetcher
from lakehouse.images.ledger import Ledger
from lakehouse.images.report import BEAT, FetchReport, Pulse, Tally, failed_share
from lakehouse.images.task import ShardResult, ShardTask, build_shard
from lakehouse.images.uploads import abort_abandoned
from lakehouse.lake import Lake
from lakehouse.progress import task
from lakehouse.settings import Settings
from lakehouse.tombstones import load_tombstones

__all__ = ["SHARD_PHOTOS", "FetchReport", "failed_share", "store_photos"]

SHARD_PHOTOS = 10_000  # about 0.75 GB of medium photos

_LEAST_CONNECTIONS = 8  # of a worker: below, more workers are no quicker
_KNOWN = ["photo_id", "outcome", "reason", "http_status", "attempts", "first_at"]
_TASK = ["photo_id", "url", "first_at", "attempts"]
_SWEPT: set[str] = set()  # lakes looked after by this process


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
    More than one shard's worth is built by the engine that `settings` name; a script on which processes are
    started needs the usual `if __name__ == "__main__"`.

    Parameters
    ----------
    source_name
        The source the photo ids belong to.
    photos
        Columns `photo_id` and `url`; a photo that is named twice counts once, one that was taken back for
        good is left out.
    image
        The rendition.
    fetcher
        Where the bytes come from (then in this process); by default the network, at the pace that `settings`
        allow.

    Raises
    ------
    SourceError
        The source as a whole cannot be reached or denies everything; finished slices are kept.
    LakeError
        The lake cannot be written; finished slices are kept.
    WorkerDied
        A slice killed every worker that it was given to; the others are kept.
    """
    began = time.monotonic()
    if lake.root not in _SWEPT:
        abort_abandoned(lake)
        _SWEPT.add(lake.root)
    settings = settings or lake.settings
    ledger = Ledger(lake)
    found = _found(lake, ledger, source_name, image, photos)
    tally, running = Tally(requested=found.height), dict[int, Tally]()
    tally.add_known(
        found.filter(pl.col("outcome").is_not_null() & (pl.col("outcome") != Outcome.FAILED.value))
    )
    slices = [*_slices(found)]
    most = settings.connections // _LEAST_CONNECTIONS
    with (
        task("photos", found.height, "photo") as shown,
        closing(Pulse(shown, tally, running)) as pulse,
        opened_engine("inline" if fetcher else settings.engine, len(slices), most) as engine,
    ):
        pulse.beat()
        share = _share(settings, engine.width)
        tasks = (
            ShardTask(
                lake=lake,
                settings=share,
                source_name=source_name,
                image=image,
                cores=max(1, usable_cores() // engine.width),
                photos=part.select(_TASK).to_arrow(compat_level=pl.CompatLevel.oldest()),
            )
            for part in slices
        )
        for result in _results(engine, tasks, fetcher, running, pulse):
            ledger.record(result.rows)
            pa.default_memory_pool().release_unused()  # which the next shard's images need more than Arrow
            tally.merge(result.tally)
            pulse.beat()
    return tally.report(time.monotonic() - began)


def _share(settings: Settings, workers: int) -> Settings:
    """What each of so many workers may ask of a host."""
    if workers == 1:
        return settings
    rate = settings.rate / workers if settings.rate else None
    return settings.model_copy(update={"connections": settings.connections // workers, "rate": rate})


def _results(
    engine: Engine,
    tasks: Iterator[ShardTask],
    fetcher: Fetcher | None,
    running: MutableMapping[int, Tally],
    pulse: Pulse,
) -> Iterator[ShardResult]:
    """The results as they come; what failed is raised when those under way have ended.

    A task that kills its workers keeps no other from being done; every other failure (the source is down, the
    disk is full) ends the run.
    """
    under_way: dict[int, Future[ShardResult]] = {}
    fetching: set[int] = set()
    news: SimpleQueue[int] = SimpleQueue()  # tasks that have fetched, or ended
    failure: LakehouseError | None = None
    numbered = enumerate(tasks)
    more = True
    while more or under_way:
        while more and len(fetching) < engine.width and len(under_way) < engine.most:
            number, one = next(numbered, (0, None))
            if one is None or (failure and not isinstance(failure, WorkerDied)):
                more = False
                break
            fetching.add(number)
            under_way[number] = _submit(engine, one, number, fetcher, running, pulse, news)
        pulse.beat()
        try:
            number = news.get(timeout=BEAT)
        except Empty:
            continue
        fetching.discard(number)
        if number not in under_way or not under_way[number].done():
            continue
        running.pop(number, None)
        future = under_way.pop(number)
        error = future.exception()
        if error is None:
            yield future.result()
        elif not isinstance(error, LakehouseError):
            raise error
        elif failure is None or isinstance(failure, WorkerDied):
            failure = error
    if failure:
        raise failure


def _submit(
    engine: Engine,
    one: ShardTask,
    number: int,
    fetcher: Fetcher | None,
    running: MutableMapping[int, Tally],
    pulse: Pulse,
    news: SimpleQueue[int],
) -> Future[ShardResult]:
    def tell(tally: Tally) -> None:
        running[number] = tally
        if engine.here:
            pulse.beat()

    def happened(_: object = None) -> None:
        news.put(number)

    build = partial(build_shard, fetcher=fetcher) if engine.here else build_shard
    future = engine.submit(build, one, tell, happened)
    future.add_done_callback(happened)
    return future


def _found(
    lake: Lake, ledger: Ledger, source_name: str, image: ImageSpec, photos: pl.DataFrame | pa.Table
) -> pl.DataFrame:
    """The photos with what the ledger says of them, null where it says nothing."""
    wanted = _wanted(lake, photos)
    known = ledger.outcomes(source_name, image.slug, wanted["photo_id"]).select(_KNOWN)
    return wanted.join(known, on="photo_id", how="left", maintain_order="left")


def _wanted(lake: Lake, photos: pl.DataFrame | pa.Table) -> pl.DataFrame:
    frame = pl.DataFrame(photos) if isinstance(photos, pa.Table) else photos
    wanted = frame.select(pl.col("photo_id").cast(pl.Int64), pl.col("url").cast(pl.String))
    missing = wanted.filter(pl.any_horizontal(pl.all().is_null())).height
    if missing:
        raise SourceError(
            f"{missing} photos have no id or no URL; leave them out of the source's photo table"
        )
    distinct = wanted
    # As a selection has them; any other table is copied.
    if not (wanted["photo_id"].diff().drop_nulls() > 0).all():
        distinct = wanted.sort("photo_id", "url").unique("photo_id", keep="first", maintain_order=True)
    tombstones = load_tombstones(lake)
    if not tombstones:
        return distinct
    taken_back = [tombstones.of_photo(photo_id) is not None for photo_id in distinct["photo_id"]]
    return distinct.filter(~pl.Series(taken_back, dtype=pl.Boolean))


def _slices(found: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """What there is to do, in the order of the photo ids.

    Photos that failed before come after those never tried, in slices of their own: so the slices that a
    killed run did not get to are cut by the next one where they would have been.
    """
    for part in (pl.col("outcome").is_null(), pl.col("outcome") == Outcome.FAILED.value):
        yield from found.filter(part).iter_slices(SHARD_PHOTOS)
