"""Figures of a dataset, drawn from its statistics: PNG bytes that are the same for the same numbers.

The figures are small, readable in print and by the colour-blind, and drawn without a display.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from lakehouse.catalog.statistics import SIDE_STEP, TOP, Place, Statistics
from lakehouse.licences import LICENCES

INK = "#2b2b2b"
MAIN = "#1b6e6a"
# Okabe and Ito's palette, which the colour-blind can tell apart.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9a9a9a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
_GROUND_COLOURS = LinearSegmentedColormap.from_list("ground", ["#93cbb6", "#3f9c8f", "#155a5c", "#06262b"])
FEW = 24  # labels that are drawn by name
_PERCENT = FuncFormatter(lambda value, _: f"{value:.0%}")
_MONTHS = ("J", "F", "M", "A", "M", "J", "J", "A", "S", "O", "N", "D")


def rank_abundance(statistics: Statistics) -> bytes:
    """Photographs of each label, labels in order of abundance, both axes logarithmic: the long tail."""
    if len(statistics.labels) <= FEW:
        return _named_labels(statistics)
    counts = [label.photos for label in statistics.labels]
    with _figure(5.6, 3.4) as (axes, png):
        ranks = np.arange(1, len(counts) + 1)
        axes.plot(ranks, counts, color=MAIN, linewidth=1.6)
        axes.fill_between(ranks, counts, 0.8, color=MAIN, alpha=0.12, linewidth=0)
        axes.set(title="Photographs per label", xlabel="label, by rank", ylabel="photographs")
        axes.set(xscale="log", yscale="log", xlim=(0.9, len(counts) * 1.1), ylim=(0.8, max(counts) * 2))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_thousands())
            axis.set_minor_formatter(NullFormatter())
        most = statistics.labels[0]
        axes.annotate(
            f"{_short(most.label, 34)}: {most.photos:,}",
            (1, most.photos),
            xytext=(9, 4),
            textcoords="offset points",
            fontsize=8,
            style="italic",
        )
    return png()


def _named_labels(statistics: Statistics) -> bytes:
    """A bar per label, as a curve through a handful of points would say less."""
    labels = statistics.labels
    names = [_short(label.label, 34) for label in labels]
    room = 0.25 + 0.066 * max(map(len, names), default=0)  # inches, as of letters of this size
    with _figure(5.6, 1.0 + 0.21 * max(len(labels), 3), left=max(room, 0.72), right=0.45) as (axes, png):
        axes.barh(range(len(labels)), [label.photos for label in labels], color=MAIN, height=0.7)
        axes.set_yticks(range(len(labels)), names, style="italic", fontsize=8)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set(title="Photographs per label", xlabel="photographs")
        axes.xaxis.set_major_formatter(_thousands())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return png()


def licence_by_split(statistics: Statistics) -> bytes:
    """Share of each licence in each split, as stacked bars with the split's number of photographs."""
    splits = list(statistics.splits)
    codes = [code for code in LICENCES if code in statistics.license_splits]
    room = 0.35 + 0.085 * max(map(len, splits), default=0)  # inches, as of letters of this size
    with _figure(5.6, 1.25 + 0.42 * max(len(splits), 2), left=max(room, 0.72), right=1.6) as (axes, png):
        left = np.zeros(len(splits))
        totals = np.array([max(statistics.splits[split], 1) for split in splits])
        for place, code in enumerate(codes):
            share = np.array([statistics.license_splits[code].get(split, 0) for split in splits]) / totals
            axes.barh(splits, share, left=left, color=PALETTE[place % len(PALETTE)], label=code, height=0.62)
            left += share
        for place, split in enumerate(splits):
            axes.text(1.015, place, f"{statistics.splits[split]:,}", va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set(title="Licences in each split", xlabel="share of photographs", xlim=(0, 1))
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        if codes:
            axes.legend(loc="upper left", bbox_to_anchor=(1.16, 1.05), fontsize=8, handlelength=1.0)
    return png()


def concentration(statistics: Statistics) -> bytes:
    """The Lorenz curve of photographers: which share of them took which share of the photographs."""
    with _figure(5.6, 3.4, right=0.3) as (axes, png):
        axes.set(title="Photographers", xlabel="share of photographers, least active first")
        axes.set(ylabel="share of photographs", xlim=(0, 1), ylim=(0, 1.005))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_PERCENT)
        taken = np.array(list(statistics.activity), dtype=float)
        people = np.array(list(statistics.activity.values()), dtype=float)
        if len(taken):
            photos = np.concatenate([[0], np.cumsum(taken * people)])
            shares = np.concatenate([[0], np.cumsum(people)]) / people.sum(), photos / photos[-1]
            axes.plot(*shares, color=MAIN, linewidth=1.6, label="photographs")
            axes.fill_between(*shares, color=MAIN, alpha=0.12, linewidth=0)
            axes.plot(
                (0, 1), (0, 1), color="#9a9a9a", linewidth=1, linestyle="--", label="if all took the same"
            )
            axes.legend(loc="upper left", fontsize=8)
            told = [f"photographers: {statistics.photographers:,}", f"Gini coefficient {statistics.gini:.2f}"]
            if statistics.photographers > TOP:
                told.append(f"the {TOP} most active took {statistics.top_share:.0%}")
            axes.text(0.03, 0.74, "\n".join(told), va="top", fontsize=8)
        else:
            _nothing(axes, "no photographs")
    return png()


