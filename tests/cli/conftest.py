"""The command line run in this process, and small buckets and campaign files to run it on."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from lakehouse.cli import main
from tests.conftest import ROOT, DemoLake
from tests.metadata.conftest import Bucket


@dataclass(frozen=True, slots=True)
class Said:
    """What a command ended with and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one sentence of a command that was refused; fails if it said anything else."""
        lines = self.err.splitlines()
        assert self.out == "", f"a refusal says nothing on standard output: {self.out}"
        assert len(lines) == 1, f"a refusal is one sentence: {self.err}"
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


class Lakehouse:
    """`lakehouse ARGUMENTS...` in this process, with the environment that the test has set."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capsys, self._patch = capsys, patch
        patch.setenv("COLUMNS", "300")  # or tables break their lines
        patch.setenv("LAKEHOUSE_CAMPAIGNS", str(ROOT / "campaigns"))

    def __call__(self, *arguments: object) -> Said:
        root, home = os.environ.get("LAKEHOUSE_ROOT"), os.environ.get("DAGSTER_HOME")
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        # A build points its own process at the lake's Dagster; a command of its own does not see that.
        for name, value in (("LAKEHOUSE_ROOT", root), ("DAGSTER_HOME", home)):
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        printed = self._capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, printed.out, printed.err)

    def at(self, root: Path) -> Lakehouse:
        """The same, on the lake at `root`."""
        self._patch.setenv("LAKEHOUSE_ROOT", str(root))
        return self


@pytest.fixture
def lakehouse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Lakehouse:
    """The command on a new lake."""
    return Lakehouse(capsys, monkeypatch).at(tmp_path / "lake")


@pytest.fixture
def on_demo(lakehouse: Lakehouse, demo: DemoLake) -> Lakehouse:
    """The command on the demo's lake, to read it."""
    return lakehouse.at(demo.path)


@pytest.fixture
def on_copy(lakehouse: Lakehouse, harmed_demo: DemoLake) -> Lakehouse:
    """The command on a copy of the demo's lake, to write to it."""
    return lakehouse.at(harmed_demo.path)


def photograph(shade: int) -> bytes:
    """A small JPEG; every shade is another file."""
    data = io.BytesIO()
    Image.linear_gradient("L").point(lambda value: (value + shade) % 256).save(data, "JPEG")
    return data.getvalue()


class Pond(Bucket):
    """A bucket of frogs with photographs."""

    def frog(self, photo_id: int, taxon: int, picture: bytes | None = None) -> None:
        """Add a research-grade observation with one CC-BY photo, which looks as `picture`."""
        self.observe(photo_id, taxon)
        self.photograph(photo_id, photo_id)
        self.show(photo_id, photograph(photo_id) if picture is None else picture)

    def show(self, photo_id: int, picture: bytes) -> None:
        """Put a picture under a photo's key."""
        file = self.directory / "photos" / str(photo_id) / "medium.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture)


@pytest.fixture
def pond(tmp_path: Path) -> Pond:
    """Three photos of Rana una, two of Rana dua, two of Hyla una."""
    pond = Pond(tmp_path / "pond")
    for photo_id, taxon in enumerate((102, 102, 102, 103, 103, 111, 111), start=1):
        pond.frog(photo_id, taxon)
    pond.write()
    return pond


@pytest.fixture
def campaign_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a campaign file of frogs; what is given replaces what it would say."""

    def write(**values: object) -> Path:
        said = {
            "name": "frogs",
            "title": "Frogs",
            "description": "Frogs of a pond.",
            "creators": [{"name": "Ann Other"}],
            "source": str(tmp_path / "pond"),
            "taxa": ["Rana", "Hyla"],
            **values,
        }
        path = tmp_path / f"{said['name']}.yaml"
        path.write_text(yaml.safe_dump(said, sort_keys=False))
        return path

    return write
