"""Every hazard of the real files is in the embedded source, where `hazards` says."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from lakehouse.demo import Hazards, hazards
from lakehouse.demo import taxa as facts
from lakehouse.demo.tables import FAULTS, HUGE_ANOMALY, UNKNOWN_LICENCE, release
from lakehouse.licences import LICENCES

from .conftest import PHOTOS, quoted, table, text

KNOWN: Hazards = hazards(PHOTOS)


def photo_rows(directory: Path, photo_id: int) -> list[dict[str, str]]:
    return [row for row in table(directory, "photos") if row["photo_id"] == str(photo_id)]


def observation_of(directory: Path, photo_id: int) -> list[dict[str, str]]:
    wanted = {row["observation_uuid"] for row in photo_rows(directory, photo_id)}
    return [row for row in table(directory, "observations") if row["observation_uuid"] in wanted]


def photo_file(directory: Path, photo_id: int) -> Path:
    (path,) = (directory / "photos" / str(photo_id)).iterdir()
    return path


def test_the_number_of_photos_is_as_asked(month_one: Path) -> None:
    assert len({photo.photo_id for photo in release(1, PHOTOS).photos}) == PHOTOS


def test_all_licences_and_one_unknown_occur_with_the_open_ones_in_the_majority() -> None:
    counts = Counter(photo.license for photo in release(1, 1500).photos)
    assert set(counts) == {*LICENCES, UNKNOWN_LICENCE}
    assert counts[UNKNOWN_LICENCE] == 1
    assert 0.5 < (counts["CC-BY"] + counts["CC0"]) / counts.total() < 0.62


def test_photos_per_taxon_have_a_long_tail() -> None:
    counts = Counter(photo.drawn for photo in release(1, 1500).photos)
    assert counts.most_common(1)[0][1] > 130
    assert sum(count <= 5 for count in counts.values()) >= 4


def test_most_observations_are_research_grade() -> None:
    grades = Counter(row.quality_grade for row in release(1, 1500).observations)
    assert set(grades) == {"research", "needs_id", "casual"}
    assert grades["research"] > 0.7 * grades.total()


def test_all_spellings_of_extensions_occur(month_one: Path) -> None:
    assert {row["extension"] for row in table(month_one, "photos")} == {"jpg", "JPG", "jpeg", "png"}


@pytest.mark.parametrize(
    "column", ["latitude", "longitude", "positional_accuracy", "taxon_id", "observed_on", "anomaly_score"]
)
def test_an_observation_may_leave_a_field_empty(month_one: Path, column: str) -> None:
    empty = [row for row in table(month_one, "observations") if not row[column]]
    assert 0 < len(empty) < PHOTOS / 3


def test_a_photo_may_have_no_size(month_one: Path) -> None:
    assert any(not row["width"] and not row["height"] for row in table(month_one, "photos"))


def test_coordinates_have_ten_decimals(month_one: Path) -> None:
    written = [row["latitude"] for row in table(month_one, "observations") if row["latitude"]]
    assert {len(value.partition(".")[2]) for value in written} == {10}


def test_an_anomaly_score_is_beyond_a_decimal_column(month_one: Path) -> None:
    scores = {row["observation_uuid"]: row["anomaly_score"] for row in table(month_one, "observations")}
    assert scores[KNOWN.huge_anomaly] == HUGE_ANOMALY


def test_two_photos_are_the_same_bytes_and_all_others_differ(month_one: Path) -> None:
    contents = Counter(path.read_bytes() for path in month_one.glob("photos/*/*"))
    first, second = (photo_file(month_one, photo_id).read_bytes() for photo_id in KNOWN.duplicates)
    assert first == second
    assert [count for count in contents.values() if count > 1] == [2]


def test_a_photo_in_two_observations_that_agree(month_one: Path) -> None:
    rows = observation_of(month_one, KNOWN.shared_same_taxon)
    assert len(rows) == 2
    assert len({row["taxon_id"] for row in rows}) == 1


def test_a_photo_in_two_observations_that_disagree(month_one: Path) -> None:
    rows = observation_of(month_one, KNOWN.shared_other_taxon)
    assert len({row["taxon_id"] for row in rows}) == 2


def test_a_photo_without_its_observation(month_one: Path) -> None:
    assert photo_rows(month_one, KNOWN.orphan)
    assert not observation_of(month_one, KNOWN.orphan)


def test_an_observer_without_a_row(month_one: Path) -> None:
    (photo,) = photo_rows(month_one, KNOWN.missing_observer)
    assert photo["observer_id"] not in {row["observer_id"] for row in table(month_one, "observers")}


def test_a_photographer_who_is_not_the_observer(month_one: Path) -> None:
    (photo,), (observation,) = (
        photo_rows(month_one, KNOWN.other_photographer),
        observation_of(month_one, KNOWN.other_photographer),
    )
    assert photo["observer_id"] != observation["observer_id"]


def test_a_taxon_without_a_row(month_one: Path) -> None:
    assert str(facts.MISSING) not in {row["taxon_id"] for row in table(month_one, "taxa")}
    for photo_id in KNOWN.missing_taxon:
        assert {row["taxon_id"] for row in observation_of(month_one, photo_id)} == {str(facts.MISSING)}


def test_an_observation_without_a_taxon(month_one: Path) -> None:
    for photo_id in KNOWN.no_taxon:
        assert {row["taxon_id"] for row in observation_of(month_one, photo_id)} == {""}


def test_positions_may_start_after_zero_and_have_gaps(month_one: Path) -> None:
    positions = sorted(
        int(row["position"]) for photo_id in KNOWN.position_gap for row in photo_rows(month_one, photo_id)
    )
    assert positions[:2] == [1, 3]


def test_the_last_photo_row_is_cut_short(month_one: Path) -> None:
    body = text(month_one, "photos")
    last = body.rpartition("\n")[2]
    assert last.split("\t")[1] == str(KNOWN.cut_row)
    assert len(last.split("\t")) == 3
    assert not photo_rows(month_one, KNOWN.cut_row)


def test_one_photo_row_in_the_middle_has_a_field_too_many(month_one: Path) -> None:
    lines = text(month_one, "photos").splitlines()
    (number,) = (number for number, line in enumerate(lines) if len(line.split("\t")) == 10)
    assert 0.4 < number / len(lines) < 0.6
    assert str(KNOWN.overlong_row) in lines[number]


def test_a_reader_that_believes_in_quotes_loses_rows(month_one: Path) -> None:
    assert quoted(month_one, "observers") < len(table(month_one, "observers"))


def test_observers_have_empty_non_ascii_and_quoted_names(month_one: Path) -> None:
    names = [row["name"] for row in table(month_one, "observers")]
    assert len(names) == 40
    assert "" in names
    assert any("'" in name for name in names) and any('"' in name for name in names)
    assert any(not name.isascii() for name in names)


def test_every_fault_is_on_an_open_research_photo(month_one: Path) -> None:
    assert Counter(KNOWN.faults.values()) == Counter(FAULTS)
    served = json.loads((month_one / "faults.json").read_text())
    assert served == {str(photo_id): fault for photo_id, fault in KNOWN.faults.items()}
    for photo_id in KNOWN.faults:
        assert {row["license"] for row in photo_rows(month_one, photo_id)} == {"CC-BY"}
        assert {row["quality_grade"] for row in observation_of(month_one, photo_id)} == {"research"}


def test_a_png_by_name_is_a_jpeg_inside_and_the_others_are_png(month_one: Path) -> None:
    formats = {}
    for path in month_one.glob("photos/*/*.png"):
        with Image.open(path) as image:
            formats[int(path.parent.name)] = image.format
    assert formats.pop(KNOWN.disguised) == "JPEG"
    assert set(formats.values()) == {"PNG"}


def test_one_photograph_is_cut_in_half_and_all_others_decode(month_one: Path) -> None:
    broken = set()
    for path in month_one.glob("photos/*/*"):
        try:
            with Image.open(io.BytesIO(path.read_bytes())) as image:
                image.load()
        except OSError:
            broken.add(int(path.parent.name))
    assert broken == {photo_id for photo_id, fault in KNOWN.faults.items() if fault == "corrupt"}


def test_medium_photographs_fit_their_box_in_both_orientations() -> None:
    sizes = {photo.size for photo in release(1, PHOTOS).photos}
    assert all(320 <= max(size) <= 500 for size in sizes)
    assert any(wide > high for wide, high in sizes) and any(wide < high for wide, high in sizes)
