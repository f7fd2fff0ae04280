"""How bytes of a source are reached: HTTP, S3 and local directories behind one small protocol.

All three give the bytes exactly as they are stored. The Open Data objects carry `Content-Encoding: gzip`,
so that a client which decodes on its own would return something whose size and ETag match nothing.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import boto3
import botocore.exceptions
import httpx
from botocore import UNSIGNED
from botocore.config import Config

from lakehouse.errors import SourceError, UnreachableError
from lakehouse.settings import Settings

CHUNK = 1 << 20
RESUMES = 6
# A resume that got this far counts as progress, and the count of resumes starts again.
_PROGRESS = 64 << 20
_TIMEOUT = httpx.Timeout(60, connect=20)


@dataclass(frozen=True, slots=True)
class Head:
    """What a source says of one file: bytes, ETag without quotes, Last-Modified as an HTTP date.

    `digest` tells whether the ETag may be a digest of the bytes.
    """

    size: int
    etag: str
    last_modified: str | None
    digest: bool = True


class Transport(Protocol):
    """Reads files below one root."""

    def head(self, name: str) -> Head | None:
        """What is known of `name`, None if absent; raises SourceError if the source cannot be reached."""

    def read(self, name: str, etag: str, size: int) -> Iterator[bytes]:
        """The stored bytes of `name`; raises SourceError if they are not those of `etag` and `size`."""

    def location(self, name: str) -> str:
        """Where `name` is, for messages."""

    def url(self, name: str) -> str:
        """The URL any HTTP client (or `file://` reader) fetches `name` from."""

    def close(self) -> None:
        """Give back connections."""


def open_transport(uri: str, settings: Settings) -> Transport:
    """The transport for `http(s)://`, `s3://bucket/prefix` or a directory; raises SourceError for others."""
    if uri.startswith(("http://", "https://")):
        return HttpTransport(uri)
    if uri.startswith("s3://"):
        return S3Transport(uri, settings)
    if "://" in uri:
        raise SourceError(f"source {uri} is of no known kind: give http://, https://, s3:// or a directory")
    return DirectoryTransport(Path(uri))


class HttpTransport:
    """Files below an HTTP(S) address.

    Parameters
    ----------
    base
        The address; file names are appended after a slash.
    client
        An httpx client to use; by default one of its own.
    pause
        Seconds before the first resume; each following pause doubles.
    """

    def __init__(self, base: str, client: httpx.Client | None = None, pause: float = 0.5) -> None:
        self._base = base.rstrip("/")
        # identity: a mirror must not compress on the fly what it stores plain.
        self._client = client or httpx.Client(
            timeout=_TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}
        )
        self._pause = pause

    def location(self, name: str) -> str:
        """Where `name` is, for messages."""
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of `name`."""
        return f"{self._base}/{name}"

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    def head(self, name: str) -> Head | None:
        """What the server says of `name`; 403 and 404 mean absent (S3 says 403 without the right to list)."""
        url = self.url(name)
        response = _patiently(lambda: self._head(url), url, self._pause)
        if response.status_code in (403, 404, 410):
            return None
        if response.status_code != 200:
            raise SourceError(
                f"{url} answers {response.status_code}; check that the source is up and is public"
            )
        length = response.headers.get("content-length", "")
        if not length.isdigit():
            raise SourceError(f"{url} does not say its size; the server must send Content-Length")
        headers = response.headers
        return Head(int(length), _etag(response), headers.get("last-modified"), not _encrypted(headers))

    def _head(self, url: str) -> httpx.Response:
        response = self._client.head(url)
        if _worth_retrying(response.status_code):
            raise _Interrupted(f"answers {response.status_code}")
        return response

    def read(self, name: str, etag: str, size: int) -> Iterator[bytes]:
        """The raw bytes of `name`, resumed where the connection breaks; see `Transport.read`."""
        url = self.url(name)
        return _resumed(lambda offset: self._from(url, etag, size, offset), url, size, self._pause)

    def _from(self, url: str, etag: str, size: int, offset: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if _is_strong(etag):
            headers["If-Match"] = f'"{etag}"'
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                if _worth_retrying(response.status_code):
                    raise _Interrupted(f"answers {response.status_code}")
                if response.status_code in (412, 416) or _etag(response) != etag:
                    raise _changed(url)
                if response.status_code not in (200, 206):
                    raise SourceError(
                        f"{url} answers {response.status_code}; check that the source is up and is public"
                    )
                # A server that knows no ranges sends everything again.
                skip = offset if response.status_code == 200 else 0
                for chunk in response.iter_raw(CHUNK):
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    yield chunk[skip:]
                    skip = 0
        except httpx.TransportError as error:
            raise _Interrupted(str(error) or type(error).__name__) from error


class S3Transport:
    """Files below `s3://bucket/prefix`; unsigned where the settings hold no AWS credentials."""

    def __init__(self, uri: str, settings: Settings, pause: float = 0.5) -> None:
        self._uri = uri.rstrip("/")
        self._bucket, _, prefix = self._uri.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint = settings.s3_endpoint
        self._region = settings.aws_region
        self._pause = pause
        self._client = s3_client(settings)

    def location(self, name: str) -> str:
        """Where `name` is, for messages."""
        return f"{self._uri}/{name}"

    def url(self, name: str) -> str:
        """The URL of `name`: path style at an endpoint or for a dotted bucket, else virtual-hosted at AWS."""
        key = f"{self._prefix}{name}"
        if self._endpoint:
            return f"{self._endpoint.rstrip('/')}/{self._bucket}/{key}"
        host = "s3.amazonaws.com" if self._region == "us-east-1" else f"s3.{self._region}.amazonaws.com"
        # A dotted bucket name does not match the wildcard certificate.
        return (
            f"https://{host}/{self._bucket}/{key}"
            if "." in self._bucket
            else f"https://{self._bucket}.{host}/{key}"
        )

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    def head(self, name: str) -> Head | None:
        """What the bucket says of `name`, None if it is absent or not ours to see."""
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=f"{self._prefix}{name}")
        except botocore.exceptions.ClientError as error:
            if _status(error) in (403, 404):
                return None
            raise SourceError(
                f"{self.location(name)} cannot be read: {error}; check the bucket's name"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise UnreachableError(
                f"{self.location(name)} cannot be reached: {error}; check LAKEHOUSE_S3_ENDPOINT"
            ) from error
        return Head(
            int(found["ContentLength"]),
            found["ETag"].strip('"'),
            _http_date(found["LastModified"]),
            not _encrypted(found["ResponseMetadata"]["HTTPHeaders"]),
        )

    def read(self, name: str, etag: str, size: int) -> Iterator[bytes]:
        """The bytes of `name`, resumed where the connection breaks; see `Transport.read`."""
        return _resumed(lambda offset: self._from(name, etag, offset), self.location(name), size, self._pause)

    def _from(self, name: str, etag: str, offset: int) -> Iterator[bytes]:
        ranged = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=f"{self._prefix}{name}", IfMatch=f'"{etag}"', **ranged
            )
            if answer["ETag"].strip('"') != etag:
                raise _changed(self.location(name))
            yield from answer["Body"].iter_chunks(CHUNK)
        except botocore.exceptions.ClientError as error:
            if _status(error) in (412, 416):
                raise _changed(self.location(name)) from error
            if _worth_retrying(_status(error)):
                raise _Interrupted(f"answers {_status(error)}") from error
            raise SourceError(
                f"{self.location(name)} cannot be read: {error}; check the bucket's name"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise _Interrupted(str(error)) from error


class DirectoryTransport:
    """Files of a local directory; the ETag is `<mtime in ns, hex>-<size, hex>`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.expanduser().absolute()

    def location(self, name: str) -> str:
        """Where `name` is, for messages."""
        return str(self._directory / name)

    def url(self, name: str) -> str:
        """The `file://` URL of `name`."""
        return (self._directory / name).as_uri()

    def close(self) -> None:
        """Nothing is held open."""

    def head(self, name: str) -> Head | None:
        """Size and time of the file `name`, None if there is no such file."""
        try:
            stat = (self._directory / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceError(
                f"{self.location(name)} cannot be read: {error.strerror}; check its permissions"
            ) from error
        modified = _http_date(datetime.fromtimestamp(stat.st_mtime, UTC))
        return Head(stat.st_size, f"{stat.st_mtime_ns:x}-{stat.st_size:x}", modified)

    def read(self, name: str, etag: str, size: int) -> Iterator[bytes]:
        """The bytes of the file `name`; see `Transport.read`."""
        try:
            with (self._directory / name).open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise SourceError(
                f"{self.location(name)} cannot be read: {error.strerror}; check the directory"
            ) from error
        after = self.head(name)
        if after is None or after.etag != etag or after.size != size:
            raise _changed(self.location(name))


class _Interrupted(Exception):
    """The source failed in a way that may pass."""


def _patiently(call: Callable[[], httpx.Response], where: str, pause: float) -> httpx.Response:
    for attempt in range(RESUMES + 1):
        try:
            return call()
        except (httpx.TransportError, _Interrupted) as error:
            if attempt == RESUMES:
                reason = str(error) or type(error).__name__
                raise UnreachableError(
                    f"{where} cannot be reached: {reason}; check the address and the network"
                ) from error
            time.sleep(pause * 2**attempt)
    raise AssertionError("the loop returns or raises")


def _resumed(start: Callable[[int], Iterator[bytes]], where: str, size: int, pause: float) -> Iterator[bytes]:
    """Chunks of `start(offset)`, started again behind what was received until `size` bytes are there."""
    received, failures, mark = 0, 0, 0
    while True:
        reason = "the connection closed early"
        try:
            for chunk in start(received):
                received += len(chunk)
                if received > size:
                    raise _changed(where)
                yield chunk
        except _Interrupted as error:
            reason = str(error)
        if received == size:
            return
        if received - mark >= _PROGRESS:
            failures, mark = 0, received
        failures += 1
        if failures > RESUMES:
            raise UnreachableError(
                f"{where} broke off {failures} times, last after {received} of {size} bytes: {reason}; "
                "run it again later"
            )
        time.sleep(pause * 2 ** (failures - 1))


def _changed(where: str) -> SourceError:
    return SourceError(f"{where} changed while being read; run it again to take in the new release")


def _worth_retrying(status: int) -> bool:
    return status == 429 or status >= 500


def _etag(response: httpx.Response) -> str:
    """The ETag without its quotes; a server that sends none is identified by date and total size."""
    tag = response.headers.get("etag")
    if tag:
        return str(tag).strip('"') if not tag.startswith("W/") else str(tag)
    total = response.headers.get("content-range", "").rpartition("/")[2] or response.headers.get(
        "content-length", ""
    )
    return f"no-etag {response.headers.get('last-modified', '')} {total}"


def _encrypted(headers: Mapping[str, str]) -> bool:
    """Whether S3 keeps the object under a key of its owner; its ETag is no digest of it then."""
    managed = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    return managed or "x-amz-server-side-encryption-customer-algorithm" in headers


def _is_strong(etag: str) -> bool:
    return not etag.startswith(("W/", "no-etag "))


def _http_date(moment: datetime) -> str:
    return email.utils.format_datetime(moment.astimezone(UTC), usegmt=True)


def _status(error: botocore.exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def s3_client(settings: Settings) -> Any:
    """A client for the endpoint, region and keys of the settings; anonymous without keys."""
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    signed = bool(settings.aws_access_key_id and secret)
    return boto3.client(
        "s3",
        region_name=settings.aws_region,
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.aws_access_key_id if signed else None,
        aws_secret_access_key=secret.get_secret_value() if signed and secret else None,
        aws_session_token=token.get_secret_value() if signed and token else None,
        config=Config(
            signature_version=None if signed else UNSIGNED,
            s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
            retries={"max_attempts": 5, "mode": "standard"},
            # A checksum of the whole object cannot be checked on a range of it.
            response_checksum_validation="when_required",
        ),
    )
