from __future__ import annotations

import re
from pathlib import Path

import pytest

from lakehouse.errors import CampaignError
from lakehouse.lake import Lake
from lakehouse.settings import OPEN_DATA_URL, Settings
from lakehouse.sources import embedded_directory, open_source, source_name_of


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), Settings(source=OPEN_DATA_URL))


def test_inaturalist_is_what_the_settings_say(tmp_path: Path) -> None:
    with open_source(
        "inaturalist", Lake(str(tmp_path), Settings(source="https://mirror.example/x"))
    ) as source:
        assert (source.name, source.reference_url) == ("inaturalist", "https://mirror.example/x")
    with open_source("inaturalist", Lake(str(tmp_path), Settings(source=OPEN_DATA_URL))) as source:
        assert source.photo_url(1, "jpg", "medium") == f"{OPEN_DATA_URL}/photos/1/medium.jpg"


@pytest.mark.parametrize(
    "address", ["https://mirror.example/open-data/", "s3://bucket/prefix", "http://h:8000"]
)
def test_an_address_is_a_mirror_with_a_name_of_its_own(lake: Lake, address: str) -> None:
    with open_source(address, lake) as source:
        assert re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{6}", source.name)
        assert source.name == source_name_of(address)
    assert source_name_of(address) != source_name_of(address + "-other")


def test_a_directory_is_a_mirror(lake: Lake, tmp_path: Path) -> None:
    with open_source(str(tmp_path), lake) as source:
        assert source.name == source_name_of(str(tmp_path))


@pytest.mark.parametrize("name", ["inat", "ftp://example.org", "no/such/directory", ""])
def test_anything_else_is_an_error_that_lists_the_choices(lake: Lake, name: str) -> None:
    with (
        pytest.raises(CampaignError, match="give 'inaturalist', 'embedded', an http"),
        open_source(name, lake),
    ):
        pass


def test_the_embedded_source_lives_beside_a_local_lake(lake: Lake) -> None:
    assert embedded_directory(lake) == lake.path / "embedded-source"


def test_the_embedded_source_is_drawn_once_and_served(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = pytest.importorskip("lakehouse.demo.bucket")
    calls = []

    def write(directory: Path, month: int = 1) -> None:
        calls.append(month)
        directory.mkdir(parents=True)
        for table in ("observations", "observers", "photos", "taxa"):
            (directory / f"{table}.csv.gz").write_bytes(b"x")

    monkeypatch.setattr(bucket, "write_bucket", write)
    monkeypatch.setattr(bucket, "current_month", lambda directory: 1 if directory.is_dir() else None)
    for _ in range(2):
        with open_source("embedded", lake) as source:
            assert (source.name, source.reference_url) == ("embedded", "embedded:")
            assert source.current_release().source == "embedded"
            assert source.photo_url(1, "jpg", "medium").startswith("http://127.0.0.1:")
    assert calls == [1]
