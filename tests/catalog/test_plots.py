"""Figures and thumbnails."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lakehouse.catalog import plots
from lakehouse.catalog.sheet import pictures, shown
from lakehouse.catalog.statistics import LabelCount, Place, summarize
from lakehouse.catalog.thumbnails import MAX_BYTES, contact_sheet, thumbnail_strip
from lakehouse.errors import CatalogError
from lakehouse.licences import LICENCES
from lakehouse.snapshots.schema import MANIFEST


def noise(seed: int, side: int = 400) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((side, side), 90 + seed).convert("RGB").save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.fixture(scope="module")
def drawn(export) -> dict[str, bytes]:
    return plots.figures(export.statistics)


def test_every_figure_is_a_readable_small_png(drawn: dict[str, bytes]) -> None:
    assert set(drawn) == set(plots.FIGURES)
    assert len(drawn) == 6
    for data in drawn.values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "PNG"
            assert image.width < 1000
        assert len(data) < 100_000


def test_the_same_numbers_give_the_same_bytes(export, drawn: dict[str, bytes]) -> None:
    assert plots.figures(export.statistics) == drawn


def test_a_figure_names_no_software(drawn: dict[str, bytes]) -> None:
    for data in drawn.values():
        with Image.open(io.BytesIO(data)) as image:
            assert not {"Software", "Creation Time", "date"} & set(image.info)


def test_a_long_tail_and_the_whole_globe_can_be_drawn(export) -> None:
    label = export.statistics.labels[0]
    tail = tuple(
        LabelCount(**{**label.model_dump(), "label_id": place, "photos": 1 + 1000 // place})
        for place in range(1, 200)
    )
    globe = tuple(
        Place(longitude=lon, latitude=lat, photos=1) for lon, lat in ((-180, -90), (179, 89), (0, 0))
    )
    statistics = export.statistics.model_copy(update={"labels": tail, "places": globe})
    assert plots.rank_abundance(statistics) != plots.rank_abundance(export.statistics)
    assert plots.observation_map(statistics)


def test_an_empty_dataset_can_be_drawn() -> None:
    assert len(plots.figures(summarize(pl.LazyFrame(schema=MANIFEST)))) == 6


def test_nothing_is_drawn_beyond_the_edge(export, drawn: dict[str, bytes]) -> None:
    """Margins are fixed, so long names and large numbers must fit into them."""
    labels = tuple(
        LabelCount(
            **{
                **export.statistics.labels[0].model_dump(),
                "label": "Pseudomacromia moshimanganensis " * 2,
                "photos": 10**8 + place,
            }
        )
        for place in range(20)
    )
    wide = export.statistics.model_copy(
        update={
            "labels": labels,
            "license_splits": {code: {"train": 10**8} for code in LICENCES},
            "splits": {"train": 8 * 10**8, "a_split_with_a_name": 1},
            "years": {1900: 1, 2026: 10**8},
            "sides": {2048: 10**8},
        }
    )
    for name, data in {**drawn, **{f"wide {name}": png for name, png in plots.figures(wide).items()}}.items():
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L"))
        edge = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert all((line > 250).all() for line in edge), name


def test_the_lorenz_curve_follows_who_took_what(export) -> None:
    """All photographs by one person is another picture than all by as many people."""
    one = export.statistics.model_copy(update={"activity": {60: 1, 1: 12}, "photographers": 13})
    same = export.statistics.model_copy(update={"activity": {5: 13}, "photographers": 13})
    assert len({plots.concentration(each) for each in (one, same, export.statistics)}) == 3


def test_the_photographs_shown_are_of_many_labels_and_may_be_cut(export) -> None:
    chosen = shown(export.manifest, export.statistics, 12)
    assert chosen == shown(export.manifest.reverse(), export.statistics, 12)
    assert len({one.photo_id for one in chosen}) == len(chosen) == 12
    assert {one.label for one in chosen} == {label.label for label in export.statistics.labels}
    manifest = export.manifest.with_columns(license=pl.lit("CC-BY-ND"))
    assert shown(manifest, export.statistics) == []
    assert set(pictures(export.statistics, [], [])) == {f"figures/{name}.png" for name in plots.FIGURES}


def test_few_photographs_and_one_label_can_be_shown(make_export, tmp_path) -> None:
    small = make_export(tmp_path, photos=2)
    manifest = small.manifest.with_columns(label_id=pl.lit(1, pl.Int32))
    statistics = summarize(manifest)
    assert len(shown(manifest, statistics)) == 2
    assert shown(manifest.filter(False), summarize(manifest.filter(False))) == []


def test_a_strip_holds_twelve_at_most_and_stays_small() -> None:
    data = thumbnail_strip([noise(seed) for seed in range(14)])
    with Image.open(io.BytesIO(data)) as strip:
        assert strip.size == (12 * 96 + 11 * 4, 96)
    assert len(data) <= MAX_BYTES


def test_a_strip_that_would_be_large_is_made_smaller() -> None:
    assert len(thumbnail_strip([noise(seed, 900) for seed in range(12)], side=400)) <= MAX_BYTES


def test_a_contact_sheet_has_a_row_for_every_six_with_captions() -> None:
    data = contact_sheet([noise(seed) for seed in range(7)], ["Bombus terrestris audax " * 4] * 7)
    with Image.open(io.BytesIO(data)) as sheet:
        assert sheet.size == (6 * 132 - 4, 2 * (128 + 16 + 4) - 4)


@pytest.mark.parametrize("images,reason", [([], "no photograph"), ([b"not an image"], "cannot be decoded")])
def test_thumbnails_of_nothing_say_so(images: list[bytes], reason: str) -> None:
    with pytest.raises(CatalogError, match=reason):
        thumbnail_strip(images)
