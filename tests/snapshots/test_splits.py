"""Splits: an observation's photographs are together, and stay where they are."""

from __future__ import annotations

from typing import Any

import polars as pl

from lakehouse.metadata.splits import split_of
from lakehouse.snapshots.read import Snapshot


def test_no_observation_is_in_two_splits(manifest: pl.DataFrame) -> None:
    by_observation = manifest.group_by("observation_uuid").agg(pl.col("split").n_unique(), photos=pl.len())
    assert by_observation["split"].max() == 1
    assert by_observation["photos"].max() > 1  # type: ignore[operator]


def test_no_photo_is_there_twice(manifest: pl.DataFrame) -> None:
    assert manifest["photo_id"].is_unique().all()


def test_the_split_is_that_of_the_observation_and_the_salt_in_the_root(
    demo: Any, second: Snapshot, manifest: pl.DataFrame
) -> None:
    expected = [
        split_of(uuid, demo.campaign.splits, second.root.split_salt) for uuid in manifest["observation_uuid"]
    ]
    assert manifest["split"].to_list() == expected


def test_no_photo_moves_to_another_split(first: Snapshot, second: Snapshot) -> None:
    both = first.manifest.join(second.manifest, on="photo_id", suffix="_later").collect()
    assert both.height > 100
    assert both["split"].equals(both["split_later"], check_names=False)


def test_the_splits_are_about_as_large_as_asked_for(second: Snapshot) -> None:
    counts = second.root.counts
    assert set(counts.splits) == {"train", "val", "test"}
    assert 0.7 < counts.splits["train"] / counts.photos < 0.9
