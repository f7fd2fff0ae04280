"""Whether the photographs of a snapshot are still at their source: a sample, asked for politely."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import polars as pl

from lakehouse.errors import UsageError
from lakehouse.images.ledger import Ledger
from lakehouse.snapshots.read import Snapshot
from lakehouse.sources.base import Source

RATE = 5.0  # requests per second, unless LAKEHOUSE_RATE asks for fewer
_TIMEOUT = httpx.Timeout(20)
_GONE = (403, 404, 410)  # a bucket that may not be listed answers 403 for what is not there
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What a sample of `asked` photographs showed.

    `counts` by state: `there` (as it was fetched), `changed` (another ETag or size), `gone`, `unknown` (the
    source did not say). `examples` are addresses of what is not there or not the same.
    """

    asked: int
    counts: dict[str, int]
    examples: dict[str, tuple[str, ...]]

    def share(self, state: str) -> float:
        """The share of the photographs that the source said anything about."""
        known = self.asked - self.counts["unknown"]
        return self.counts[state] / known if known else 0.0


def check_links(
    snapshot: Snapshot, source: Source, *, sample: int = 200, seed: int = 0, rate: float | None = None
) -> LinkReport:
    """Ask the source for the heads of `sample` photographs of a snapshot, one after the other.

    Parameters
    ----------
    seed
        Which photographs; another one each week sees them all in time.
    rate
        Requests per second; by default five, or LAKEHOUSE_RATE if that is less.

    Raises
    ------
    UsageError
        `sample` is not positive.
    """
    if sample < 1:
        raise UsageError(f"a sample of {sample} photographs says nothing; ask for at least 1")
    chosen = _sample(snapshot, sample, seed)
    pause = 1 / min(rate or RATE, snapshot.lake.settings.rate or RATE)
    size = str(snapshot.root.parameters["image"]).split("-")[0]
    known = Ledger(snapshot.lake).outcomes(
        snapshot.root.inputs.source, str(snapshot.root.parameters["image"]), chosen["photo_id"]
    )
    etags = dict(known.select("photo_id", "etag").iter_rows())
    counts: Counter[str] = Counter(dict.fromkeys(("there", "changed", "gone", "unknown"), 0))
    examples: dict[str, list[str]] = {}
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers={"User-Agent": "lakehouse"}) as client:
        for photo_id, extension, cited in chosen.iter_rows():
            began = time.monotonic()
            url = source.photo_url(photo_id, extension, size)
            if not url.startswith("http"):  # an s3:// location; the address it is cited by can be asked
                url = cited
            state = _state(client, url, etags.get(photo_id))
            counts[state] += 1
            if state != "there":
                shown = examples.setdefault(state, [])
                if len(shown) < _EXAMPLES:
                    shown.append(url)
            time.sleep(max(0.0, pause - (time.monotonic() - began)))
    return LinkReport(
        chosen.height, dict(counts), {state: tuple(urls) for state, urls in sorted(examples.items())}
    )


def problems(report: LinkReport, most: float) -> Iterator[str]:
    """A sentence for what is gone or changed at more than a share of `most`."""
    for state, said in (("gone", "are gone from"), ("changed", "are not the same at")):
        if report.share(state) > most:
            yield (
                f"{report.counts[state]:,} of {report.asked:,} sampled photographs {said} the source, for "
                f"example {report.examples[state][0]}"
            )
    if report.counts["unknown"] > report.asked / 2:
        yield f"the source said nothing about {report.counts['unknown']:,} of {report.asked:,} photographs"


def _sample(snapshot: Snapshot, size: int, seed: int) -> pl.DataFrame:
    """Columns photo_id, extension and photo_url of some photographs, in a random order."""
    ids = snapshot.manifest.select("photo_id").collect()["photo_id"].to_list()
    chosen = random.Random(seed).sample(ids, min(size, len(ids)))
    found = (
        snapshot.manifest.select("photo_id", "photo_url").filter(pl.col("photo_id").is_in(chosen)).collect()
    )
    order = pl.DataFrame({"photo_id": chosen}, schema={"photo_id": pl.Int64})
    return order.join(found, on="photo_id", maintain_order="left").select(
        "photo_id", pl.col("photo_url").str.split(".").list.last().alias("extension"), "photo_url"
    )


def _state(client: httpx.Client, url: str, etag: str | None) -> str:
    try:
        answer = client.head(url)
    except httpx.HTTPError:
        return "unknown"
    if answer.status_code in _GONE:
        return "gone"
    if not answer.is_success:
        return "unknown"
    served = answer.headers.get("etag", "").strip('"')
    return "changed" if etag and served and served != etag.strip('"') else "there"
