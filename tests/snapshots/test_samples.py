"""Samples: the photographs themselves, by place, in an order that a seed decides."""

from __future__ import annotations

import hashlib
import pickle

import polars as pl
import pytest

from lakehouse.errors import UsageError
from lakehouse.snapshots.read import Samples, Snapshot


@pytest.fixture(scope="session")
def samples(second: Snapshot) -> Samples:
    return second.samples()


def ids(samples: Samples) -> list[int]:
    return [sample.photo_id for sample in samples]


def test_every_photograph_has_the_bytes_of_its_digest(samples: Samples, manifest: pl.DataFrame) -> None:
    digests = [hashlib.sha256(sample.image).hexdigest() for sample in samples]
    assert digests == manifest["sha256"].to_list()


def test_a_sample_says_what_the_manifest_says(samples: Samples, manifest: pl.DataFrame) -> None:
    sample, row = samples[3], manifest.row(3, named=True)
    for name in ("photo_id", "label", "split", "license", "attribution"):
        assert getattr(sample, name) == row[name]


def test_samples_are_in_photo_order(samples: Samples, manifest: pl.DataFrame) -> None:
    assert ids(samples) == manifest["photo_id"].to_list()


def test_a_target_is_the_place_of_its_label(second: Snapshot, samples: Samples) -> None:
    assert second.labels == sorted(second.labels)
    assert len(second.labels) == second.root.counts.labels
    assert all(second.labels[sample.target] == sample.label for sample in samples)


def test_a_target_is_the_same_in_every_split(second: Snapshot, samples: Samples) -> None:
    targets = {sample.label: sample.target for sample in samples}
    assert all(targets[sample.label] == sample.target for sample in second.samples(split="test"))


def test_iterating_ends_with_the_last_photograph(second: Snapshot) -> None:
    val = second.samples(split="val")
    assert len(list(val)) == len(val) == second.root.counts.splits["val"]


@pytest.mark.parametrize("place", [136, -137])
def test_there_is_nothing_beyond_the_ends(samples: Samples, place: int) -> None:
    assert len(samples) == 136
    with pytest.raises(IndexError):
        samples[place]


def test_places_count_from_the_end_too(samples: Samples) -> None:
    assert samples[-1] == samples[len(samples) - 1]


def test_a_slice_is_a_list_of_samples(samples: Samples, manifest: pl.DataFrame) -> None:
    cut = samples[5:20:5]
    assert isinstance(cut, list)
    assert [sample.photo_id for sample in cut] == manifest["photo_id"][5:20:5].to_list()


def test_a_slice_beyond_the_end_is_short(samples: Samples) -> None:
    assert len(samples[130:1000]) == 6
    assert samples[1000:] == []


def test_shuffling_changes_the_order_and_nothing_else(second: Snapshot, samples: Samples) -> None:
    shuffled = ids(second.samples(shuffle=True))
    assert shuffled != ids(samples)
    assert sorted(shuffled) == ids(samples)


def test_a_seed_decides_the_order(second: Snapshot) -> None:
    one, again, other = (ids(second.samples("val", shuffle=True, seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_split_has_its_photographs_only(second: Snapshot) -> None:
    parts = {split: ids(second.samples(split=split)) for split in second.root.counts.splits}
    assert {split: len(part) for split, part in parts.items()} == second.root.counts.splits
    assert {sample.split for sample in second.samples(split="test")} == {"test"}


def test_an_unknown_split_is_told_with_those_there_are(second: Snapshot) -> None:
    with pytest.raises(UsageError, match="demo@v2 has no split 'validation'; it has test, train, val"):
        second.samples(split="validation")


# --- PyTorch


def test_a_torch_dataset_gives_images_and_targets(second: Snapshot) -> None:
    dataset = second.to_torch(transform=len)
    sample = second.samples()[3]
    assert dataset[3] == (len(sample.image), sample.target)


def test_a_torch_dataset_can_be_sent_to_a_loaders_workers(second: Snapshot) -> None:
    dataset = second.to_torch("train")
    there = pickle.loads(pickle.dumps(dataset))
    assert there[0] == dataset[0]
