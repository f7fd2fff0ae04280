"""Open biodiversity data into machine-learning image datasets that can be trusted, cited, refreshed and
taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse.snapshots.read import Reader


def open(root: str | None = None) -> Reader:
    """A lake open for reading: `lakehouse.open("./lake").snapshot("pollinators@latest").manifest`."""
    from lakehouse.lake import open_lake
    from lakehouse.snapshots.read import Reader

    return Reader(open_lake(root, to_read=True))
