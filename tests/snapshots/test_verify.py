"""Verification: a byte that changed is found in whatever file it is, and the file is named."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pytest

from lakehouse.snapshots.model import FileRef, Root
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.verify import verify

FILES: dict[str, Callable[[Root], FileRef]] = {
    "taxa": lambda root: root.taxa,
    "labels": lambda root: root.partitions[-1].labels,
    "records": lambda root: root.partitions[0].records,
    "index": lambda root: root.shards[0].index,
    "tar": lambda root: root.shards[-1].tar,
}


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, harmed: Snapshot) -> FileRef:
    """One file of each kind that a snapshot consists of."""
    return FILES[request.param](harmed.root)


def test_a_whole_snapshot_has_no_problem(second: Snapshot, connection: duckdb.DuckDBPyConnection) -> None:
    result = verify(connection, second.lake, second.root)
    assert result.problems == ()
    assert result.whole
    root = second.root
    assert result.files == 1 + 2 * len(root.partitions) + 2 * len(root.shards)
    assert result.bytes > root.counts.bytes


def test_a_flipped_byte_is_found_and_its_file_named(
    harmed: Snapshot, file: FileRef, connection: duckdb.DuckDBPyConnection
) -> None:
    data = bytearray(harmed.lake.get(file.key))
    data[len(data) // 2] ^= 1
    harmed.lake.put(file.key, bytes(data))
    (problem,) = verify(connection, harmed.lake, harmed.root).problems
    assert problem.startswith(f"{harmed.lake.uri(file.key)} is damaged: its sha256 is ")


def test_a_file_cut_short_is_found_and_named(
    harmed: Snapshot, file: FileRef, connection: duckdb.DuckDBPyConnection
) -> None:
    harmed.lake.put(file.key, harmed.lake.get(file.key)[:-1])
    (problem,) = verify(connection, harmed.lake, harmed.root).problems
    assert problem == f"{harmed.lake.uri(file.key)} has {file.size - 1:,} bytes instead of {file.size:,}"


def test_a_file_that_is_gone_is_named(
    harmed: Snapshot, file: FileRef, connection: duckdb.DuckDBPyConnection
) -> None:
    harmed.lake.delete(file.key)
    (problem,) = verify(connection, harmed.lake, harmed.root).problems
    assert problem == f"{harmed.lake.uri(file.key)} is missing"


def test_every_damaged_file_is_told(harmed: Snapshot, connection: duckdb.DuckDBPyConnection) -> None:
    for shard in harmed.root.shards:
        harmed.lake.delete(shard.tar.key)
    assert len(verify(connection, harmed.lake, harmed.root).problems) == len(harmed.root.shards) > 1


@pytest.mark.parametrize(
    ("count", "name"),
    [("photos", "rows"), ("labels", "labels"), ("observations", "observations"), ("bytes", "bytes")],
)
def test_a_count_that_does_not_hold_is_told(
    second: Snapshot, connection: duckdb.DuckDBPyConnection, count: str, name: str
) -> None:
    right = getattr(second.root.counts, count)
    counts = second.root.counts.model_copy(update={count: right + 1})
    result = verify(connection, second.lake, second.root.model_copy(update={"counts": counts}))
    assert f"the manifest has {right:,} {name} instead of {right + 1:,}" in result.problems


def test_rows_that_are_not_those_of_the_content_id_are_told(
    second: Snapshot, connection: duckdb.DuckDBPyConnection
) -> None:
    other = second.root.model_copy(update={"content_id": "0" * 64})
    problems = verify(connection, second.lake, other).problems
    assert problems == ("the rows do not add up to the content_id in the root",)
