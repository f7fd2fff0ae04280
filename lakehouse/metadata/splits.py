"""Which split an observation is in, and which photos of a label come first: one rule, Python and SQL.

Both follow from a salted hash alone, so that a sample never moves between splits from one version to the
next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from lakehouse.metadata.engine import quoted

SPLIT_SALT = "lakehouse-1"


def split_of(observation_uuid: str, splits: Mapping[str, float], salt: str = SPLIT_SALT) -> str:
    """The split of an observation: 32 bits of a salted sha256 against the cumulative shares in order."""
    number = int(hashlib.sha256(f"{salt}:{observation_uuid}".encode()).hexdigest()[:8], 16)
    for name, bound in _bounds(splits):
        if number < bound:
            return name
    return list(splits)[-1]


def split_sql(observation_uuid: str, splits: Mapping[str, float], salt: str = SPLIT_SALT) -> str:
    """`split_of` as a SQL expression over the expression `observation_uuid` (a UUID)."""
    number = f"('0x' || substr(sha256({quoted(salt + ':')} || {observation_uuid}::VARCHAR), 1, 8))::UBIGINT"
    cases = "".join(f" WHEN {number} < {bound} THEN {quoted(name)}" for name, bound in _bounds(splits))
    last = quoted(list(splits)[-1])
    return f"CASE{cases} ELSE {last} END" if cases else last


def order_sql(photo_id: str) -> str:
    """SQL expression by which the photos of a label are ordered before the first so many are taken."""
    # As a number: sorting the text takes many times as long.
    return f"('0x' || substr(sha256('lakehouse:' || {photo_id}::VARCHAR), 1, 16))::UBIGINT"


def _bounds(splits: Mapping[str, float]) -> list[tuple[str, int]]:
    """The upper bound (of 2**32) of each split but the last, which takes the rest however shares round."""
    bounds, total = [], 0.0
    for name, share in list(splits.items())[:-1]:
        total += share
        bounds.append((name, math.ceil(total * 2**32)))
    return bounds
