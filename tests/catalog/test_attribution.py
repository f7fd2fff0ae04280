"""The attribution table."""

from __future__ import annotations

import gzip
import tempfile
import unicodedata
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.catalog.attribution import ATTRIBUTION, changes_of, write_attribution, write_attribution_text
from lakehouse.errors import CatalogError
from lakehouse.licences import LICENCES


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
    stated = table.drop("changes", "license_title")
    assert stated.equals(manifest.select(stated.columns))
    assert table["changes"].unique().to_list() == ["none"]
    assert table["license_title"].to_list() == [LICENCES[code].title for code in manifest["license"]]


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


@pytest.mark.parametrize(
    "changed,problem",
    [
        ({"creator": pl.lit(None, pl.String)}, "60 photographs lack an address, a photographer"),
        ({"creator": pl.lit("  ")}, "60 photographs lack"),
        ({"observation_url": pl.lit("")}, "60 photographs lack"),
        ({"license_url": pl.lit("https://example.org")}, "under CC-BY name https://example.org as its text"),
        ({"license": pl.lit(None, pl.String)}, "unknown licences"),
    ],
)
def test_what_cannot_be_credited_is_not_written(
    export, tmp_path: Path, changed: dict[str, pl.Expr], problem: str
) -> None:
    path = tmp_path / "attribution.parquet"
    with pytest.raises(CatalogError, match=problem):
        write_attribution(export.manifest.with_columns(**changed), path, "none")
    assert not path.exists()


# --- as text


def lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def written_text(export, folder: Path, manifest: pl.LazyFrame, **changes: str) -> Path:
    write_attribution(manifest, folder / "attribution.parquet", changes.get("changes", "none"))
    path = folder / "ATTRIBUTION.txt.gz"
    write_attribution_text(folder / "attribution.parquet", path, export.version)
    return path


def test_the_text_credits_each_photograph_in_a_line(export, tmp_path: Path) -> None:
    said = lines(written_text(export, tmp_path, export.manifest, changes="resized"))
    assert said[0] == "Pollinators & friends, pollinators@v2: who made each photograph"
    rows = export.manifest.collect()
    credits = said[said.index("", 2) + 1 :]
    assert len(credits) == rows.height
    for line, row in zip(credits, rows.iter_rows(named=True), strict=True):
        licence = LICENCES[row["license"]]
        assert line == (
            f"{row['photo_url']} by {row['creator']}, {licence.title} ({licence.url}); "
            f"observation {row['observation_url']}; changes: resized."
        )


def test_the_same_table_gives_the_same_text_at_any_time(export, tmp_path: Path) -> None:
    first = written_text(export, tmp_path, export.manifest).read_bytes()
    write_attribution_text(tmp_path / "attribution.parquet", tmp_path / "other name.gz", export.version)
    assert (tmp_path / "other name.gz").read_bytes() == first
    # Source: RFC 1952: flags (no name) at 3, modification time at 4 to 7.
    assert (first[3], first[4:8]) == (0, bytes(4))


def test_more_rows_than_a_batch_are_all_written(
    export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.catalog.attribution.ROW_GROUP", 7)
    said = lines(written_text(export, tmp_path, export.manifest))
    assert sum(line.startswith("https://") for line in said) == export.statistics.photos


@given(name=st.text(min_size=1).filter(str.strip))
@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
def test_no_name_can_break_a_line_or_steer_a_terminal(export, name: str) -> None:
    manifest = export.manifest.head(3).with_columns(creator=pl.lit(name))
    with tempfile.TemporaryDirectory() as folder:
        try:
            said = lines(written_text(export, Path(folder), manifest))
        except CatalogError:
            return  # a name of blanks only, as Polars counts them
    credits = [line for line in said if line.startswith("https://")]
    assert len(credits) == 3 and len(said) == 3 + 5
    for line in said:
        assert not any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in line)
        assert not set(line) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
