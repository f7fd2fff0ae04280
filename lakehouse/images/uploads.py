"""Multipart uploads that a killed run left behind on S3: invisible, but their parts are stored and paid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.errors import LakeError
from lakehouse.lake import Lake

ABANDONED = timedelta(days=1)  # longer than any upload of a shard takes
# A role that may write objects need not be allowed to list uploads; a rule of the bucket cleans up there.
_NOT_OURS = ("AccessDenied", "NotImplemented", "MethodNotAllowed")


def abort_abandoned(lake: Lake, older_than: timedelta = ABANDONED) -> int:
    """Abort the uploads of shards begun longer ago; how many there were (none on a local disk)."""
    if lake.is_local:
        return 0
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = lake.root.removeprefix("s3://").partition("/")
    client = _client(lake)
    aborted, latest = 0, datetime.now(UTC) - older_than
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket, Prefix=f"{prefix}/shards/" if prefix else "shards/"
        )
        for upload in (upload for page in pages for upload in page.get("Uploads", [])):
            if upload["Initiated"] < latest:
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                aborted += 1
    except (BotoCoreError, ClientError) as error:
        told = error.response.get("Error", {}) if isinstance(error, ClientError) else {}
        if told.get("Code") not in _NOT_OURS:
            raise LakeError(
                f"cannot list the uploads of {lake.root}: {error}; check LAKEHOUSE_ROOT and its credentials"
            ) from error
    finally:
        client.close()
    return aborted


def _client(lake: Lake) -> Any:
    # Only where the lake is on S3: the AWS client takes a tenth of a process's memory.
    from lakehouse.sources.transport import s3_client

    return s3_client(lake.settings)
