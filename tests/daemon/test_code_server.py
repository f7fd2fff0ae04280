"""The code in a server of its own, as the guide says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.operations.control import dagster, free_port, serving
from lakehouse.cli import runs
from tests.conftest import ROOT, DemoLake

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(400)]


def test_the_web_server_loads_the_campaigns_from_a_code_server(
    harmed_demo: DemoLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(harmed_demo.path))
    home = runs.prepare_home(harmed_demo.lake)
    monkeypatch.delenv("DAGSTER_HOME")
    guide = (ROOT / "docs" / "operations.md").read_text()
    port = str(free_port(27_800))
    documented = guide.split("<!-- workspace.yaml for a code server -->\n```yaml\n")[1].split("```")[0]
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(documented.replace("4266", port))
    [command] = [line for line in guide.splitlines() if line.startswith("dagster code-server start")]
    arguments = command.replace("4266", port).split()[1:]
    environment = {"LAKEHOUSE_ROOT": str(harmed_demo.path), "LAKEHOUSE_CAMPAIGNS": str(ROOT / "campaigns")}
    program = [str(Path(sys.executable).with_name("dagster")), *arguments]
    with (
        serving(program, subprocess.DEVNULL, {"DAGSTER_HOME": str(home), **environment}),
        dagster(home, environment, workspace) as control,
    ):
        control.wait(lambda: "demo/snapshot" in control.assets(), "the code server's assets", 120)
