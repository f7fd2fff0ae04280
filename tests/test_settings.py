"""Settings come from the environment; secrets are never printed, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.errors import UsageError
from lakehouse.settings import OPEN_DATA_URL, Settings, load_settings

ROOT = Path(__file__).parents[1]
SECRETS = ("LAKEHOUSE_CKAN_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN")


def test_the_default_source_is_the_public_bucket() -> None:
    settings = load_settings()
    assert (settings.root, settings.source, settings.connections) == ("./lake", OPEN_DATA_URL, 64)


def test_a_variable_overrides_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_CONNECTIONS", "8")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    settings = load_settings()
    assert (settings.connections, settings.aws_region) == (8, "eu-central-1")


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAKEHOUSE_RATE", "LAKEHOUSE_CKAN_URL", "AWS_REGION", "LAKEHOUSE_ROOT"):
        monkeypatch.setenv(name, "")
    assert load_settings() == Settings()
    assert load_settings().aws_region == "us-east-1"


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_is_masked_wherever_it_is_printed(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "open-sesame")
    settings = load_settings()
    printed = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "open-sesame" not in printed
    assert "*****" in printed


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAKEHOUSE_CONNECTIONS", "0"),
        ("LAKEHOUSE_ENGINE", "processes:0"),
        ("LAKEHOUSE_ENGINE", "ray://here:1"),
        ("LAKEHOUSE_CONNECTIONS", "many"),
        ("LAKEHOUSE_RATE", "-1"),
        ("LAKEHOUSE_RATE", "fast"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"^{variable}: .*; correct it in the environment$"):
        load_settings()


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    variables = [
        str(field.validation_alias or f"LAKEHOUSE_{name.upper()}")
        for name, field in Settings.model_fields.items()
        if name != "hf_token"  # nothing reads it yet
    ]
    assert [variable for variable in variables if f"`{variable}`" not in text] == []


@pytest.mark.parametrize("url", ["http://hooks.example.org/x", "ftp://hooks.example.org", "nothing"])
def test_a_webhook_in_the_clear_is_refused_without_telling_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("LAKEHOUSE_WEBHOOK_URL", url)
    with pytest.raises(UsageError, match="LAKEHOUSE_WEBHOOK_URL: ") as refused:
        load_settings()
    assert url not in str(refused.value)


@pytest.mark.parametrize("url", ["https://hooks.example.org/x", "http://127.0.0.1:9/x"])
def test_a_webhook_is_taken_by_https_or_on_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LAKEHOUSE_WEBHOOK_URL", url)
    assert load_settings().webhook_url is not None
