"""A lake with one version, and a real Dagster on it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.operations.control import Control, dagster, free_port
from lakehouse.campaign import load_campaign
from lakehouse.cli import runs
from lakehouse.demo.bucket import write_bucket
from lakehouse.lake import open_lake
from lakehouse.settings import Settings
from tests.conftest import PHOTOS, ROOT, forget_settings


@dataclass(frozen=True, slots=True)
class Running:
    """A lake that holds demo@v1, its campaign files and list of removals, Dagster running on it, and what its
    webhook was told."""

    path: Path
    campaigns: Path
    removals: Path
    dagster: Control
    told: list[dict[str, str]] = field(default_factory=list)

    def month(self, number: int) -> None:
        """Let the source serve another month."""
        write_bucket(self.path / "embedded-source", number, photos=PHOTOS)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Dagster on a lake of its own; all tests of a module share it, for it takes a while to start."""
    folder = tmp_path_factory.mktemp("running")
    lake_path, campaigns, told = folder / "lake", folder / "campaigns", []
    removals = folder / "removals.csv"
    removals.write_text("photo_id\n")
    campaigns.mkdir()
    shutil.copy(ROOT / "campaigns" / "demo.yaml", campaigns)
    with pytest.MonkeyPatch.context() as patch:
        forget_settings(patch)
        patch.setenv("LAKEHOUSE_ROOT", str(lake_path))
        lake = open_lake(str(lake_path), Settings(_env_file=None))
        write_bucket(lake_path / "embedded-source", 1, photos=PHOTOS)
        runs.build(lake, load_campaign(campaigns / "demo.yaml"))
        patch.delenv("DAGSTER_HOME", raising=False)
    with webhook(told) as address:
        environment = {
            "LAKEHOUSE_ROOT": str(lake_path),
            "LAKEHOUSE_CAMPAIGNS": str(campaigns),
            "LAKEHOUSE_REMOVALS": str(removals),
            "LAKEHOUSE_WEBHOOK_URL": address,
        }
        with dagster(lake_path / "dagster", environment) as control:
            yield Running(lake_path, campaigns, removals, control, told)


def webhook(told: list[dict[str, str]]) -> _Webhook:
    """A server on loopback that keeps what is posted to it."""
    return _Webhook(told)


class _Webhook:
    def __init__(self, told: list[dict[str, str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port(27_500)), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/secret-path"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
