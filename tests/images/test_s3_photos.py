"""Photographs behind `s3://`: asked for anonymously, or signed where there are keys."""

from __future__ import annotations

import os
import uuid
from urllib.parse import urlsplit

import boto3
import polars as pl
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lakehouse.campaign import ImageSpec
from lakehouse.images.answers import PhotoRequest
from lakehouse.images.build import store_photos
from lakehouse.images.fetch import CurlFetcher
from lakehouse.images.lease import lease
from lakehouse.images.shard import index_key
from lakehouse.images.task import source_file
from lakehouse.lake import open_lake
from lakehouse.settings import Settings, load_settings
from lakehouse.sources.inaturalist import InaturalistSource

SECRET, TOKEN = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token-of-a-role=="
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1"}


@pytest.fixture
def ask(server, hasty, monkeypatch):
    """Fetch photo 7 of a bucket; the answer, and the headers the server got."""

    def run(path="/bucket/dump/photos/7/medium.jpg", **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server.routes.setdefault(path, lambda handler: handler.reply(200, b"image"))
        settings = Settings(s3_endpoint=server.url, connections=4)
        source = InaturalistSource("mirror", "s3://bucket/dump", settings)
        request = PhotoRequest(7, source.photo_url(7, "jpg", "medium"))
        return next(iter(CurlFetcher(settings, hasty).fetch([request]))), server.seen

    return run


def test_without_keys_nothing_is_signed(ask):
    answer, seen = ask()
    assert (answer.problem, answer.body) == (None, b"image")
    assert "Authorization" not in seen["/bucket/dump/photos/7/medium.jpg"]


@pytest.mark.parametrize("token", [None, TOKEN])
def test_with_keys_every_request_carries_the_signature_aws_would_make(ask, server, token):
    extra = {"AWS_SESSION_TOKEN": token} if token else {}
    answer, seen = ask(**KEYS, **extra)
    assert answer.body == b"image"
    headers = seen["/bucket/dump/photos/7/medium.jpg"]
    scope = headers["Authorization"].split("Credential=")[1].split(",")[0].split("/", 1)[1]
    names = headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert scope.endswith("/eu-central-1/s3/aws4_request")
    given = {name.lower(): value for name, value in headers.items()}
    signed = AWSRequest(
        "GET", server.url + "/bucket/dump/photos/7/medium.jpg", headers={name: given[name] for name in names}
    )
    signed.context["timestamp"] = given["x-amz-date"]
    signer = S3SigV4Auth(Credentials("AKIDEXAMPLE", SECRET, token), "s3", "eu-central-1")
    text = signer.string_to_sign(signed, _canonical(signed, names, given))
    assert f"Signature={signer.signature(text, signed)}" in headers["Authorization"]
    assert given.get("x-amz-security-token") == token


def _canonical(request, names, given):
    lines = [f"{name}:{given[name].strip()}" for name in names]
    path = urlsplit(request.url).path
    return "\n".join(["GET", path, "", *lines, "", ";".join(names), given["x-amz-content-sha256"]])


def test_keys_are_never_shown(ask, capfd):
    answer, _ = ask(**KEYS, AWS_SESSION_TOKEN=TOKEN)
    shown = repr(answer) + "".join(capfd.readouterr())
    assert SECRET not in shown and TOKEN not in shown


def test_a_redirect_is_not_signed(ask, server):
    server.routes["/elsewhere.jpg"] = lambda handler: handler.reply(200, b"moved")
    path = "/bucket/dump/photos/7/medium.jpg"
    server.routes[path] = lambda handler: handler.reply(302, b"", Location="/elsewhere.jpg")
    answer, seen = ask(**KEYS)
    assert answer.body == b"moved"
    assert "Authorization" in seen[path] and "Authorization" not in seen["/elsewhere.jpg"]


def test_the_source_file_is_the_same_as_over_http():
    assert source_file("s3://bucket/dump/photos/7/medium.jpg") == "photos/7/medium.jpg"
    assert source_file("s3://bucket/photos/7/medium.jpg") == "photos/7/medium.jpg"


@pytest.mark.s3
@pytest.mark.skipif("LAKEHOUSE_S3_ENDPOINT" not in os.environ, reason="needs a real S3 server")
def test_a_real_server_accepts_the_signature_and_refuses_strangers(tools):
    settings = load_settings()
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3", endpoint_url=settings.s3_endpoint)
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="photos/7/a b+c.jpg", Body=tools.make_jpeg(7))
    client.put_object(Bucket=bucket, Key="photos/7/medium.jpg", Body=tools.make_jpeg(7))
    stranger = settings.model_copy(update={"aws_access_key_id": None})
    for name in ("medium.jpg", "a b+c.jpg"):
        request = PhotoRequest(7, f"s3://{bucket}/photos/7/{name}")
        assert next(iter(CurlFetcher(settings).fetch([request]))).body == tools.make_jpeg(7)
        assert next(iter(CurlFetcher(stranger).fetch([request]))).problem.reason == "http_403"


@pytest.mark.s3
@pytest.mark.skipif("LAKEHOUSE_S3_ENDPOINT" not in os.environ, reason="needs a real S3 server")
def test_from_a_private_bucket_into_a_lake_on_s3(tools):
    settings = load_settings()
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3", endpoint_url=settings.s3_endpoint)
    client.create_bucket(Bucket=bucket)
    for photo_id in range(1, 21):
        client.put_object(Bucket=bucket, Key=f"photos/{photo_id}/medium.jpg", Body=tools.make_jpeg(photo_id))
    photos = pl.DataFrame(
        {"photo_id": range(1, 21), "url": [f"s3://{bucket}/photos/{one}/medium.jpg" for one in range(1, 21)]}
    )
    lake = open_lake(f"s3://{bucket}/lake", settings)
    with lease(lake, "campaigns/c/shards/k.lease"):
        report = store_photos(lake, "mirror", photos, image=ImageSpec(), settings=settings)
    assert (report.stored, len(report.shards_now)) == (20, 1)
    assert store_photos(lake, "mirror", photos, image=ImageSpec(), settings=settings).fetched_now == 0
    assert lake.exists(index_key("medium", report.shards_now[0]))
    assert not lake.exists("campaigns/c/shards/k.lease")
