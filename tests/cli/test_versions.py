"""What is told of versions agrees with the lake: snapshots, show, diff, verify, export."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import lakehouse as library
from tests.cli.conftest import Lakehouse
from tests.conftest import DemoLake


def manifest(demo: DemoLake, ref: str) -> pl.DataFrame:
    return library.open(str(demo.path)).snapshot(ref).manifest.collect()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_snapshots_lists_each_version_with_its_counts(on_demo: Lakehouse, demo: DemoLake) -> None:
    versions = on_demo("snapshots", "demo", "--json").json
    assert [version["version"] for version in versions] == [1, 2]
    for version in versions:
        rows = manifest(demo, f"demo@v{version['version']}")
        assert version["counts"]["photos"] == len(rows)
        assert version["counts"]["labels"] == rows["label_id"].n_unique()
        assert version["counts"]["bytes"] == rows["size"].sum()


def test_snapshots_in_text_names_versions_and_takes_a_campaign_file(
    on_demo: Lakehouse, demo: DemoLake
) -> None:
    said = on_demo("snapshots", "demo.yaml")
    assert said.code == 0
    assert "demo@v1" in said.out and "demo@v2" in said.out
    assert demo.second.version.snapshot_id[:12] in said.out


def test_show_describes_the_root_that_is_in_the_lake(on_demo: Lakehouse, demo: DemoLake) -> None:
    shown = on_demo("show", "demo@v2", "--json").json
    rows = manifest(demo, "demo@v2")
    snapshot_id = shown["version"]["snapshot_id"]
    assert sha256(demo.path / "snapshots" / f"{snapshot_id}.json") == snapshot_id
    assert shown["root"]["counts"]["licenses"] == dict(Counter(rows["license"]))
    assert shown["root"]["counts"]["splits"] == dict(Counter(rows["split"]))
    assert all(Path(file).is_file() for file in shown["files"].values())


def test_show_in_text_tells_the_fate_of_every_photo(on_demo: Lakehouse, demo: DemoLake) -> None:
    said = on_demo("show", "demo@latest")
    assert said.code == 0
    for name, count in demo.second.version.accounting.items():
        assert any(name in line and f" {count:,} " in line for line in said.out.splitlines()), name


def test_a_version_is_found_by_the_first_digits_of_its_id(on_demo: Lakehouse, demo: DemoLake) -> None:
    digits = demo.first.version.snapshot_id[:10]
    assert on_demo("show", digits, "--json").json["version"]["version"] == 1


def test_diff_counts_what_the_two_manifests_differ_in(on_demo: Lakehouse, demo: DemoLake) -> None:
    found = on_demo("diff", "demo@v1", "demo@v2", "--json").json
    old, new = manifest(demo, "demo@v1"), manifest(demo, "demo@v2")
    both = old.join(new, on="photo_id", suffix="_new")
    assert found["totals"]["added"] == len(new.join(old, on="photo_id", how="anti"))
    assert found["totals"]["removed"] == len(old.join(new, on="photo_id", how="anti"))
    assert found["totals"]["relabelled"] == len(both.filter(pl.col("label") != pl.col("label_new")))
    assert found["totals"]["relicensed"] == len(both.filter(pl.col("license") != pl.col("license_new")))
    assert found["totals"]["relabelled"] and found["totals"]["relicensed"], "the demo's month changes both"
    rows = Counter(row["change"] for row in found["rows"])
    assert {kind: count for kind, count in found["totals"].items() if count} == rows
    touched = {row["photo_id"] for row in found["rows"] if row["change"] != "added"}
    assert found["unchanged"] == len(old) - len(touched)


def test_diff_in_text_shows_totals_and_labels(on_demo: Lakehouse) -> None:
    said = on_demo("diff", "demo@v1", "demo@v2")
    assert said.code == 0
    assert "demo@v1 → demo@v2" in said.out and "by label" in said.out
    assert "relabelled" in said.out


def test_diff_of_a_version_with_itself_is_empty(on_demo: Lakehouse, demo: DemoLake) -> None:
    found = on_demo("diff", "demo@v2", "demo@v2", "--json").json
    assert not any(found["totals"].values())
    assert found["rows"] == []
    assert found["unchanged"] == len(manifest(demo, "demo@v2"))


def test_verify_reads_every_byte_of_a_version(on_demo: Lakehouse, demo: DemoLake) -> None:
    found = on_demo("verify", "demo@v2", "--json").json
    root = library.open(str(demo.path)).snapshot("demo@v2").root
    parts = [file for one in root.partitions for file in (one.labels, one.records)]
    shards = [file for shard in root.shards for file in (shard.tar, shard.index)]
    files = [root.taxa, *parts, *shards]
    assert found["whole"] is True and found["problems"] == []
    version = library.open(str(demo.path)).snapshot("demo@v2").version
    assert version.removed and root.dropped
    described = [path for path in (demo.path / "catalog/demo/v2").rglob("*") if path.is_file()]
    described = [path for path in described if path.name != "checksums.txt"]
    files = [*files, root.dropped, version.removed]
    assert found["files"] == found["files_total"] == len(files) + len(described)
    sizes = sum(file.size for file in files) + sum(path.stat().st_size for path in described)
    assert found["bytes"] == sizes


def test_verify_in_text_says_that_a_version_is_whole(on_demo: Lakehouse) -> None:
    said = on_demo("verify", "demo@v1")
    assert said.code == 0
    assert said.out.startswith("demo@v1 is whole: ")


def test_verify_names_a_shard_in_which_one_bit_turned(on_copy: Lakehouse, harmed_demo: DemoLake) -> None:
    shard = next((harmed_demo.path / "shards").rglob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    said = on_copy("verify", "demo@v2")
    assert said.code == 1
    assert f"{shard} is damaged" in said.out


def test_verify_names_a_file_that_is_missing(on_copy: Lakehouse, harmed_demo: DemoLake) -> None:
    root = library.open(str(harmed_demo.path)).snapshot("demo@v2").root
    part = harmed_demo.path / root.partitions[0].labels.key
    part.unlink()
    said = on_copy("verify", "demo@v2", "--json")
    assert said.code == 1
    assert said.json["whole"] is False
    assert said.json["problems"] == [f"{part} is missing"]


def test_a_root_that_is_damaged_is_refused(on_copy: Lakehouse, harmed_demo: DemoLake) -> None:
    root = harmed_demo.path / "snapshots" / f"{harmed_demo.second.version.snapshot_id}.json"
    root.write_bytes(root.read_bytes() + b" ")
    said = on_copy("show", "demo@v2")
    assert said.code == 1
    assert f"{root} is damaged" in said.error


@pytest.mark.parametrize("layout", ["webdataset", "imagefolder"])
def test_export_lists_the_files_it_wrote(
    on_demo: Lakehouse, demo: DemoLake, tmp_path: Path, layout: str
) -> None:
    said = on_demo("export", "demo@v2", tmp_path / "out", "--format", layout, "--json").json
    listed = {file["name"]: file["sha256"] for file in said["files"]}
    written = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert written == set(listed) | {"checksums.txt"}
    assert all(sha256(tmp_path / "out" / name) == digest for name, digest in listed.items())
    assert (
        len(pl.read_parquet(tmp_path / "out" / "manifest.parquet"))
        == library.open(str(demo.path)).snapshot("demo@v2").root.counts.photos
    )


def test_export_in_text_says_how_to_load_it(on_demo: Lakehouse, tmp_path: Path) -> None:
    said = on_demo("export", "demo@v1", tmp_path / "out")
    assert said.code == 0
    assert f"exported demo@v1 to {tmp_path / 'out'}" in said.out
    assert f'load_dataset("webdataset", data_dir="{tmp_path / "out"}/data")' in said.out


def test_export_leaves_a_folder_alone_that_is_not_empty(on_demo: Lakehouse, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    said = on_demo("export", "demo@v1", tmp_path)
    assert said.code == 2
    assert f"{tmp_path} is not empty" in said.error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_export_refuses_a_file_for_a_folder(on_demo: Lakehouse, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    said = on_demo("export", "demo@v1", tmp_path / "out")
    assert said.code == 2
    assert str(tmp_path / "out") in said.error


@pytest.mark.parametrize(
    ("ref", "code", "sentence"),
    [
        ("demo", 2, "'demo' is not a reference; write name@latest, name@v3 or a snapshot id"),
        ("demo@v0", 2, "'demo@v0' is not a reference"),
        ("demo@newest", 2, "'demo@newest' is not a reference"),
        ("@v1", 2, "'@v1' is not a reference"),
        ("", 2, "'' is not a reference"),
        ("demo@v9", 1, "'demo' has v1, v2"),
        ("nobody@latest", 1, "'nobody' has no version at all"),
        ("00000000", 1, "has an id beginning with 00000000"),
    ],
)
@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_ref_that_names_nothing_is_told_apart_from_one_that_is_none(
    on_demo: Lakehouse, command: str, ref: str, code: int, sentence: str
) -> None:
    said = on_demo(command, ref)
    assert said.code == code
    assert sentence in said.error


def test_a_campaign_without_versions_is_told_which_there_are(on_demo: Lakehouse) -> None:
    said = on_demo("snapshots", "nobody")
    assert said.code == 1
    assert "'nobody' has no version" in said.error and "campaigns there: demo" in said.error
