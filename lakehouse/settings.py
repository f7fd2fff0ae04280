"""What is set outside a campaign file: `LAKEHOUSE_*` environment variables (and the ordinary `AWS_*`,
`HF_TOKEN`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.errors import UsageError

Check = Literal["decode", "header"]

OPEN_DATA_URL = "https://inaturalist-open-data.s3.amazonaws.com"


class Settings(BaseSettings):
    """Settings in force; secrets are masked wherever they are printed."""

    model_config = SettingsConfigDict(
        env_prefix="LAKEHOUSE_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    root: str = Field("./lake", description="The lake: a local path or s3://bucket/prefix")
    source: str = Field(
        OPEN_DATA_URL, description="iNaturalist Open Data or a mirror: https://, http://, s3://, path"
    )
    campaigns: Path = Field(Path("campaigns"), description="Folder of campaign files")
    connections: int = Field(
        64, ge=1, le=1024, description="Concurrent photo downloads, of all workers together"
    )
    rate: float | None = Field(None, gt=0, description="Requests per second and host; unset: no fixed limit")
    engine: str = Field(
        "processes",
        description="Where shards are built: processes (one a core), processes:N, inline, dask://host:port",
    )
    check: Check = Field(
        "decode", description="decode: every image is decoded; header: only its header and end are looked at"
    )
    max_shrink: float = Field(
        0.5, ge=0, le=1, description="Share of its rows that a table may lose from one release to the next"
    )
    max_spread_days: float = Field(
        20, ge=0, description="Days that the dates of a release's tables may lie apart"
    )
    public_url: str | None = Field(
        None, description="Where the lake's files can be read by others, if anywhere"
    )
    ckan_url: str | None = Field(None, description="CKAN to publish to")
    ckan_token: SecretStr | None = Field(None, description="CKAN API token")
    removals: Path | None = Field(
        None, description="A list of photos to take out of every snapshot, watched by a sensor"
    )
    webhook_url: SecretStr | None = Field(
        None, description="Where a failed run is told of (JSON with `text`): https, or http on loopback"
    )
    s3_endpoint: str | None = Field(None, description="S3 endpoint other than AWS")
    aws_access_key_id: str | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr | None = Field(None, validation_alias="AWS_SESSION_TOKEN")
    aws_region: str = Field("us-east-1", validation_alias="AWS_REGION")
    hf_endpoint: str = Field(
        "https://huggingface.co", validation_alias="HF_ENDPOINT", description="The Hugging Face Hub"
    )
    hf_token: SecretStr | None = Field(None, validation_alias="HF_TOKEN")

    @field_validator("webhook_url")
    @classmethod
    def _told_in_private(cls, url: SecretStr | None) -> SecretStr | None:
        # The address is the secret: it says who may post.
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
            if not parts.hostname or not (parts.scheme == "https" or here):
                raise ValueError("it must be an https:// address, or http:// on this machine")
        return url

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        if not re.fullmatch(r"inline|processes(:[1-9]\d{0,2})?|dask://[^/\s@]+:\d{1,5}", engine):
            raise ValueError(f"{engine!r} is not processes, processes:N, inline or dask://host:port")
        return engine


def load_settings() -> Settings:
    """Read the settings from the environment; raises UsageError naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0])
        variable = name if name.isupper() else f"LAKEHOUSE_{name.upper()}"
        raise UsageError(f"{variable}: {first['msg']}; correct it in the environment") from None
