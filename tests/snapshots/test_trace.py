"""From a photograph back to the dump's line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lakehouse import cli
from lakehouse.errors import LakeError, NotFoundError
from lakehouse.snapshots import refs
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.trace import trace
from tests.conftest import DemoLake

# Of month 2, whose files the source still serves.
REF = "demo@v2"


def ids(demo: DemoLake) -> list[int]:
    snapshot = Snapshot(demo.lake, refs.resolve(demo.lake, REF))
    return snapshot.manifest.select("photo_id").collect()["photo_id"].to_list()


def test_photographs_lead_to_their_lines_in_the_dumps_own_files(demo: DemoLake) -> None:
    lines = {
        table: gzip.decompress((demo.path / "embedded-source" / f"{table}.csv.gz").read_bytes()).split(b"\n")
        for table in ("photos", "observations", "taxa")
    }
    for photo_id in ids(demo)[::30]:
        found = trace(demo.lake, REF, photo_id)
        assert {raw.table for raw in found.raw} == {"photos", "observations", "taxa"}
        for raw in found.raw:
            assert raw.line is not None
            key = {"photos": "photo_id", "observations": "observation_uuid", "taxa": "taxon_id"}[raw.table]
            assert str(raw.values[key]).encode() in lines[raw.table][raw.line - 1].split(b"\t")


def test_a_trace_names_attempts_partition_and_shard(demo: DemoLake) -> None:
    photo_id = ids(demo)[0]
    found = trace(demo.lake, REF, photo_id)
    assert found.release == demo.second.release
    assert found.attempts[-1]["outcome"] == "stored"
    assert found.attempts[-1]["sha256"] == found.row["sha256"]
    assert found.shard.endswith(f"{found.row['shard']}.tar")
    root = refs.read_root(demo.lake, found.snapshot_id)
    assert found.partition in {parts.partition for parts in root.partitions}
    assert found.verified


def test_a_photograph_that_is_not_there_is_an_error(demo: DemoLake) -> None:
    with pytest.raises(NotFoundError, match="has no photo 1;"):
        trace(demo.lake, REF, 1)


def test_a_byte_that_flipped_is_found(harmed_demo: DemoLake) -> None:
    photo_id = ids(harmed_demo)[0]
    found = trace(harmed_demo.lake, REF, photo_id)
    with Path(found.shard).open("r+b") as shard:
        shard.seek(found.row["offset"] + 5)
        byte = shard.read(1)
        shard.seek(-1, 1)
        shard.write(bytes([byte[0] ^ 1]))
    with pytest.raises(LakeError, match="is damaged"):
        trace(harmed_demo.lake, REF, photo_id)


def test_the_command_prints_one_document(
    demo: DemoLake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(demo.path))
    with pytest.raises(SystemExit) as ended:
        cli.main(["trace", REF, str(ids(demo)[0]), "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True
