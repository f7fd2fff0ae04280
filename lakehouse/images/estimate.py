"""How much a campaign will weigh and how long it will take, before a byte is fetched."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.campaign import ImageSpec
from lakehouse.images.ledger import Ledger
from lakehouse.lake import Lake

# Rules of thumb for a source the lake holds nothing of: medium is the mean of a 10,000-photo corpus with a
# 500 px long side, the others scale with the area of their box (2048, 1024, 500, 240, 100, 75 px).
TYPICAL_BYTES = {
    "original": 1_200_000,
    "large": 300_000,
    "medium": 75_000,
    "small": 20_000,
    "thumb": 5_000,
    "square": 4_000,
}
_BYTES_PER_SECOND = 100e6 / 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, seconds at 100 Mbit/s, and in a few words where the mean size comes from."""

    bytes: int
    seconds: float
    basis: str


def estimate(lake: Lake, source_name: str, image: ImageSpec, photos: int) -> Estimate:
    """The size and time of `photos` photographs: by the mean of those in the lake, else by a rule of
    thumb."""
    stored, total = Ledger(lake).stored_bytes(source_name, image.slug)
    mean = total / stored if stored else TYPICAL_BYTES[image.size]
    basis = f"mean of {stored:,} photos in the lake" if stored else f"a rule of thumb for {image.size}"
    return Estimate(round(photos * mean), photos * mean / _BYTES_PER_SECOND, basis)