def observation_map(statistics: Statistics) -> bytes:
    """Where the photographs were taken: cells of degrees coloured by photographs, without a map beneath."""
    with _figure(6.4, 3.6, right=0.2) as (axes, png):
        axes.set(title="Where the photographs were taken", xlabel="longitude", ylabel="latitude")
        if statistics.places:
            _draw_places(axes, statistics.places)
        else:
            _nothing(axes, "no photograph has a published place")
    return png()


def _draw_places(axes: Axes, places: Sequence[Place]) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are always made in a figure"
    longitudes = np.array([place.longitude for place in places], dtype=float)
    latitudes = np.array([place.latitude for place in places], dtype=float)
    west, east, south, north = _window(longitudes, latitudes)
    # A cell of the drawing is one degree, or a few where the window is wide, so that it can be seen.
    step = next((step for step in (1, 2, 3) if (east - west) / step <= 100), 4)
    columns = np.arange(np.floor(west / step) * step, east + step, step)
    rows = np.arange(np.floor(south / step) * step, north + step, step)
    photos = [place.photos for place in places]
    counts, _, _ = np.histogram2d(latitudes + 0.5, longitudes + 0.5, bins=(rows, columns), weights=photos)
    most = counts.max()
    drawn = axes.pcolormesh(
        columns, rows, np.ma.masked_equal(counts, 0), cmap=_GROUND_COLOURS, norm=LogNorm(1, max(most, 2))
    )
    axes.set(xlim=(west, east), ylim=(south, north))
    # Degrees of longitude are shorter away from the equator.
    axes.set_aspect(1 / max(0.3, float(np.cos(np.radians((south + north) / 2)))), adjustable="box")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}°".replace("-", "−")))
    if most > 1:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02, format=_thousands())
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.set_label(f"photographs per cell of {step}°", fontsize=8)
        bar.outline.set_visible(False)


def over_time(statistics: Statistics) -> bytes:
    """Photographs by year of observation, and by month over all years."""
    with _figure(6.4, 2.9, columns=2, widths=(1.8, 1)) as (by_year, png):
        by_month = by_year.figure.axes[1]
        if statistics.years:
            first, last = min(statistics.years), max(statistics.years)
            years = list(range(first, last + 1))
            by_year.bar(years, [statistics.years.get(year, 0) for year in years], color=MAIN, width=0.8)
            by_month.bar(range(1, 13), list(statistics.months.values()), color=PALETTE[1], width=0.8)
        else:
            _nothing(by_year, "no photograph has a date")
        by_year.set(title="Observations by year", xlabel="year", ylabel="photographs")
        by_month.set(title="and by month", xlabel="month")
        by_month.set_xticks(range(1, 13), _MONTHS)
        by_year.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        for axes in (by_year, by_month):
            axes.yaxis.set_major_formatter(_thousands())
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            axes.grid(axis="x", visible=False)
    return png()


