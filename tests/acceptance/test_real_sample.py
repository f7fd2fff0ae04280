"""Real tables of iNaturalist Open Data and real photographs go all the way, and nothing is lost unseen."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import lakehouse as library
from lakehouse.images.ledger import Ledger
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import RawRelease, latest_release, load_raw_release, raw_rejects_key
from lakehouse.metadata.photos import NO_OBSERVATION, UNKNOWN_TAXON, load_photos_report
from lakehouse.settings import Settings
from lakehouse.snapshots.read import Snapshot
from lakehouse.sources import source_name_of
from tests.acceptance.conftest import BROKEN, TABLES, Mirror, serving
from tests.cli.conftest import Lakehouse


def campaign(folder: Path, source: str, **values: object) -> Path:
    """A campaign file that takes all licences and grades of the sample."""
    said = {
        "name": "sample",
        "title": "The real sample",
        "description": "Fifty real rows of each table, with real photographs.",
        "creators": [{"name": "Ann Other"}],
        "source": source,
        "taxa": [48460],
        "label": "species",
        "where": {
            "licenses": ["CC-BY", "CC-BY-SA", "CC-BY-NC-SA"],
            "quality": ["research", "needs_id", "casual"],
        },
        "gate": {"max_failed": 0.1},
        **values,
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def release_of(lake: Lake, source: str) -> RawRelease:
    name = source_name_of(source)
    release = latest_release(lake, name)
    assert release is not None
    return load_raw_release(lake, name, release)


@dataclass(frozen=True, slots=True)
class BuiltSample:
    """What `lakehouse build campaign.yaml --json` printed, and the lake it built."""

    mirror: Mirror
    source: str
    lake: Lake
    said: dict[str, Any]

    @property
    def snapshot(self) -> Snapshot:
        return library.open(self.lake.root).snapshot("sample@latest")

    @property
    def rows(self) -> pl.DataFrame:
        return self.snapshot.manifest.collect()


@pytest.fixture(scope="module")
def built(named_mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltSample]:
    """The sample with named taxa, built over HTTP by the installed command."""
    folder = tmp_path_factory.mktemp("sample")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "AWS_"))}
    kept.pop("DAGSTER_HOME", None)
    with serving(named_mirror.directory) as address:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("lakehouse"),
                "build",
                campaign(folder, address),
                "--json",
            ],
            cwd=folder,
            env={**kept, "LAKEHOUSE_ROOT": str(folder / "lake")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lake = Lake(str(folder / "lake"), Settings(_env_file=None))
        yield BuiltSample(named_mirror, address, lake, json.loads(done.stdout))


# --- the four tables as they are


def test_a_campaign_over_the_untouched_tables_is_told_that_nothing_is_there(
    mirror: Mirror, lakehouse: Lakehouse, tmp_path: Path
) -> None:
    said = lakehouse("build", campaign(tmp_path, str(mirror.directory), taxa=["Amphiesmoides"]))
    assert said.code == 1
    assert "no photo under the taxa of campaign 'sample'" in said.error


def test_every_line_of_the_untouched_tables_is_accounted_for(
    mirror: Mirror, lakehouse: Lakehouse, tmp_path: Path
) -> None:
    lakehouse("plan", campaign(tmp_path, str(mirror.directory), taxa=["Amphiesmoides"]))
    lake = Lake(str(tmp_path / "lake"), Settings(_env_file=None))
    release = release_of(lake, str(mirror.directory))
    assert {table.name for table in release.tables} == set(TABLES)
    for table in release.tables:
        assert table.lines == 1 + len(mirror.lines(table.name))
        assert table.lines == 1 + table.rows + table.rejected + table.blank
    assert [table.rejected for table in release.tables] == [2, 0, 0, 0]
    report = load_photos_report(lake, release.source, release.release_id)
    orphans = sum(line.split("\t")[2] in overlong(mirror) for line in mirror.lines("photos"))
    assert report.raw_rows == len(mirror.lines("photos"))
    assert report.rejected == {NO_OBSERVATION: orphans, UNKNOWN_TAXON: report.raw_rows - orphans}


def overlong(mirror: Mirror) -> dict[str, str]:
    """The observations whose line has nine fields under a header of eight."""
    lines = [line for line in mirror.lines("observations") if line.count("\t") == 8]
    return {line.split("\t")[0]: line for line in lines}


# --- with labels


def test_the_two_overlong_rows_are_set_aside_word_for_word(built: BuiltSample) -> None:
    release = release_of(built.lake, built.source)
    key = raw_rejects_key(release.source, release.release_id, "observations")
    rejects = pl.read_parquet(built.lake.uri(key))
    assert len(rejects) == 2
    assert set(rejects["text"]) == set(overlong(built.mirror).values())
    assert set(rejects["rule"]) == {"field count 9, expected 8"}


def test_every_line_is_accounted_for(built: BuiltSample) -> None:
    for table in release_of(built.lake, built.source).tables:
        assert table.lines == 1 + len(built.mirror.lines(table.name))
        assert table.lines == 1 + table.rows + table.rejected + table.blank


def test_every_photo_row_is_kept_or_has_a_reason(built: BuiltSample) -> None:
    release = release_of(built.lake, built.source)
    report = load_photos_report(built.lake, release.source, release.release_id)
    orphans = sum(line.split("\t")[2] in overlong(built.mirror) for line in built.mirror.lines("photos"))
    assert orphans == 2, "the photos of the overlong rows have lost their observations"
    assert report.accounting() == {
        "photos": 48,
        "merged duplicates": 0,
        "further observations of a photo": 0,
        NO_OBSERVATION: orphans,
    }


def test_every_photo_considered_has_one_fate(built: BuiltSample) -> None:
    fates = dict(built.said["accounting"])
    left_out = {name: count for name, count in fates.items() if name.startswith("excluded.")}
    outcomes = built.said["outcomes"]
    assert fates["considered"] == 48 == fates["selected"] + sum(left_out.values())
    # Lepidoptera twice and Zygoptera once: known to the taxonomy, and no species.
    assert left_out == {"excluded.not_at_label_rank": 3}
    assert fates["selected"] == sum(outcomes.values())
    # The same files stand for several photos, so some are copies that would be in two splits.
    dropped = {name: count for name, count in fates.items() if name.startswith("dropped.")}
    assert built.said["photos"] == outcomes["stored"] - sum(dropped.values()) == built.rows.height


def test_each_photo_not_stored_is_one_that_is_missing_or_broken(built: BuiltSample) -> None:
    ids = pl.Series(list(built.mirror.photos))
    ledger = Ledger(built.lake).outcomes(source_name_of(built.source), "medium", ids)
    outcomes: dict[str, set[int]] = {
        str(outcome): set(rows["photo_id"]) for (outcome,), rows in ledger.group_by("outcome")
    }
    asked = set(ledger["photo_id"])
    broken = built.mirror.served_as(BROKEN) & asked
    assert broken, "the truncated file is among the photos that are asked for"
    assert outcomes == {
        "gone": built.mirror.missing & asked,
        "rejected": broken,
        "stored": asked - built.mirror.missing - broken,
    }


def test_a_broken_photograph_is_kept_in_the_ledger_with_its_reason(built: BuiltSample) -> None:
    ids = pl.Series(sorted(built.mirror.served_as(BROKEN)))
    ledger = Ledger(built.lake).outcomes(source_name_of(built.source), "medium", ids)
    assert set(ledger["reason"]) == {"corrupt"}
    assert ledger["sha256"].null_count() == len(ledger)


def test_every_stored_image_is_byte_for_byte_the_file_that_was_served(built: BuiltSample) -> None:
    snapshot = built.snapshot
    for row in built.rows.iter_rows(named=True):
        served = built.mirror.photos[row["photo_id"]]
        assert served is not None
        data = served.read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert snapshot.image(row["shard"], row["offset"], row["size"]) == data


def test_a_key_in_capitals_is_asked_for_as_it_is_written(built: BuiltSample) -> None:
    extensions = {int(line.split("\t")[1]): line.split("\t")[4] for line in built.mirror.lines("photos")}
    capitals = built.rows.filter(pl.col("photo_id").replace_strict(extensions) == "JPG")
    assert len(capitals) > 0
    assert all(url.endswith("/medium.JPG") for url in capitals["photo_url"])


def test_every_row_says_licence_photographer_and_observation(built: BuiltSample) -> None:
    photos = {int(line.split("\t")[1]): line.split("\t") for line in built.mirror.lines("photos")}
    people = {line.split("\t")[0]: line.split("\t") for line in built.mirror.lines("observers")}
    for row in built.rows.iter_rows(named=True):
        _, _, observation, observer, _, licence, *_ = photos[row["photo_id"]]
        assert row["license"] == licence
        assert row["license_url"].startswith("https://creativecommons.org/licenses/")
        assert row["observation_url"] == f"https://www.inaturalist.org/observations/{observation}"
        _, login, name = people.get(observer, ["", "", ""])
        creator = name or login or "unknown photographer"
        assert row["attribution"] == f"© {creator}, some rights reserved ({licence})"


def test_the_snapshot_is_whole(built: BuiltSample, lakehouse: Lakehouse) -> None:
    said = lakehouse.at(Path(built.lake.root))("verify", "sample@v1", "--json")
    assert said.code == 0
    assert said.json["whole"] is True


# --- where it comes from makes no difference


def test_a_mirror_by_path_and_by_http_give_the_same_content(
    named_mirror: Mirror, lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = campaign(tmp_path, "inaturalist")
    monkeypatch.setenv("LAKEHOUSE_SOURCE", str(named_mirror.directory))
    by_path = lakehouse.at(tmp_path / "by-path")("build", path, "--json").json
    with serving(named_mirror.directory) as address:
        monkeypatch.setenv("LAKEHOUSE_SOURCE", address)
        by_http = lakehouse.at(tmp_path / "by-http")("build", path, "--json").json
    assert by_path["content_id"] == by_http["content_id"]
    assert by_path["accounting"] == by_http["accounting"]
