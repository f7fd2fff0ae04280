"""The types of an export's samples, pinned in its card: without them the Hub's loader guesses from the first
five samples, drops keys that come later and truncates numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import polars as pl
import yaml

from lakehouse.errors import CatalogError
from lakehouse.snapshots.export import SIDECAR
from lakehouse.snapshots.schema import MANIFEST


def features(suffix: str) -> list[dict[str, Any]]:
    """The columns of a WebDataset export in the form of `dataset_info`; images have the ending `suffix`."""
    sidecar = [
        {"name": name, "dtype": "int64" if MANIFEST[name] in (pl.Int64, pl.Int32) else "string"}
        for name in sorted(SIDECAR)
    ]
    return [
        {"name": suffix, "dtype": "image"},
        {"name": "json", "struct": sidecar},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def front_of(card: str) -> tuple[dict[str, Any], str]:
    """A dataset card's front matter, and what comes after it."""
    found = re.match(r"---\n(.*?\n)---\n(.*)", card, re.DOTALL)
    if found is None:
        raise CatalogError("the dataset card has no front matter")
    return dict(yaml.safe_load(found[1])), found[2]


def pinned(card: str, splits: Mapping[str, int], suffix: str) -> str:
    """A dataset card whose front matter says the types of the samples and how many each split has."""
    values, body = front_of(card)
    values["dataset_info"] = {
        "config_name": "default",
        "features": features(suffix),
        "splits": [{"name": name, "num_examples": count} for name, count in splits.items()],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1_000)}---\n{body}"
