"""The manifest: one row per photograph, lazily read, each with licence, attribution and observation."""

from __future__ import annotations

import polars as pl
import pytest

import lakehouse
from lakehouse.demo import hazards
from lakehouse.errors import NotFoundError
from lakehouse.licences import LICENCES, attribution
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.schema import MANIFEST


def test_a_snapshot_is_opened_by_its_reference(second: Snapshot) -> None:
    snapshot = lakehouse.open(second.lake.root).snapshot("demo@v2")
    assert snapshot.root == second.root
    assert repr(snapshot) == f"<Snapshot demo@v2: {second.root.counts.photos} photos, 31 labels>"


def test_the_manifest_has_the_documented_columns(second: Snapshot) -> None:
    assert second.manifest.collect_schema() == MANIFEST
    assert second.manifest.collect().schema == MANIFEST


def test_the_manifest_has_a_row_for_every_photo(second: Snapshot, manifest: pl.DataFrame) -> None:
    counts = second.root.counts
    assert manifest.height == manifest["photo_id"].n_unique() == counts.photos
    assert manifest["label_id"].n_unique() == counts.labels
    assert manifest["observation_uuid"].n_unique() == counts.observations
    assert manifest["size"].sum() == counts.bytes


def test_rows_are_in_photo_order(manifest: pl.DataFrame) -> None:
    assert manifest["photo_id"].is_sorted()


def test_columns_can_be_chosen(second: Snapshot, manifest: pl.DataFrame) -> None:
    chosen = second.manifest.select("label", "photo_id").collect()
    assert chosen.equals(manifest.select("label", "photo_id"))


def test_rows_can_be_chosen_by_a_column_that_is_not_asked_for(
    second: Snapshot, manifest: pl.DataFrame
) -> None:
    rule = (pl.col("license") == "CC0") & (pl.col("width") > 300)
    chosen = second.manifest.filter(rule).select("photo_id").collect()
    assert chosen.equals(manifest.filter(rule).select("photo_id"))
    assert 0 < chosen.height < manifest.height


def test_rows_are_counted_without_a_column(second: Snapshot, manifest: pl.DataFrame) -> None:
    assert second.manifest.select(pl.len()).collect().item() == manifest.height


@pytest.mark.parametrize("rows", [0, 1, 5, 1000])
def test_the_first_rows_are_those_of_the_whole(second: Snapshot, manifest: pl.DataFrame, rows: int) -> None:
    assert second.manifest.head(rows).collect().equals(manifest.head(rows))


def test_the_first_rows_of_a_choice_are_not_a_choice_of_the_first_rows(
    second: Snapshot, manifest: pl.DataFrame
) -> None:
    rule = pl.col("split") == "test"
    assert second.manifest.filter(rule).head(3).collect().equals(manifest.filter(rule).head(3))
    assert second.manifest.head(20).filter(rule).collect().equals(manifest.head(20).filter(rule))


def test_every_row_has_licence_attribution_and_observation(manifest: pl.DataFrame) -> None:
    assert set(manifest["license"]) <= {"CC0", "CC-BY", "CC-BY-SA"}
    for row in manifest.iter_rows(named=True):
        assert row["license_url"] == LICENCES[row["license"]].url
        assert row["attribution"] == attribution(row["license"], row["creator"])
        assert row["observation_url"] == f"https://www.inaturalist.org/observations/{row['observation_uuid']}"
    assert manifest["creator"].str.strip_chars().str.len_chars().min() > 0  # type: ignore[operator]


def test_a_photo_without_a_known_observer_is_attributed_all_the_same(
    first: Snapshot,
) -> None:
    stranger = first.manifest.filter(pl.col("photo_id") == hazards(photos=300).missing_observer).collect()
    assert stranger["creator"].to_list() == ["unknown photographer"]


def test_the_photographer_is_credited_and_not_the_observer(second: Snapshot) -> None:
    photo_id = hazards(photos=300).other_photographer
    row = second.manifest.filter(pl.col("photo_id") == photo_id).collect().row(0, named=True)
    peers = second.manifest.filter(pl.col("creator") == row["creator"]).collect()
    assert row["creator"] in row["attribution"]
    assert peers["creator"].n_unique() == 1


def test_the_original_is_found_at_the_source(manifest: pl.DataFrame) -> None:
    parts = manifest["photo_url"].str.extract_groups(r"^embedded:/photos/(\d+)/medium\.(jpg|jpeg|JPG|png)$")
    assert parts.struct.field("1").cast(pl.Int64).equals(manifest["photo_id"], check_names=False)


def test_a_name_has_the_extension_of_what_the_image_is(manifest: pl.DataFrame) -> None:
    endings = {"jpeg": "jpg", "png": "png"}
    expected = [f"{row[0]}.{endings[row[1]]}" for row in manifest.select("photo_id", "format").iter_rows()]
    assert manifest["file_name"].to_list() == expected
    assert set(manifest["format"]) == {"jpeg", "png"}


def test_places_are_as_coarse_as_the_campaign_says(manifest: pl.DataFrame) -> None:
    for name in ("latitude", "longitude"):
        assert manifest[name].equals(manifest[name].round(1))


def test_a_label_is_the_species_whatever_was_identified_below_it(manifest: pl.DataFrame) -> None:
    assert set(manifest["taxon_rank"]) == {"species"}
    below = manifest.filter(pl.col("taxon_id") != pl.col("label_id"))
    assert below.height
    assert manifest["label"].str.contains("^[A-Z][a-z]+ [a-z-]+$").all()


def test_the_genus_is_the_first_word_of_the_label(manifest: pl.DataFrame) -> None:
    assert manifest["genus"].equals(manifest["label"].str.split(" ").list.first(), check_names=False)


# --- the description


def test_a_snapshot_carries_its_description(second: Snapshot) -> None:
    assert second.croissant["name"]
    assert {one["@id"] for one in second.croissant["recordSet"]} >= {"manifest", "samples", "splits"}


def test_a_snapshot_that_is_not_described_says_what_to_do(harmed: Snapshot) -> None:
    harmed.lake.delete("catalog/demo/v2/croissant.json")
    with pytest.raises(NotFoundError, match="demo@v2 is not described yet; run lakehouse build"):
        _ = harmed.croissant
