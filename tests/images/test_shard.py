"""Shards: deterministic archives that tar, WebDataset and the index agree on."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.errors import LakeError
from lakehouse.images.schema import INDEX
from lakehouse.images.shard import index_key, shard_key, spooling
from lakehouse.images.validate import inspect


@pytest.fixture
def publish(lake, tools):
    """Publish images of the given ids, added in that order."""

    def run(photo_ids, into=None):
        with spooling(into or lake, set(photo_ids)) as spool:
            for photo_id in photo_ids:
                form = "PNG" if photo_id % 7 == 0 else "JPEG"
                data = tools.make_jpeg(photo_id, form=form)
                spool.add(photo_id, f"photos/{photo_id}/medium.jpg", data, inspect(data))
            return spool.publish(into or lake, "medium")

    return run


def test_the_order_of_arrival_does_not_matter(publish, lake):
    ids = list(range(1, 60))
    first = publish(ids)
    tar, index = lake.get(shard_key("medium", first.sha256)), lake.get(index_key("medium", first.sha256))
    for key in (shard_key("medium", first.sha256), index_key("medium", first.sha256)):
        lake.delete(key)
    random.Random(1).shuffle(ids)
    assert publish(ids) == first
    assert lake.get(shard_key("medium", first.sha256)) == tar
    assert lake.get(index_key("medium", first.sha256)) == index


def test_the_name_is_the_digest(publish, lake):
    shard = publish([3, 1, 2])
    data = lake.get(shard_key("medium", shard.sha256))
    assert hashlib.sha256(data).hexdigest() == shard.sha256
    assert (len(data), shard.images) == (shard.size, 3)
    assert shard_key("medium", shard.sha256).startswith(f"shards/medium/{shard.sha256[:2]}/")


def test_tar_reads_it_and_its_members_are_in_order(publish, lake, tools):
    shard = publish([10, 9, 7])
    with tarfile.open(lake.uri(shard_key("medium", shard.sha256))) as tar:
        members = tar.getmembers()
        assert tar.getnames() == ["7.png", "7.json", "9.jpg", "9.json", "10.jpg", "10.json"]
        assert {(one.mtime, one.uid, one.gid, one.mode, one.uname) for one in members} == {
            (0, 0, 0, 0o644, "")
        }
        assert tar.extractfile("9.jpg").read() == tools.make_jpeg(9)
        sidecar = json.load(tar.extractfile("9.json"))
    assert sidecar == {
        "photo_id": 9,
        "sha256": hashlib.sha256(tools.make_jpeg(9)).hexdigest(),
        "width": 96,
        "height": 80,
        "format": "jpeg",
        "source_file": "photos/9/medium.jpg",
    }
    assert shard.size % 10240 == 0


def test_the_archive_is_what_tarfile_would_write(publish, lake, tmp_path):
    shard = publish([10, 9, 7])
    path = tmp_path / "again.tar"
    with (
        tarfile.open(lake.uri(shard_key("medium", shard.sha256))) as tar,
        tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as again,
    ):
        for member in tar:
            plain = tarfile.TarInfo(member.name)
            plain.size = member.size
            again.addfile(plain, tar.extractfile(member))
    assert path.read_bytes() == lake.get(shard_key("medium", shard.sha256))


def test_the_index_finds_every_image(publish, lake, tools):
    shard = publish(range(1, 30))
    table = lake.get(index_key("medium", shard.sha256))
    rows = pq.read_table(pa.BufferReader(table)).to_pylist()
    assert [row["photo_id"] for row in rows] == list(range(1, 30))
    for row in rows:
        data = lake.get_range(shard_key("medium", shard.sha256), row["offset"], row["size"])
        assert hashlib.sha256(data).digest() == row["sha256"]
        assert (row["dhash"], row["file_name"]) == (
            inspect(data).dhash,
            f"{row['photo_id']}.{inspect(data).extension}",
        )


def test_the_index_has_the_columns_of_the_schema(publish, lake):
    shard = publish([1])
    schema = pq.read_schema(pa.BufferReader(lake.get(index_key("medium", shard.sha256))))
    expected = {
        field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        for field in INDEX
    }
    assert {field.name: field.type for field in schema} == expected


def test_no_image_makes_no_shard(publish, lake):
    assert publish([]) is None
    assert list(lake.list("shards")) == []


def test_a_photo_comes_once(publish):
    with pytest.raises(LakeError, match="came twice"):
        publish([1, 1])


def test_nothing_is_left_in_the_scratch_space(publish, lake):
    publish([1, 2])
    assert list((lake.path / ".tmp").iterdir()) == []


def test_a_full_disk_is_told_and_leaves_no_shard(publish, lake, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lakehouse.images.shard.Spool._append", full)
    with pytest.raises(LakeError, match="No space left on device"):
        publish([1])
    assert list(lake.list("shards")) == []
