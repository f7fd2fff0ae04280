"""plan, build and refresh: what they say is what is in the lake, and what was done is not done again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import lakehouse as library
from lakehouse.images.ledger import Ledger
from lakehouse.lake import Lake
from lakehouse.metadata.partitions import load_plan
from lakehouse.metadata.selection import load_selection_report
from lakehouse.settings import Settings
from lakehouse.sources import source_name_of
from tests.cli.conftest import Lakehouse, Pond
from tests.conftest import DemoLake

CampaignFile = Callable[..., Path]


def stored(root: Path, pond: Pond) -> set[int]:
    """The photos of the pond that the lake's ledger knows as stored."""
    ids = pl.Series(range(1, 100))
    rows = Ledger(Lake(str(root), Settings())).outcomes(source_name_of(str(pond.directory)), "medium", ids)
    return set(rows.filter(pl.col("outcome") == "stored")["photo_id"])


# --- plan


def test_plan_counts_what_the_selections_hold(on_demo: Lakehouse, demo: DemoLake) -> None:
    planned = on_demo("plan", "demo", "--json").json
    plan = load_plan(demo.lake, "demo")
    reports = [load_selection_report(demo.lake, "demo", one.key) for one in plan.partitions]
    left_out: Counter[str] = Counter()
    for report in reports:
        assert report is not None
        left_out.update(report.excluded)
    assert planned["release"] == plan.release == demo.second.release
    assert planned["photos"] == sum(report.selected for report in reports if report)
    assert planned["photos"] == sum(planned["label_counts"].values()) == sum(planned["licenses"].values())
    assert planned["excluded"] == left_out
    assert planned["partitions"] == {one.key: one.photos for one in plan.partitions}


def test_plan_in_text_says_what_to_do_next(on_demo: Lakehouse, demo: DemoLake) -> None:
    said = on_demo("plan", "demo")
    assert said.code == 0
    assert demo.campaign.title in said.out
    assert "next: lakehouse build demo" in said.out


