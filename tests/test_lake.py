"""The lake: everything written appears whole or not at all, and keys stay inside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import obstore.exceptions
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.errors import AlreadyExistsError, LakeError, NotFoundError, UsageError
from lakehouse.lake import Lake, open_lake
from lakehouse.settings import Settings

SCHEMA = pa.schema([pa.field("name", pa.string()), pa.field("photos", pa.int64())])
ROWS = pa.table({"name": ["Apis", "Bombus"], "photos": [1, 2]}, schema=SCHEMA)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), Settings())


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def files_of(lake: Lake) -> list[str]:
    """Every file below the lake's folder, temporary ones as well."""
    return sorted(str(path.relative_to(lake.path)) for path in lake.path.rglob("*") if path.is_file())


# --- whole or nothing


def test_a_staged_file_appears_when_the_block_ends(lake: Lake) -> None:
    with lake.staging("raw/taxa.csv") as path:
        path.write_text("Apis")
        assert not lake.exists("raw/taxa.csv")
    assert lake.get("raw/taxa.csv") == b"Apis"


def test_an_exception_leaves_neither_the_file_nor_a_temporary_one(lake: Lake) -> None:
    with pytest.raises(RuntimeError), lake.staging("raw/taxa.csv") as path:
        path.write_text("half of")
        raise RuntimeError
    assert files_of(lake) == []
    assert list((lake.path / ".tmp").iterdir()) == []


def test_an_exception_leaves_the_file_that_was_there(lake: Lake) -> None:
    lake.put("raw/taxa.csv", b"whole")
    with pytest.raises(RuntimeError), lake.staging("raw/taxa.csv") as path:
        path.write_text("half of")
        raise RuntimeError
    assert lake.get("raw/taxa.csv") == b"whole"


def test_a_parquet_file_whose_writer_failed_does_not_appear(lake: Lake) -> None:
    with pytest.raises(RuntimeError), lake.parquet_writer("t.parquet", SCHEMA) as writer:
        writer.write_table(ROWS)
        raise RuntimeError
    assert files_of(lake) == []


def test_put_replaces_what_is_there(lake: Lake) -> None:
    lake.put("a", b"one")
    lake.put("a", b"two")
    assert lake.get("a") == b"two"
    assert files_of(lake) == ["a"]


def test_a_scratch_folder_is_on_the_disk_of_the_lake_and_goes_with_its_block(lake: Lake) -> None:
    with lake.scratch() as folder:
        (folder / "spool").write_bytes(b"x")
        assert folder.is_relative_to(lake.path)
    assert not folder.exists()


# --- exclusive


def test_what_must_be_new_is_not_replaced(lake: Lake) -> None:
    lake.create("refs/demo/v1", b"first")
    with pytest.raises(AlreadyExistsError, match="refs/demo/v1 exists already"):
        lake.create("refs/demo/v1", b"second")
    assert lake.get("refs/demo/v1") == b"first"
    assert files_of(lake) == ["refs/demo/v1"]


def test_of_many_threads_exactly_one_creates_a_key(lake: Lake) -> None:
    start = Barrier(8)

    def create(number: int) -> bytes | None:
        start.wait()
        try:
            lake.create("refs/demo/v1", b"%d" % number)
        except AlreadyExistsError:
            return None
        return b"%d" % number

    with ThreadPoolExecutor(8) as pool:
        winners = [data for data in pool.map(create, range(8)) if data is not None]
    assert winners == [lake.get("refs/demo/v1")]


def test_of_several_processes_exactly_one_creates_a_key(lake: Lake) -> None:
    racer = """
import sys
from lakehouse.errors import AlreadyExistsError
from lakehouse.lake import open_lake
lake = open_lake(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    lake.create("refs/demo/v1", sys.argv[2].encode())
    print(sys.argv[2])
except AlreadyExistsError:
    print("lost")
"""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", racer, lake.root, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ann", "bob", "cleo")
    ]
    for process in racers:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in racers]
    assert sorted(said)[-2:] == ["lost", "lost"]
    assert lake.get("refs/demo/v1").decode() in said


