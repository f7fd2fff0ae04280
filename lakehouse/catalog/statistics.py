"""What a dataset holds, in numbers: counts, long tail, places, dates, resolutions and who took the
photographs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from itertools import accumulate
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

TOP = 10  # photographers whose share is told
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_SPLITS = ("train", "val", "validation", "test")  # told in this order, others after them
SIDE_STEP = 16  # pixels, the width of a bar in the histogram of resolutions


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelCount(_Record):
    """One label with its number of photographs."""

    label_id: int
    label: str
    taxon_rank: str
    kingdom: str | None
    class_: str | None
    photos: int


class Place(_Record):
    """A one-degree cell of the globe, by its south-west corner, with its number of photographs."""

    longitude: int
    latitude: int
    photos: int


class BoundingBox(_Record):
    """The smallest box in degrees that holds every place; it does not wrap around the antimeridian."""

    west: float
    south: float
    east: float
    north: float


class Statistics(_Record):
    """A dataset in numbers.

    Mappings are photographs by name, most first; splits, years and months in their order. `labels` are in
    order of decreasing photographs. `sides` maps the longest side in pixels, rounded down to 16, to
    photographs; `side_quantiles` are of the exact longest side. `top_share` is the share of photographs
    that the ten most active photographers took; `gini` is the Gini coefficient of photographs per
    photographer (0: all took the same number); `activity` maps a number of photographs to the photographers
    who took that many.
    """

    photos: int
    observations: int
    bytes: int
    photographers: int
    top_share: float
    gini: float
    activity: dict[int, int]
    splits: dict[str, int]
    licenses: dict[str, int]
    license_splits: dict[str, dict[str, int]]
    labels: tuple[LabelCount, ...]
    kingdoms: dict[str, int]
    classes: dict[str, int]
    quality: dict[str, int]
    formats: dict[str, int]
    observed_from: date | None
    observed_to: date | None
    years: dict[int, int]
    months: dict[int, int]
    undated: int
    box: BoundingBox | None
    located: int
    places: tuple[Place, ...]
    side_quantiles: dict[str, int]
    sides: dict[int, int]

    @property
    def size(self) -> str:
        """The bytes of the photographs in a unit that people read."""
        return human_bytes(self.bytes)


def summarize(manifest: pl.LazyFrame) -> Statistics:
    """Count what a manifest holds.

    Each question is one pass of the streaming engine over the few columns it needs, and each answer is
    bounded by the number of labels, of one-degree cells or of pixel widths, so a manifest larger than
    memory is no trouble.

    Parameters
    ----------
    manifest
        A table with the columns of `lakehouse.snapshots.schema.MANIFEST`.
    """
    totals = _collect(
        manifest.select(
            pl.len().alias("photos"),
            pl.col("observation_uuid").n_unique().alias("observations"),
            pl.col("size").sum().alias("bytes"),
            pl.col("observed_on").min().alias("observed_from"),
            pl.col("observed_on").max().alias("observed_to"),
            pl.col("longitude").min().alias("west"),
            pl.col("latitude").min().alias("south"),
            pl.col("longitude").max().alias("east"),
            pl.col("latitude").max().alias("north"),
        )
    ).row(0, named=True)
    labels = _labels(manifest)
    mixture = _collect(
        manifest.group_by("license", "split").agg(pl.len().alias("photos")).sort("license", "split")
    )
    by_split = {row["split"]: 0 for row in mixture.iter_rows(named=True)}
    license_splits: dict[str, dict[str, int]] = {}
    for row in mixture.iter_rows(named=True):
        license_splits.setdefault(row["license"], dict.fromkeys(by_split, 0))[row["split"]] = row["photos"]
        by_split[row["split"]] += row["photos"]
    months = _counts(manifest, pl.col("observed_on").dt.month())
    years = _counts(manifest, pl.col("observed_on").dt.year())
    places = _places(manifest)
    # How many photographers took n photographs: all that concentration needs, however many they are.
    activity = _counts(manifest.group_by("creator").agg(pl.len().alias("taken")), pl.col("taken"))
    sides = _counts(manifest, pl.max_horizontal("width", "height"))
    by_side = {side: count for side, count in sorted(sides.items()) if side is not None}
    box = [totals[name] for name in ("west", "south", "east", "north")]
    return Statistics(
        photos=totals["photos"],
        observations=totals["observations"] if totals["photos"] else 0,
        bytes=totals["bytes"],
        photographers=sum(activity.values()),
        top_share=top_share(activity, TOP),
        gini=gini(activity),
        activity=dict(sorted(activity.items())),
        splits=dict(sorted(by_split.items(), key=lambda item: _split_order(item[0]))),
        licenses=_by_size({code: sum(parts.values()) for code, parts in license_splits.items()}),
        license_splits=license_splits,
        labels=labels,
        kingdoms=_named(labels, "kingdom"),
        classes=_named(labels, "class_"),
        quality=_by_size(
            {str(name or "unknown"): n for name, n in _counts(manifest, pl.col("quality_grade")).items()}
        ),
        formats=_by_size(
            {str(name or "unknown"): n for name, n in _counts(manifest, pl.col("format")).items()}
        ),
        observed_from=totals["observed_from"],
        observed_to=totals["observed_to"],
        years=dict(sorted(_dated(years).items())),
        months={month: months.get(month, 0) for month in range(1, 13)} if _dated(months) else {},
        undated=months.get(None, 0),
        box=None if None in box else BoundingBox(west=box[0], south=box[1], east=box[2], north=box[3]),
        located=sum(place.photos for place in places),
        places=places,
        side_quantiles={f"p{round(100 * q)}": quantile(by_side, q) for q in QUANTILES} if by_side else {},
        sides=_binned(by_side),
    )


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The lowest value that at least `share` of the values do not exceed; `counts` is in increasing order."""
    total = sum(counts.values())
    for value, reached in zip(counts, accumulate(counts.values()), strict=True):
        if reached >= share * total:
            return value
    return max(counts)


