"""Writing the embedded source: the same everywhere, cheap to repeat, and the second month as announced."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from lakehouse.demo import current_month, month_two_changes, write_bucket
from lakehouse.demo import taxa as facts
from lakehouse.errors import SourceError, UsageError

from .conftest import PHOTOS, table, text

CHANGES = month_two_changes(PHOTOS)


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_two_directories_are_alike_byte_for_byte_even_if_one_was_left_unfinished(
    month_one: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    photo_dir = next((month_one / "photos").iterdir())
    shutil.copytree(photo_dir, again / "photos" / photo_dir.name)
    assert current_month(again) is None
    write_bucket(again, month=1, photos=PHOTOS)
    assert current_month(again) == 1
    assert digests(again) == digests(month_one)


def test_going_to_the_second_month_and_back_changes_nothing(
    month_one: Path, month_two: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "back"
    shutil.copytree(month_two, copy)
    write_bucket(copy, month=1, photos=PHOTOS)
    assert digests(copy) == digests(month_one)


def test_a_month_that_is_whole_is_not_written_again(month_one: Path) -> None:
    before = {path: path.stat().st_ino for path in month_one.rglob("*")}
    write_bucket(month_one, month=1, photos=PHOTOS, progress=lambda done, total: pytest.fail("drew again"))
    assert {path: path.stat().st_ino for path in month_one.rglob("*")} == before


def test_only_new_photographs_are_drawn_for_the_second_month(month_one: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(month_one, copy)
    told: list[tuple[int, int]] = []
    write_bucket(copy, month=2, photos=PHOTOS, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(CHANGES.added), len(CHANGES.added))


def test_the_marker_tells_the_month(month_one: Path, month_two: Path) -> None:
    assert (current_month(month_one), current_month(month_two)) == (1, 2)


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    (tmp_path / "month.json").write_text("{}")
    with pytest.raises(SourceError, match=r"month\.json"):
        current_month(tmp_path)


@pytest.mark.parametrize(("month", "photos"), [(3, 1500), (1, 10)])
def test_what_cannot_be_made_is_refused(tmp_path: Path, month: int, photos: int) -> None:
    with pytest.raises(UsageError):
        write_bucket(tmp_path, month=month, photos=photos)


def test_the_second_month_has_exactly_the_announced_changes_of_photos(
    month_one: Path, month_two: Path
) -> None:
    def labelled(directory: Path) -> dict[tuple[int, str], tuple[str, str]]:
        taxon = {row["observation_uuid"]: row["taxon_id"] for row in table(directory, "observations")}
        return {
            (int(row["photo_id"]), row["observation_uuid"]): (
                row["license"],
                taxon.get(row["observation_uuid"], "-"),
            )
            for row in table(directory, "photos")
        }

    before, after = labelled(month_one), labelled(month_two)
    common = before.keys() & after.keys()
    assert {key[0] for key in after.keys() - before.keys()} == set(CHANGES.added)
    assert {key[0] for key in before.keys() - after.keys()} == set(CHANGES.removed)
    assert {key[0] for key in common if before[key][0] != after[key][0]} == set(CHANGES.relicensed)
    assert {key[0] for key in common if before[key][1] != after[key][1]} == set(CHANGES.relabelled)


def test_the_second_month_is_about_as_large_a_change_as_announced() -> None:
    assert (len(CHANGES.added), len(CHANGES.removed), len(CHANGES.relicensed)) == (41, 12, 8)
    assert len(CHANGES.relabelled) >= 10
    assert 0 < len(CHANGES.removed_files) < len(CHANGES.removed)


def test_some_removed_photos_lose_their_file_and_some_keep_it(month_two: Path) -> None:
    gone = {photo_id for photo_id in CHANGES.removed if not (month_two / "photos" / str(photo_id)).exists()}
    assert gone == set(CHANGES.removed_files)


def test_the_second_month_renames_moves_and_deactivates_one_taxon_each(
    month_one: Path, month_two: Path
) -> None:
    before, after = (
        {int(row["taxon_id"]): row for row in table(directory, "taxa")}
        for directory in (month_one, month_two)
    )
    changed = {
        (taxon_id, column)
        for taxon_id, row in before.items()
        for column, value in row.items()
        if after[taxon_id][column] != value
    }
    assert changed == {
        (CHANGES.renamed_taxon, "name"),
        (CHANGES.moved_taxon, "ancestry"),
        (CHANGES.deactivated_taxon, "active"),
    }
    assert before.keys() == after.keys()


def test_the_second_month_has_one_taxon_that_was_not_photographed_before(
    month_one: Path, month_two: Path
) -> None:
    before, after = (
        {row["taxon_id"] for row in table(directory, "observations")} for directory in (month_one, month_two)
    )
    assert after - before == {str(facts.NEW_IN_MONTH_TWO)}


def test_the_second_month_renames_one_observer(month_one: Path, month_two: Path) -> None:
    before, after = (set(text(directory, "observers").splitlines()) for directory in (month_one, month_two))
    (line,) = after - before
    assert line.startswith(f"{CHANGES.renamed_observer}\t")
