"""Versions on a real S3 server: one publisher wins, photos go, garbage goes, small shards become one."""

from __future__ import annotations

import os
import uuid
from datetime import timedelta
from typing import Any

import boto3
import pytest

from lakehouse.lake import Lake, open_lake
from lakehouse.settings import load_settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.housekeeping import compact, gc
from lakehouse.snapshots.removal import RemovalRequest, remove
from lakehouse.snapshots.verify import verify
from tests.snapshots.faults import Killed, bury_holder, fused
from tests.snapshots.mini import COPY, FIRST, NEW, Pond, build, frogs, picture, second_month, stock
from tests.snapshots.scan import traces
from tests.snapshots.test_changes import race

pytestmark = [
    pytest.mark.s3,
    pytest.mark.skipif(
        "LAKEHOUSE_S3_ENDPOINT" not in os.environ,
        reason="needs a real S3 server: set LAKEHOUSE_S3_ENDPOINT, AWS_*",
    ),
]


@pytest.fixture
def lake() -> Lake:
    """An empty lake in a bucket of its own."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=os.environ["LAKEHOUSE_S3_ENDPOINT"]).create_bucket(Bucket=bucket)
    return open_lake(f"s3://{bucket}/lake", load_settings())


@pytest.fixture
def lived_in(lake: Lake, pond: Pond) -> Lake:
    """frogs@v1 and frogs@v2."""
    stock(pond)
    build(lake, pond, frogs())
    second_month(pond)
    build(lake, pond, frogs())
    return lake


def test_of_many_publishers_exactly_one_wins(lake: Lake, ponds: Any) -> None:
    for number in range(1, 6):
        version = ponds.one.version.model_copy(update={"campaign": f"race-{number}"})
        won, told = race(lake, version, 8)
        assert (won, len(told)) == (1, 7)
        assert all(f"another run published race-{number}@v1" in text for text in told)


def test_the_content_is_that_of_a_lake_on_disk(lived_in: Lake, ponds: Any) -> None:
    version = refs.resolve(lived_in, "frogs@v2")
    assert refs.read_root(lived_in, version.snapshot_id).content_id == ponds.two.root.content_id
    assert verify(lived_in, "frogs@v2").problems == ()


def test_photos_are_taken_back_through_interruptions(lived_in: Lake) -> None:
    requests = [RemovalRequest(NEW), RemovalRequest(FIRST + 2, "privacy")]
    kills = 0
    for number in (3, 9.5, 17, 28.5, 40):  # what is left to do becomes less each time
        try:
            with fused(at=number):
                remove(lived_in, requests)
        except Killed:
            kills += 1
        bury_holder(lived_in)
    assert kills >= 3
    remove(lived_in, requests)
    assert traces(lived_in, [NEW, FIRST + 2], ["login41", "Person Number41"], [picture(NEW)]) == []
    for ref in ("frogs@v1", "frogs@v2"):
        assert verify(lived_in, ref).problems == ()


def test_garbage_goes_and_small_shards_become_one(lived_in: Lake, pond: Pond) -> None:
    lived_in.put(f"snapshots/parts/{'f' * 64}.parquet", b"orphan")
    found = gc(lived_in, dry_run=False, grace=timedelta(seconds=-5))
    assert found.deleted == (f"snapshots/parts/{'f' * 64}.parquet",)
    done = compact(lived_in)
    assert done.merged > 1
    assert done.made == 1
    later = build(lived_in, pond, frogs())
    assert later.version.kinds == ("repacked",)
    for ref in ("frogs@v1", "frogs@v2", "frogs@v3"):
        assert verify(lived_in, ref).problems == ()
    assert COPY not in {sample.photo_id for sample in _samples(lived_in)}


def _samples(lake: Lake) -> Any:
    from lakehouse.snapshots.read import Snapshot

    return Snapshot(lake, refs.resolve(lake, "frogs@latest")).samples()