# --- keys


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "/etc/hosts", "a//b", "a/./b", "", "a/", "a\\b", ".."]
)
def test_a_key_cannot_lead_out_of_the_lake(lake: Lake, key: str) -> None:
    (lake.path.parent / "outside").write_bytes(b"secret")
    uses: list[Callable[[], object]] = [
        lambda: lake.get(key),
        lambda: lake.put(key, b"x"),
        lambda: lake.create(key, b"x"),
        lambda: lake.delete(key),
        lambda: lake.size(key),
        lambda: lake.list(key),
        lambda: lake.folders(key),
        lambda: lake.get_range(key, 0, 1),
        lambda: list(lake.chunks(key)),
    ]
    for use in uses:
        with pytest.raises(LakeError, match="is not a key of the lake"):
            use()
    assert (lake.path.parent / "outside").read_bytes() == b"secret"


def test_keys_are_listed_in_order_and_only_below_the_folder(lake: Lake) -> None:
    for key in ("parts/b", "parts/a/c", "parts/10", "parts/9", "parts-other/x"):
        lake.put(key, b"")
    assert list(lake.list("parts")) == ["parts/10", "parts/9", "parts/a/c", "parts/b"]


def test_folders_are_listed_in_order_and_without_files(lake: Lake) -> None:
    for key in ("refs/frogs/v1", "refs/bees/v1", "refs/bees/v2", "refs/note"):
        lake.put(key, b"")
    assert lake.folders("refs") == ["bees", "frogs"]


def test_a_folder_that_is_not_there_is_empty(lake: Lake) -> None:
    assert list(lake.list("refs")) == []
    assert lake.folders("refs") == []


# --- reading


def test_absent_keys_are_told_apart_from_empty_ones(lake: Lake) -> None:
    lake.put("empty", b"")
    assert (lake.size("empty"), lake.exists("empty")) == (0, True)
    assert (lake.size("absent"), lake.exists("absent")) == (None, False)


def test_a_range_is_the_bytes_from_an_offset(lake: Lake) -> None:
    lake.put("shard", bytes(range(100)))
    assert lake.get_range("shard", 90, 5) == bytes(range(90, 95))


def test_chunks_together_are_the_file(lake: Lake) -> None:
    data = os.urandom(3_000_000)
    lake.put("shard", data)
    chunks = list(lake.chunks("shard"))
    assert b"".join(chunks) == data
    assert len(chunks) > 1


@pytest.mark.parametrize(
    "read",
    [
        lambda lake: lake.get("absent"),
        lambda lake: lake.get_range("absent", 0, 1),
        lambda lake: list(lake.chunks("absent")),
        lambda lake: lake.read_table("absent"),
    ],
)
def test_reading_what_is_absent_names_it(lake: Lake, read: Callable[[Lake], object]) -> None:
    with pytest.raises(NotFoundError, match="absent is not in the lake"):
        read(lake)


def test_a_range_beyond_the_end_is_an_error_of_the_lake(lake: Lake) -> None:
    lake.put("shard", b"short")
    with pytest.raises(LakeError, match="cannot read"):
        lake.get_range("shard", 100, 5)


def test_deleting_what_is_absent_is_no_error(lake: Lake) -> None:
    lake.put("a", b"")
    lake.delete("a")
    lake.delete("a")
    assert not lake.exists("a")


