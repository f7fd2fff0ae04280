"""Commands that take back, tidy up and look for copies tell what they do and do what they tell."""

from __future__ import annotations

from pathlib import Path

import pytest

import lakehouse as library
from tests.cli.conftest import Lakehouse
from tests.conftest import DemoLake


def photo_of(demo: DemoLake, ref: str = "demo@v1") -> int:
    return int(library.open(str(demo.path)).snapshot(ref).manifest.collect()["photo_id"][0])


@pytest.fixture
def takedown(harmed_demo: DemoLake, tmp_path: Path) -> Path:
    """A list of one photo that is in the first version."""
    path = tmp_path / "takedown.csv"
    path.write_text(f"photo_id,reason\n{photo_of(harmed_demo)},privacy\n")
    return path


def test_remove_tells_first_and_takes_back_with_yes(
    on_copy: Lakehouse, harmed_demo: DemoLake, takedown: Path
) -> None:
    photo, old = photo_of(harmed_demo), harmed_demo.first.version.snapshot_id
    dry = on_copy("remove", "--photos", takedown, "--json").json
    assert (dry["done"], [one["photo"] for one in dry["pending"]]) == (False, [photo])
    assert photo_of(harmed_demo) == photo
    events = [path.read_bytes() for path in (harmed_demo.path / "dagster/history").rglob("*.db")]
    assert any(b"data:image/jpeg" in data for data in events)
    done = on_copy("remove", "--photos", takedown, "--yes", "--json").json
    events = [path.read_bytes() for path in (harmed_demo.path / "dagster/history").rglob("*.db")]
    assert not any(b"data:image/jpeg" in data or b"data:image/png" in data for data in events)
    assert done["events"] > 0
    assert done["photos"] == {"privacy": 1}
    assert "demo@v1" in done["versions"]
    assert set(done["described"]) == set(done["versions"])
    assert photo_of(harmed_demo) != photo
    assert (harmed_demo.path / "catalog/demo/v1/croissant.json").is_file()
    shown = on_copy("show", old, "--json").json["withdrawn"]
    assert shown["successor"] == done["versions"]["demo@v1"][1]
    said = on_copy("verify", old)
    assert said.code == 1
    assert f"its successor is demo@v1, {shown['successor']}" in said.error
    compared = on_copy("diff", old, "demo@v1", "--json").json
    assert compared["removed"]["legal"] == 1
    for ref in done["versions"]:
        assert on_copy("verify", ref).code == 0
    assert "(1 for privacy reasons)" in on_copy("show", old[:12]).out


def test_remove_names_every_bad_line(on_demo: Lakehouse, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("photo_id\nfrog\n12\ntoad\n")
    said = on_demo("remove", "--photos", path)
    assert said.code == 2
    assert "line 2: 'frog'" in said.error and "line 4: 'toad'" in said.error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("remove",), "nothing was interrupted"), (("remove", "--reason", "taste"), "--reason taste"),
     (("remove", "--photos", "nowhere.csv"), "nowhere.csv cannot be read")],
)  # fmt: skip
def test_remove_refuses_what_it_cannot_do(
    on_demo: Lakehouse, arguments: tuple[str, ...], sentence: str
) -> None:
    said = on_demo(*arguments)
    assert said.code == 2
    assert sentence in said.error


def test_gc_tells_and_deletes(on_copy: Lakehouse, harmed_demo: DemoLake) -> None:
    orphan = harmed_demo.path / "snapshots/parts" / f"{'0' * 64}.parquet"
    orphan.write_bytes(b"orphan")
    found = on_copy("gc", "--grace", "0", "--json").json
    assert found["deleted"] == [f"snapshots/parts/{'0' * 64}.parquet"]
    assert orphan.exists()
    assert "would delete 1 objects" in on_copy("gc", "--grace", "0").out
    assert on_copy("gc", "--grace", "0", "--delete").code == 0
    assert not orphan.exists()
    assert on_copy("verify", "demo@v2").code == 0


def test_compact_merges_what_it_said(on_copy: Lakehouse) -> None:
    told = on_copy("compact", "--dry-run", "--json").json
    assert told["merged"] > told["made"] >= 1
    done = on_copy("compact", "--json").json
    assert {**done, "dry_run": True} == told
    assert "merged 0 shards" in on_copy("compact").out
    assert on_copy("verify", "demo@v2").code == 0


def test_duplicates_lists_copies(on_demo: Lakehouse, demo: DemoLake) -> None:
    found = on_demo("duplicates", "demo@v2", "--json").json
    assert found["counts"]["exact"]["cross_split"] == 0
    assert len(found["rows"]) == sum(kind["photos"] for kind in found["counts"].values())
    assert on_demo("duplicates", "demo@v2", "--distance", "9").code == 2
    assert "near" in on_demo("duplicates", "demo@v2").out


def test_verify_takes_a_sample(on_demo: Lakehouse) -> None:
    found = on_demo("verify", "demo@v2", "--sample", "0.1", "--seed", "3", "--json").json
    assert found["whole"] and found["files"] < found["files_total"]
    assert on_demo("verify", "demo@v2", "--sample", "0").code == 2
