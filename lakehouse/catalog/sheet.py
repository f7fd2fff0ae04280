"""The photographs a dataset is shown by: which ones, and the small pictures made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse.catalog.statistics import Statistics
from lakehouse.catalog.thumbnails import MAX_IMAGES, contact_sheet, thumbnail_strip
from lakehouse.licences import LICENCES
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.tables import rows

SHOWN = 24
# What mixes ids up, the same everywhere: Knuth's multiplicative hash.
_MIX = pl.col("photo_id") * 2654435761 % 4294967296


@dataclass(frozen=True, slots=True)
class Shown:
    """One photograph that is shown, with the manifest's columns of these names."""

    photo_id: int
    label: str
    license: str
    creator: str
    observation_url: str


def shown(manifest: pl.LazyFrame, statistics: Statistics, number: int = SHOWN) -> list[Shown]:
    """At most `number` photographs, of labels from the most to the least common; the same ones each time.

    None is under a NoDerivatives licence, as what is shown is cut to a square. Only the photo ids of the
    labels shown are held in memory.
    """
    labels, count = statistics.labels, min(number, len(statistics.labels))
    if not count:
        return []
    order = [labels[place * (len(labels) - 1) // max(count - 1, 1)].label_id for place in range(count)]
    free = [code for code, licence in LICENCES.items() if licence.derivatives]
    ids = (
        manifest.filter(pl.col("label_id").is_in(order) & pl.col("license").is_in(free))
        .group_by("label_id")
        .agg(pl.col("photo_id").sort_by(_MIX).head(-(-number // count)))
        .explode("photo_id")
        .collect(engine="streaming")["photo_id"]
    )
    names = list(Shown.__slots__)
    chosen = (
        manifest.filter(pl.col("photo_id").is_in(ids.implode()))
        .select("label_id", *names)
        .with_columns(mix=_MIX)
        .collect(engine="streaming")
        .with_columns(rank=pl.col("label_id").replace_strict(order, list(range(count))))
        # Each label has its first before any has its second.
        .sort(pl.col("mix").rank("ordinal").over("rank"), "rank")
        .head(number)
        .sort("rank", "mix")
        .select(names)
    )
    return [Shown(**row) for row in chosen.iter_rows(named=True)]


def images(snapshot: Snapshot, photographs: Sequence[Shown]) -> list[bytes]:
    """The encoded bytes of photographs that are shown, from the lake."""
    if not photographs:
        return []
    ids = ", ".join(str(one.photo_id) for one in photographs)
    columns = ("photo_id", "shard", "offset", "size")
    with snapshot.lake.connect() as connection:
        found = rows(connection, snapshot.lake, snapshot.root, columns, where=f"photo_id IN ({ids})")
        places = {row["photo_id"]: row for batch in found for row in batch.to_pylist()}
    return [
        snapshot.image(place["shard"], place["offset"], place["size"])
        for place in (places[one.photo_id] for one in photographs)
    ]


def pictures(
    statistics: Statistics, photographs: Sequence[Shown], encoded: Sequence[bytes]
) -> dict[str, bytes]:
    """The card's figures, contact sheet and strip of thumbnails: bytes by file name.

    `encoded` are the bytes of the photographs. Of a dataset whose photographs are all under NoDerivatives
    licences there is no sheet and no strip.
    """
    # matplotlib takes most of a second to import, and most commands draw nothing.
    from lakehouse.catalog.plots import figures

    drawn = {f"figures/{name}.png": data for name, data in figures(statistics).items()}
    if not photographs:
        return drawn
    return {
        "figures/strip.jpg": thumbnail_strip(encoded[:MAX_IMAGES]),
        "figures/contact_sheet.jpg": contact_sheet(encoded, [one.label for one in photographs]),
        **drawn,
    }