def resolution(statistics: Statistics) -> bytes:
    """Photographs by their longest side in pixels."""
    with _figure(5.6, 3.0) as (axes, png):
        if statistics.sides:
            low, high = min(statistics.sides), max(statistics.sides) + SIDE_STEP
            # Bars of a width that leaves at most about fifty of them.
            step = SIDE_STEP * max(1, round((high - low) / SIDE_STEP / 50))
            edges = np.arange(low // step * step, high + step, step)
            weights = list(statistics.sides.values())
            axes.hist(list(statistics.sides), bins=list(edges), weights=weights, color=MAIN, rwidth=0.92)
            middle = statistics.side_quantiles["p50"]
            axes.axvline(middle, color=PALETTE[5], linewidth=1.2, label=f"median {middle:,} px")
            axes.legend(loc="best", fontsize=8)
            room = max(4 * step, (high - low) * 0.05)
            axes.set_xlim(max(0, low - room), high + room)
        else:
            _nothing(axes, "no photographs")
        axes.set(title="Resolution", xlabel="longest side in pixels", ylabel="photographs")
        axes.yaxis.set_major_formatter(_thousands())
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="x", visible=False)
    return png()


# Every figure of a dataset by the name of its file (without `.png`).
FIGURES: dict[str, Callable[[Statistics], bytes]] = {
    "rank_abundance": rank_abundance,
    "licences": licence_by_split,
    "map": observation_map,
    "time": over_time,
    "resolution": resolution,
    "photographers": concentration,
}


def figures(statistics: Statistics) -> dict[str, bytes]:
    """Every figure of a dataset: PNG bytes by name."""
    return {name: draw(statistics) for name, draw in FIGURES.items()}


@contextmanager
def _figure(
    width: float,
    height: float,
    columns: int = 1,
    widths: Sequence[float] = (1,),
    left: float = 0.72,
    right: float = 0.12,
) -> Iterator[tuple[Axes, Callable[[], bytes]]]:
    """New axes in the house style, and the function that renders them (call it after the block).

    `width` and `height` are inches, as are the margins `left` and `right`: fixed ones, because finding them
    out takes as long as drawing.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=130)
        FigureCanvasAgg(figure)
        found = figure.subplots(1, columns, width_ratios=widths, squeeze=False)
        margins = {"left": left / width, "right": 1 - right / width}
        figure.subplots_adjust(**margins, bottom=0.5 / height, top=1 - 0.34 / height, wspace=0.2)
        rendered = io.BytesIO()
        yield found[0][0], rendered.getvalue
        # Without these two the file would name the software and its version.
        figure.savefig(rendered, format="png", metadata={"Software": None, "Creation Time": None})


def _thousands() -> FuncFormatter:
    def told(value: float, _: int | None) -> str:
        if value >= 1_000_000:
            return f"{value / 1_000_000:g} M"
        return f"{value:,.0f}" if value >= 1 or value == 0 else ""

    return FuncFormatter(told)


def _window(longitudes: np.ndarray, latitudes: np.ndarray) -> tuple[float, float, float, float]:
    """The part of the globe to draw: the cells with a margin, and never a sliver."""
    west, east, south, north = longitudes.min(), longitudes.max(), latitudes.min(), latitudes.max()
    margin = max(2.0, 0.06 * max(east - west, north - south))
    wide, tall = max(12.0, east - west + 2 * margin), max(8.0, north - south + 2 * margin)
    tall = max(tall, wide * 0.4)
    middle, level = (west + east) / 2, (south + north) / 2
    return (
        max(-180.0, middle - wide / 2),
        min(180.0, middle + wide / 2),
        max(-90.0, level - tall / 2),
        min(90.0, level + tall / 2),
    )


def _nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color="#777777")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
