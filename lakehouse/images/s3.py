"""`s3://bucket/key` on the wire: the address that HTTP knows it by, and the signature, if there are keys."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from lakehouse.images.wire import Signature
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.sources.transport import S3Transport


class S3Access:
    """The buckets that these settings reach: anonymously, or signed where the settings hold keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._buckets: dict[str, S3Transport] = {}

    @property
    def signature(self) -> Signature | None:
        """What requests are signed with; None if they are anonymous."""
        settings = self._settings
        if not settings.aws_access_key_id or not settings.aws_secret_access_key:
            return None
        token = settings.aws_session_token
        return Signature(
            settings.aws_region,
            settings.aws_access_key_id,
            settings.aws_secret_access_key.get_secret_value(),
            token.get_secret_value() if token else None,
        )

    def url(self, uri: str) -> str:
        """The HTTP address of an `s3://` URI, without credentials."""
        # Only where S3 is asked: the AWS client takes a tenth of a process's memory.
        from lakehouse.sources.transport import S3Transport

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if bucket not in self._buckets:
            self._buckets[bucket] = S3Transport(f"s3://{bucket}", self._settings)
        # As S3 escapes what it signs: a plus too, and a percent sign that is part of the key.
        return self._buckets[bucket].url(quote(key, safe="/~"))

    def close(self) -> None:
        """Give back what was opened to know the addresses."""
        for bucket in self._buckets.values():
            bucket.close()
        self._buckets.clear()
