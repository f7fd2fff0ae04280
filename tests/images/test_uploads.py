"""Uploads that nobody will finish."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError

from lakehouse.errors import LakeError
from lakehouse.images import uploads
from lakehouse.lake import Lake, open_lake
from lakehouse.settings import Settings, load_settings

NOW = datetime.now(UTC)


class Bucket:
    """What is asked of an S3 client, answered from memory."""

    def __init__(self, ages: list[timedelta], code: str = "") -> None:
        self.uploads = [
            {"Key": f"lake/shards/{n}.tar", "UploadId": str(n), "Initiated": NOW - age}
            for n, age in enumerate(ages)
        ]
        self.code, self.aborted, self.asked = code, [], {}

    def get_paginator(self, name):
        assert name == "list_multipart_uploads"
        return self

    def paginate(self, **asked):
        if self.code:
            raise ClientError({"Error": {"Code": self.code}}, "ListMultipartUploads")
        self.asked = asked
        return [{}, {"Uploads": self.uploads}]

    def abort_multipart_upload(self, **which):
        self.aborted.append(which["UploadId"])

    def close(self):
        return None


@pytest.fixture
def bucket_of(monkeypatch):
    def run(bucket: Bucket) -> int:
        monkeypatch.setattr(uploads, "_client", lambda lake: bucket)
        return uploads.abort_abandoned(Lake("s3://bucket/lake", Settings()))

    return run


def test_only_old_uploads_of_shards_are_aborted(bucket_of):
    bucket = Bucket([timedelta(hours=1), timedelta(days=2), timedelta(days=30)])
    assert bucket_of(bucket) == 2
    assert bucket.aborted == ["1", "2"]
    assert bucket.asked == {"Bucket": "bucket", "Prefix": "lake/shards/"}


def test_who_may_not_list_uploads_may_work_all_the_same(bucket_of):
    assert bucket_of(Bucket([], "AccessDenied")) == 0


def test_another_error_is_told(bucket_of):
    with pytest.raises(LakeError, match="cannot list the uploads"):
        bucket_of(Bucket([], "NoSuchBucket"))


def test_a_server_that_is_not_there_is_told(tools):
    settings = Settings(s3_endpoint=f"http://127.0.0.1:{tools.free_port()}")
    with pytest.raises(LakeError, match="cannot list the uploads"):
        uploads.abort_abandoned(Lake("s3://bucket/lake", settings))


def test_a_local_lake_has_none(lake):
    assert uploads.abort_abandoned(lake) == 0


@pytest.mark.s3
@pytest.mark.skipif("LAKEHOUSE_S3_ENDPOINT" not in os.environ, reason="needs a real S3 server")
def test_a_real_server_forgets_them():
    name, client = (
        f"test-{uuid.uuid4().hex[:12]}",
        boto3.client("s3", endpoint_url=os.environ["LAKEHOUSE_S3_ENDPOINT"]),
    )
    client.create_bucket(Bucket=name)
    client.create_multipart_upload(Bucket=name, Key="lake/shards/medium/ab/x.tar")
    client.create_multipart_upload(Bucket=name, Key="elsewhere/x.tar")
    lake = open_lake(f"s3://{name}/lake", load_settings())
    assert uploads.abort_abandoned(lake) == 0
    assert uploads.abort_abandoned(lake, timedelta(seconds=-60)) == 1
    left = client.list_multipart_uploads(Bucket=name)["Uploads"]
    assert [upload["Key"] for upload in left] == ["elsewhere/x.tar"]
