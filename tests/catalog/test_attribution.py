"""The attribution table."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from lakehouse.catalog.attribution import ATTRIBUTION, changes_of, write_attribution
from lakehouse.errors import CatalogError


@pytest.mark.parametrize(
    "rendition,words",
    [
        ("original", "none"),
        ("medium", "none; the source's own medium copy (at most 500 px), bytes unchanged"),
        (
            "medium-384-jpeg-q90",
            "resized to at most 384 px and re-encoded as JPEG of quality 90 from the medium copy",
        ),
        ("large-webp-q80", "re-encoded as WEBP of quality 80 from the large copy"),
    ],
)
def test_changes_are_said_in_words(rendition: str, words: str) -> None:
    assert changes_of(rendition) == words


def test_every_photograph_is_attributed_in_the_schema(export, tmp_path: Path) -> None:
    path = tmp_path / "attribution.parquet"
    assert write_attribution(export.manifest, path, "none") == export.statistics.photos
    table = pl.read_parquet(path)
    assert table.schema == ATTRIBUTION
    manifest = export.manifest.collect()
    assert table.drop("changes").equals(manifest.select(table.drop("changes").columns))
    assert table["changes"].unique().to_list() == ["none"]


def test_the_same_manifest_gives_the_same_bytes(export, tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in paths:
        write_attribution(export.manifest, path, "none")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_nothing_is_written_for_an_unknown_licence(export, tmp_path: Path) -> None:
    path = tmp_path / "attribution.parquet"
    with pytest.raises(CatalogError, match="unknown licences"):
        write_attribution(export.manifest.with_columns(license=pl.lit("mine")), path, "none")
    assert not path.exists()
