"""The whole way on a lake in a real S3 server."""

from __future__ import annotations

import os
import uuid

import boto3
import pytest

from lakehouse.cli import runs
from lakehouse.demo.bucket import write_bucket
from lakehouse.errors import AlreadyExistsError
from lakehouse.lake import Lake, open_lake
from lakehouse.settings import load_settings
from lakehouse.snapshots.verify import verify
from tests.conftest import PHOTOS, DemoLake

pytestmark = [
    pytest.mark.s3,
    pytest.mark.skipif(
        "LAKEHOUSE_S3_ENDPOINT" not in os.environ,
        reason="needs a real S3 server: set LAKEHOUSE_S3_ENDPOINT, AWS_*",
    ),
]


@pytest.fixture
def s3_lake() -> Lake:
    """An empty lake in a bucket of its own."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=os.environ["LAKEHOUSE_S3_ENDPOINT"]).create_bucket(Bucket=bucket)
    return open_lake(f"s3://{bucket}/lake", load_settings())


def test_a_lake_on_s3_gets_the_same_snapshot_as_one_on_disk(
    s3_lake: Lake, demo: DemoLake, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    from pathlib import Path

    write_bucket(Path("embedded-source"), 1, photos=PHOTOS)
    built = runs.build(s3_lake, demo.campaign)
    assert isinstance(built, runs.Built)
    assert built.version.snapshot_id == demo.first.version.snapshot_id
    assert verify(s3_lake, built.version.ref).problems == ()


def test_an_object_that_must_be_new_is_written_once(s3_lake: Lake) -> None:
    s3_lake.create("refs/demo/v1", b"one")
    with pytest.raises(AlreadyExistsError):
        s3_lake.create("refs/demo/v1", b"two")
    assert s3_lake.get("refs/demo/v1") == b"one"