def top_share(activity: Mapping[Any, int], top: int) -> float:
    """The share of all photographs that the `top` most active took; `activity` is photographs →
    photographers."""
    total = sum(taken * people for taken, people in activity.items())
    left, share = top, 0
    for taken, people in sorted(activity.items(), reverse=True):
        counted = min(people, left)
        share, left = share + taken * counted, left - counted
    return share / total if total else 0.0


def gini(activity: Mapping[Any, int]) -> float:
    """The Gini coefficient of photographs per photographer; `activity` is photographs → photographers."""
    people, photos = sum(activity.values()), sum(taken * n for taken, n in activity.items())
    if not photos:
        return 0.0
    area, before = 0.0, 0.0  # under the Lorenz curve, one trapezium per level of activity
    for taken, n in sorted(activity.items()):
        after = before + taken * n / photos
        area, before = area + (before + after) / 2 * n / people, after
    return max(0.0, 1 - 2 * area)


def human_bytes(size: int) -> str:
    """A number of bytes with its decimal unit, for example `1.4 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")


def _counts(frame: pl.LazyFrame, value: pl.Expr) -> dict[Any, int]:
    return dict(
        _collect(frame.select(value.alias("value")).group_by("value").agg(pl.len().alias("n"))).iter_rows()
    )


def _labels(manifest: pl.LazyFrame) -> tuple[LabelCount, ...]:
    names = ("label", "taxon_rank", "kingdom", "class")
    counted = manifest.group_by("label_id").agg(
        *(pl.col(name).first() for name in names), pl.len().alias("photos")
    )
    table = _collect(counted).sort("photos", "label_id", descending=[True, False]).rename({"class": "class_"})
    return tuple(LabelCount.model_validate(row) for row in table.iter_rows(named=True))


def _places(manifest: pl.LazyFrame) -> tuple[Place, ...]:
    cells = manifest.select(pl.col("longitude", "latitude").floor().cast(pl.Int32)).drop_nulls()
    table = _collect(cells.group_by("longitude", "latitude").agg(pl.len().alias("photos")))
    return tuple(
        Place.model_validate(row) for row in table.sort("latitude", "longitude").iter_rows(named=True)
    )


def _named(labels: tuple[LabelCount, ...], rank: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for label in labels:
        name = getattr(label, rank) or "unknown"
        counts[name] = counts.get(name, 0) + label.photos
    return _by_size(counts)


def _split_order(split: str) -> tuple[int, str]:
    return (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split)


def _by_size(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _dated(counts: Mapping[Any, int]) -> dict[int, int]:
    return {value: count for value, count in counts.items() if value is not None}


def _binned(sides: Mapping[int, int]) -> dict[int, int]:
    bars: dict[int, int] = {}
    for side, count in sides.items():
        bar = side // SIDE_STEP * SIDE_STEP
        bars[bar] = bars.get(bar, 0) + count
    return bars