def test_plan_fetches_no_photo(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    shutil.rmtree(pond.directory / "photos")
    said = lakehouse("plan", campaign_file(), "--json")
    assert said.code == 0
    assert said.json["photos"] == 7
    assert not (tmp_path / "lake" / "ledger").exists()


def test_plan_of_a_campaign_that_selects_nothing_says_so(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    planned = lakehouse("plan", campaign_file(taxa=[47126]), "--json").json
    assert (planned["photos"], planned["labels"], planned["partitions"]) == (0, 0, {})


# --- build, refresh


@pytest.mark.parametrize("command", ["build", "refresh"])
def test_where_nothing_changed_nothing_is_done(on_copy: Lakehouse, demo: DemoLake, command: str) -> None:
    built = on_copy(command, "demo", "--json").json
    assert built["new"] is False
    assert built["fetched"] == 0
    assert built["partitions_materialized"] == []
    assert built["version"] == "demo@v2"
    assert built["snapshot_id"] == demo.second.version.snapshot_id


def test_what_a_build_sums_up_is_in_the_lake(on_copy: Lakehouse, harmed_demo: DemoLake) -> None:
    built = on_copy("build", "demo", "--json").json
    snapshot = library.open(str(harmed_demo.path)).snapshot("demo@latest")
    assert built["photos"] == snapshot.manifest.collect().height == sum(built["splits"].values())
    assert built["content_id"] == snapshot.root.content_id
    assert built["accounting"] == snapshot.version.accounting
    assert sum(built["outcomes"].values()) == built["accounting"]["selected"]
    assert all(Path(file).is_file() for file in built["files"].values())


def test_a_build_in_text_says_what_to_look_at(on_copy: Lakehouse, demo: DemoLake) -> None:
    said = on_copy("build", "demo")
    assert said.code == 0
    assert "nothing new: still demo@v2" in said.out
    assert demo.second.version.snapshot_id in said.out
    assert "next: lakehouse show demo@v2" in said.out


def test_a_build_keeps_to_the_dump_it_has_and_a_refresh_takes_the_new_one(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    first = lakehouse("build", campaign_file(), "--json").json
    pond.frog(8, 111)
    pond.write()
    assert lakehouse("build", campaign_file(), "--json").json["version"] == first["version"]
    second = lakehouse("refresh", campaign_file(), "--json").json
    assert (second["version"], second["photos"], second["fetched"]) == ("frogs@v2", 8, 1)
    assert second["changes"]["added"] == 1
    assert second["release"] != first["release"]
    assert second["partitions_materialized"] == ["hyla-110"]


# --- resuming


def test_a_build_of_one_taxon_builds_only_that_and_says_so(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    said = lakehouse("build", campaign_file(), "--taxon", "Rana")
    assert said.code == 0
    assert said.out.startswith("built rana-101; next: lakehouse build ") and "for the rest" in said.out
    assert stored(tmp_path / "lake", pond) == {1, 2, 3, 4, 5}
    assert not (tmp_path / "lake" / "refs").exists()


def test_a_later_build_completes_what_a_taxon_began(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    begun = lakehouse("build", campaign_file(), "--taxon", "101", "--json").json
    completed = lakehouse("build", campaign_file(), "--json").json
    assert begun["version"] is None
    assert completed["partitions_materialized"] == ["hyla-110"]
    assert (completed["version"], completed["photos"], completed["fetched"]) == ("frogs@v1", 7, 2)


def test_a_partition_is_named_by_its_key_too(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    assert lakehouse("build", campaign_file(), "--taxon", "hyla-110").code == 0
    assert stored(tmp_path / "lake", pond) == {6, 7}


def test_a_taxon_that_is_no_partition_is_told_which_there_are(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    said = lakehouse("build", campaign_file(), "--taxon", "Bufo")
    assert said.code == 2
    assert said.error.startswith("--taxon Bufo: ")
    assert "rana-101, hyla-110" in said.error


def test_a_snapshot_whose_name_was_lost_is_made_again_as_it_was(
    on_copy: Lakehouse, harmed_demo: DemoLake
) -> None:
    (harmed_demo.path / "refs" / "demo" / "v2").unlink()
    built = on_copy("build", "demo", "--json").json
    assert built["snapshot_id"] == harmed_demo.second.version.snapshot_id
    assert (built["version"], built["fetched"], built["partitions_materialized"]) == ("demo@v2", 0, [])


def test_a_lake_that_lost_all_its_names_makes_the_newest_snapshot_again(
    on_copy: Lakehouse, harmed_demo: DemoLake
) -> None:
    shutil.rmtree(harmed_demo.path / "refs")
    built = on_copy("build", "demo", "--json").json
    assert built["snapshot_id"] == harmed_demo.second.version.snapshot_id
    assert (built["version"], built["fetched"], built["partitions_materialized"]) == ("demo@v1", 0, [])


# --- the gate


def test_a_build_above_the_gate_fails_with_a_report_and_keeps_what_came(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    pond.show(7, b"<html>not a photograph</html>")
    said = lakehouse("build", campaign_file())
    assert said.code == 1
    assert "14.3% of the 7 photos selected for 'frogs' failed (1 rejected)" in said.error
    assert "above the gate of 2.0%; what was fetched is kept" in said.error
    assert stored(tmp_path / "lake", pond) == {1, 2, 3, 4, 5, 6}


def test_a_wider_gate_lets_the_same_build_pass_without_a_fetch(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    pond.show(7, b"<html>not a photograph</html>")
    assert lakehouse("build", campaign_file(), "--json").json["exit_code"] == 1
    built = lakehouse("build", campaign_file(gate={"max_failed": 0.2}), "--json").json
    assert (built["photos"], built["fetched"]) == (6, 0)
    assert built["outcomes"] == {"stored": 6, "gone": 0, "failed": 0, "refused": 0, "rejected": 1}


def test_a_photo_gone_from_the_source_is_no_failure(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    (pond.directory / "photos" / "7" / "medium.jpg").unlink()
    built = lakehouse("build", campaign_file(), "--json").json
    assert (built["photos"], built["outcomes"]["gone"]) == (6, 1)


# --- publish


def test_publishing_needs_a_catalogue_to_publish_to(on_demo: Lakehouse) -> None:
    said = on_demo("publish", "demo@latest")
    assert said.code == 2
    assert said.error == "set LAKEHOUSE_CKAN_URL and LAKEHOUSE_CKAN_TOKEN to publish to CKAN"


def test_only_the_newest_version_is_published(on_demo: Lakehouse) -> None:
    said = on_demo("publish", "demo@v1")
    assert said.code == 2
    assert "demo@v1 is not the newest version; the catalogue shows demo@v2" in said.error


def test_withdrawing_needs_a_catalogue_to_withdraw_from(on_demo: Lakehouse) -> None:
    said = on_demo("withdraw", "demo")
    assert said.code == 1
    assert said.error == "no CKAN is set to publish to; set LAKEHOUSE_CKAN_URL"


def test_publishing_a_campaign_that_names_no_catalogue_is_refused(
    on_demo: Lakehouse, campaign_file: CampaignFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_CAMPAIGNS", str(campaign_file(name="demo").parent))
    said = on_demo("publish", "demo@latest")
    assert said.code == 2
    assert "nothing to publish to; add publish: {ckan: {organization: ...}}" in said.error


# --- what people write is shown as they wrote it


def test_brackets_in_a_title_are_no_markup(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile
) -> None:
    path = campaign_file(title="Frogs [draft] and [/more]")
    assert "Frogs [draft] and [/more]" in lakehouse("plan", path).out
    assert lakehouse("build", path).code == 0
    assert "frogs@v1  Frogs [draft] and [/more]" in lakehouse("show", "frogs@v1").out
    assert "Frogs [draft] and [/more]" in lakehouse("snapshots", "frogs").out


def test_what_is_to_be_typed_next_is_on_one_line(
    lakehouse: Lakehouse, pond: Pond, campaign_file: CampaignFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    path = campaign_file()
    assert f"next: lakehouse build {path}\n" in lakehouse("plan", path).out
