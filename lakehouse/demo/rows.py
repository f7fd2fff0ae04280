"""One observation and one photograph of the embedded source: their rows, invented from seeds.

A row depends on its taxon and its number only, so that a larger bucket holds the rows of a smaller one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar

import numpy as np

from lakehouse.demo import taxa as facts
from lakehouse.demo.people import OBSERVERS

_Option = TypeVar("_Option")

_LICENCES = {
    "CC-BY": 0.37,
    "CC0": 0.19,
    "CC-BY-NC": 0.25,
    "CC-BY-SA": 0.04,
    "CC-BY-ND": 0.02,
    "CC-BY-NC-SA": 0.06,
    "CC-BY-NC-ND": 0.05,
    "PD": 0.02,
}
_GRADES = {"research": 0.83, "needs_id": 0.12, "casual": 0.05}
_EXTENSIONS = {"jpg": 0.74, "jpeg": 0.15, "JPG": 0.09, "png": 0.02}
_PER_OBSERVATION = {1: 0.62, 2: 0.2, 3: 0.11, 4: 0.07}
_LONGEST = (320, 320, 320, 340, 360, 384, 400, 500)
_RATIOS = ((4, 3), (4, 3), (3, 2), (3, 4), (2, 3), (1, 1), (16, 9))
_REGIONS = {  # centre and spread of latitude, then of longitude, and the box that bounds them
    "north america": (39.0, 4.5, -94.0, 13.0, (-124.0, 26.0, -68.0, 48.5)),
    "europe": (50.2, 3.4, 9.5, 6.5, (-8.0, 38.0, 27.0, 60.0)),
    "south america": (3.2, 1.8, -55.0, 3.0, (-62.0, -3.0, -50.0, 6.0)),
    "australia": (-41.9, 0.5, 146.6, 0.8, (144.8, -43.4, 148.2, -40.8)),
}


@dataclass(frozen=True, slots=True)
class Observation:
    """One row of `observations.csv`, every field but the ids as it is written there."""

    observation_uuid: str
    observer_id: int
    latitude: str
    longitude: str
    positional_accuracy: str
    taxon_id: str
    quality_grade: str
    observed_on: str
    anomaly_score: str


@dataclass(frozen=True, slots=True)
class Photo:
    """One row of `photos.csv`, and below it what the drawing needs to know."""

    photo_uuid: str
    photo_id: int
    observation_uuid: str
    observer_id: int
    extension: str
    license: str
    width: str
    height: str
    position: int

    drawn: int  # the taxon in the picture, whatever the row says
    seed: int
    size: tuple[int, int]  # of the medium file
    disguised: bool = False  # JPEG bytes behind a .png name


def number_for(*key: object) -> int:
    """A 63-bit number that depends on nothing but the key."""
    digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uuid_for(*key: object) -> str:
    """A version-4-shaped UUID that depends on nothing but the key."""
    text = hashlib.sha256("|".join(map(str, ("uuid", *key))).encode()).hexdigest()
    return (
        f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) % 4]}{text[17:20]}-{text[20:32]}"
    )


def random_for(*key: object) -> np.random.Generator:
    """A generator of random numbers that depends on nothing but the key."""
    return np.random.Generator(np.random.PCG64(number_for(*key)))


def _pick(rng: np.random.Generator, options: Mapping[_Option, float]) -> _Option:
    """One of the options by weight; several times faster than `Generator.choice` for a few."""
    at = rng.random() * sum(options.values())
    for option, weight in options.items():
        at -= weight
        if at < 0:
            return option
    return list(options)[-1]


def photo_counts(photos: int) -> dict[int, int]:
    """Share `photos` out among the taxa by weight (largest remainder), one or more to each with a weight."""
    shares = {share.taxon_id: share.weight for share in facts.SHARES if share.weight}
    total = sum(shares.values())
    exact = {taxon_id: photos * weight / total for taxon_id, weight in shares.items()}
    counts = {taxon_id: max(1, int(value)) for taxon_id, value in exact.items()}
    by_remainder = sorted(exact, key=lambda taxon_id: (int(exact[taxon_id]) - exact[taxon_id], taxon_id))
    for taxon_id in by_remainder[: max(0, photos - sum(counts.values()))]:
        counts[taxon_id] += 1
    popular = max(counts, key=lambda taxon_id: counts[taxon_id])
    counts[popular] -= sum(counts.values()) - photos  # what the minimum of one took too much
    return counts


def _observation(taxon_id: int, index: int, region: str) -> tuple[Observation, str]:
    """One observation of a taxon, and the licence its photos carry."""
    rng = random_for("observation", taxon_id, index)
    latitude, latitude_spread, longitude, longitude_spread, box = _REGIONS[region]
    lat = float(np.clip(rng.normal(latitude, latitude_spread), box[1], box[3]))
    lon = float(np.clip(rng.normal(longitude, longitude_spread), box[0], box[2]))
    located = rng.random() > 0.03
    obscured = rng.random() < 0.08
    accuracy = int(rng.integers(24_000, 29_000)) if obscured else int(3 + rng.exponential(60))
    day = date(2015, 3, 1) + timedelta(days=int(rng.integers(0, 3900)))
    species = facts.taxa()[taxon_id].rank_level in ("10", "5")
    grade = _pick(rng, _GRADES) if species else "needs_id"
    # A few people take most of the pictures, as everywhere.
    observer = OBSERVERS[int(len(OBSERVERS) * rng.random() ** 1.8)]
    row = Observation(
        observation_uuid=uuid_for("observation", taxon_id, index),
        observer_id=observer.observer_id,
        latitude=f"{lat:.10f}" if located else "",
        longitude=f"{lon:.10f}" if located else "",
        positional_accuracy=str(accuracy) if located and rng.random() > 0.1 else "",
        taxon_id=str(taxon_id),
        quality_grade=grade if located else "casual",
        observed_on=day.isoformat() if rng.random() > 0.02 else "",
        anomaly_score=f"{rng.exponential(1.4):.6f}" if rng.random() > 0.15 else "",
    )
    return row, _pick(rng, _LICENCES)


def _photo(observation: Observation, taxon_id: int, index: int, position: int, licence: str) -> Photo:
    rng = random_for("photo", taxon_id, index)
    across, down = _RATIOS[int(rng.integers(len(_RATIOS)))]
    longest = _LONGEST[int(rng.integers(len(_LONGEST)))]
    original = (1024, 1536, 2048, 2048)[int(rng.integers(4))]
    extension = _pick(rng, _EXTENSIONS)
    if extension == "png":
        longest = 320  # a lossless photograph is large: keep the bucket small
    size = tuple(max(1, round(longest * side / max(across, down))) for side in (across, down))
    known = rng.random() > 0.02
    return Photo(
        photo_uuid=uuid_for("photo", taxon_id, index),
        photo_id=100_000_000 + number_for("photo id", taxon_id, index) % 400_000_000,
        observation_uuid=observation.observation_uuid,
        observer_id=observation.observer_id,
        extension=extension,
        license=licence,
        width=str(round(original * across / max(across, down))) if known else "",
        height=str(round(original * down / max(across, down))) if known else "",
        position=position,
        drawn=taxon_id,
        seed=number_for("picture", taxon_id, index),
        size=(size[0], size[1]),
    )


def observe(
    taxon_id: int, region: str, photos: int, first: int = 0
) -> Iterator[tuple[Observation, list[Photo]]]:
    """Observations of one taxon, each with its photos, until `photos` are made; `first` numbers them."""
    made, index = 0, first
    while made < photos:
        observation, licence = _observation(taxon_id, index, region)
        wanted = _pick(random_for("photos", taxon_id, index), _PER_OBSERVATION)
        wanted = min(wanted, photos - made)
        yield (
            observation,
            [_photo(observation, taxon_id, first + made + k, k, licence) for k in range(wanted)],
        )
        made, index = made + wanted, index + 1
