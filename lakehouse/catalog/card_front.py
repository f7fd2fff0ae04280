"""The head of a dataset card: what the Hugging Face Hub reads of it, and how it finds the photographs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

import yaml

from lakehouse.catalog.croissant import keywords
from lakehouse.catalog.files import DatasetFile, of_role
from lakehouse.catalog.licensing import DatasetLicence
from lakehouse.catalog.responsible import is_synthetic
from lakehouse.catalog.statistics import Statistics
from lakehouse.snapshots.model import Root, Version

# What the Hub calls the sizes of datasets; source: its dataset card reference.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)


def size_category(photos: int) -> str:
    """The Hub's size category."""
    return next((name for bound, name in _SIZES if photos < bound), "n>1B")


class Layout(StrEnum):
    """How a dataset's photographs are laid out."""

    archives = "archives of one split each"
    folders = "a file each, in folders by split and label"
    lake = "archives of a lake, which may hold other photographs too"


def layout_of(files: Sequence[DatasetFile]) -> Layout:
    """The layout that the files of role `shard` say."""
    shards = of_role(files, "shard")
    if not all(shard.split for shard in shards):
        return Layout.lake
    return Layout.archives if all(shard.name.endswith(".tar") for shard in shards) else Layout.folders


def data_pattern(layout: Layout, split: str) -> str | None:
    """The glob pattern of a split's photographs; None where no pattern can tell them."""
    patterns = {Layout.archives: f"data/{split}-*.tar", Layout.folders: f"data/{split}/**"}
    return patterns.get(layout)


def front_matter(
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile],
    licence: DatasetLicence,
) -> str:
    """The YAML that the Hub reads, between its two rules."""
    layout = layout_of(files)
    words = [word for word in keywords(statistics) if word != "image classification"]
    kinds = ["webdataset", "croissant"] if layout is not Layout.folders else ["imagefolder"]
    tags = ["biology", *words, "image", *kinds, *(["synthetic"] if is_synthetic(root) else [])]
    paths = {split: data_pattern(layout, split) for split in statistics.splits}
    # The Hub's viewer cannot read tars and Parquet in one repository: only the photographs are configured.
    configured = [{"split": split, "path": path} for split, path in paths.items() if path]
    values = {
        "license": licence.huggingface,
        "language": ["en"],
        "pretty_name": " ".join(version.about.title.split()),
        "task_categories": ["image-classification"],
        "tags": list(dict.fromkeys(tag for word in tags if (tag := _tag(word)))),
        "size_categories": [size_category(statistics.photos)],
        "description": " ".join(version.about.description.split()),
        **({"configs": [{"config_name": "default", "data_files": configured}]} if configured else {}),
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1_000)}---"


def _tag(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