def test_a_storage_that_cannot_be_reached_is_told_in_one_sentence(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable:
        def __getattr__(self, name: str) -> Any:
            raise obstore.exceptions.GenericError("connection refused\n\nDebug source: ...")

    monkeypatch.setattr(lake, "store", Unreachable())
    monkeypatch.setattr(lake, "is_local", False)
    uses: list[Callable[[], object]] = [
        lambda: lake.get("a"),
        lambda: lake.size("a"),
        lambda: lake.list("a"),
        lambda: lake.folders("a"),
        lambda: lake.delete("a"),
    ]
    for use in uses:
        with pytest.raises(LakeError, match=r"^cannot .*/a: connection refused; check LAKEHOUSE_ROOT[^\n]*$"):
            use()


def test_a_folder_is_no_object(lake: Lake) -> None:
    lake.put("folder/a", b"abc")
    assert lake.size("folder/a") == 3
    assert lake.size("folder") is None
    assert lake.size("folder/a/b") is None
    assert not lake.exists("elsewhere")


def test_a_key_below_a_file_is_an_error_of_the_lake(lake: Lake) -> None:
    lake.put("a", b"")
    with pytest.raises(LakeError, match="cannot write"):
        lake.put("a/b", b"")


# --- temporary folders


def test_what_a_dead_process_left_is_swept(lake: Lake, dead_pid: int) -> None:
    left = lake.path / ".tmp" / f"{socket.gethostname()}-{dead_pid}-abcdefgh"
    left.mkdir(parents=True)
    (left / "spool").write_bytes(b"x")
    open_lake(lake.root)
    assert not left.exists()


def test_what_a_living_process_uses_is_kept(lake: Lake) -> None:
    with lake.scratch() as folder:
        open_lake(lake.root)
        assert folder.exists()


def test_what_another_machine_uses_is_kept(lake: Lake, dead_pid: int) -> None:
    """Two machines may share a disk, and the name of one may begin with that of the other."""
    host = socket.gethostname()
    others = [
        lake.path / ".tmp" / f"{name}-{dead_pid}-abcdefgh" for name in (f"{host}-2", f"{host}-{dead_pid}")
    ]
    for folder in others:
        folder.mkdir(parents=True)
    open_lake(lake.root)
    assert all(folder.exists() for folder in others)


# --- where it is


def test_an_unknown_scheme_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="'ftp://host/lake': give a local path or s3://bucket/prefix"):
        open_lake("ftp://host/lake")


def test_a_root_that_is_a_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="LAKEHOUSE_ROOT"):
        open_lake(str(tmp_path / "file"))


def test_a_root_with_a_tilde_is_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_lake("~/lake").root == str(tmp_path / "lake")


def test_a_lake_on_s3_names_its_files_by_uri() -> None:
    lake = open_lake("s3://bucket/prefix/", Settings(s3_endpoint="http://127.0.0.1:9000"))
    assert lake.uri("refs/demo/v1") == "s3://bucket/prefix/refs/demo/v1"
    assert lake.public_uri("refs/demo/v1") == "s3://bucket/prefix/refs/demo/v1"
    assert (lake.storage_options or {})["aws_endpoint"] == "http://127.0.0.1:9000"


def test_others_read_a_local_lake_by_file_uri_unless_it_is_served(tmp_path: Path) -> None:
    root = str(tmp_path / "my lake")
    served = Lake(root, Settings(public_url="https://data.example.org/lake/"))
    assert Lake(root, Settings()).public_uri("a/b") == f"file://{tmp_path}/my%20lake/a/b"
    assert served.public_uri("a/b") == "https://data.example.org/lake/a/b"


# --- engines


def test_equal_tables_are_equal_bytes(lake: Lake) -> None:
    for key in ("one.parquet", "two.parquet"):
        with lake.parquet_writer(key, SCHEMA) as writer:
            writer.write_table(ROWS)
    assert lake.get("one.parquet") == lake.get("two.parquet")
    assert pq.read_metadata(pa.BufferReader(lake.get("one.parquet"))).metadata is None


def test_a_table_is_read_back_column_by_column(lake: Lake) -> None:
    with lake.parquet_writer("t.parquet", SCHEMA) as writer:
        writer.write_table(ROWS)
    assert lake.read_table("t.parquet", ["photos"]) == ROWS.select(["photos"])
    in_turn = ROWS.column_names[::-1]
    assert lake.read_table("t.parquet", in_turn, repeated=["no such column"]) == ROWS.select(in_turn)
    with pytest.raises(KeyError, match="no such column"):
        lake.read_table("t.parquet", ["no such column"])


def test_duckdb_reads_the_lake_and_spills_into_it(lake: Lake) -> None:
    with lake.parquet_writer("t.parquet", SCHEMA) as writer:
        writer.write_table(ROWS)
    with lake.connect() as connection:
        total = connection.execute("SELECT sum(photos) FROM read_parquet(?)", [lake.uri("t.parquet")])
        assert total.fetchall() == [(3,)]
        where = connection.execute("SELECT current_setting('temp_directory')").fetchall()
    assert where == [(str(lake.path / ".tmp"),)]


def test_duckdb_downloads_no_extension(lake: Lake) -> None:
    with lake.connect() as connection:
        allowed = connection.execute(
            "SELECT current_setting('autoinstall_known_extensions'), "
            "current_setting('autoload_known_extensions')"
        ).fetchall()
    assert allowed == [(False, False)]
