"""What a manifest holds, counted."""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse.catalog.statistics import gini, human_bytes, quantile, summarize, top_share
from lakehouse.snapshots.schema import MANIFEST


def test_counts_agree_with_the_manifest(export) -> None:
    found, rows = export.statistics, export.manifest.collect()
    assert (found.photos, found.bytes) == (rows.height, rows["size"].sum())
    assert found.observations == rows["observation_uuid"].n_unique()
    assert found.photographers == rows["creator"].n_unique()
    assert found.splits == dict(rows["split"].value_counts().iter_rows())
    assert found.licenses == dict(rows["license"].value_counts().iter_rows())
    assert {label.label: label.photos for label in found.labels} == dict(
        rows["label"].value_counts().iter_rows()
    )
    assert found.kingdoms == dict(rows["kingdom"].value_counts().iter_rows())
    assert found.classes == dict(rows["class"].value_counts().iter_rows())


def test_each_licence_is_counted_in_each_split(export) -> None:
    rows = export.manifest.collect()
    for code, splits in export.statistics.license_splits.items():
        for split, count in splits.items():
            assert count == rows.filter((pl.col("license") == code) & (pl.col("split") == split)).height


def test_labels_come_most_photographed_first(export) -> None:
    counts = [label.photos for label in export.statistics.labels]
    assert counts == sorted(counts, reverse=True)


def test_splits_come_in_the_order_people_expect(export) -> None:
    assert list(export.statistics.splits) == ["train", "val", "test"]


def test_gaps_in_dates_and_places_are_counted(export) -> None:
    found, rows = export.statistics, export.manifest.collect()
    assert found.undated == rows["observed_on"].null_count() > 0
    assert found.located == rows["latitude"].count() < found.photos
    assert (found.observed_from, found.observed_to) == (rows["observed_on"].min(), rows["observed_on"].max())
    assert sum(found.years.values()) == sum(found.months.values()) == found.photos - found.undated
    assert found.box is not None
    assert (found.box.west, found.box.north) == (rows["longitude"].min(), rows["latitude"].max())


def test_an_empty_manifest_has_statistics_too() -> None:
    found = summarize(pl.LazyFrame(schema=MANIFEST))
    assert (found.photos, found.observations, found.bytes, found.labels, found.box) == (0, 0, 0, (), None)
    assert (found.gini, found.top_share, found.months, found.side_quantiles) == (0, 0, {}, {})


def test_statistics_survive_json(export) -> None:
    assert (
        type(export.statistics).model_validate_json(export.statistics.model_dump_json()) == export.statistics
    )


@pytest.mark.parametrize(
    "activity,expected",
    [({5: 4}, 0.0), ({1: 3, 7: 1}, 0.45), ({}, 0.0), ({1: 99, 1_000_000: 1}, 0.99)],
)
def test_gini_of_known_distributions(activity: dict[int, int], expected: float) -> None:
    assert gini(activity) == pytest.approx(expected, abs=1e-3)


def test_top_share_takes_the_most_active_only() -> None:
    assert top_share({10: 2, 1: 30}, top=10) == pytest.approx((20 + 8) / 50)


def test_quantiles_are_values_that_occur() -> None:
    counts = {100: 1, 500: 98, 2048: 1}
    assert [quantile(counts, share) for share in (0.0, 0.05, 0.5, 1.0)] == [100, 500, 500, 2048]


def test_bytes_are_told_in_units() -> None:
    assert [human_bytes(size) for size in (0, 999, 1_500, 2_400_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.4 GB",
    ]
