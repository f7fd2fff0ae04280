"""What the command line says to somebody who gets it wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Lakehouse


def test_without_a_command_the_commands_are_listed(lakehouse: Lakehouse) -> None:
    said = lakehouse()
    assert said.code == 2
    assert said.err == ""
    assert "Usage: lakehouse" in said.out and "build" in said.out and "export" in said.out


def test_a_command_that_runs_nothing_does_not_wait_for_dagster() -> None:
    loaded = "import sys, lakehouse.cli; print('dagster' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("command", ["build", "plan", "export", "sql"])
def test_help_tells_what_a_command_does(lakehouse: Lakehouse, command: str) -> None:
    said = lakehouse(command, "--help")
    assert said.code == 0
    assert f"Usage: lakehouse {command}" in said.out and "--json" in said.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see lakehouse --help"),
        (["build", "--frob", "demo"], "No such option: --frob; see lakehouse build --help"),
        (["build"], "Missing argument 'CAMPAIGN'; see lakehouse build --help"),
        (["diff", "demo@v1"], "Missing argument 'REF'; see lakehouse diff --help"),
        (["show", "demo@v1", "demo@v2"], "(demo@v2); see lakehouse show --help"),
        (["export", "demo@v1", "out", "--format", "zip"], "'zip' is not one of 'webdataset', 'imagefolder'"),
        (["ui", "--port", "http"], "Invalid value for '--port': "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_with_the_way_to_the_right_one(
    lakehouse: Lakehouse, arguments: list[str], sentence: str
) -> None:
    said = lakehouse(*arguments)
    assert said.code == 2
    assert sentence in said.error


def test_wrong_usage_is_json_where_a_script_listens(lakehouse: Lakehouse) -> None:
    said = lakehouse("frobnicate", "--json")
    assert said.code == 2 and said.err == ""
    assert said.json == {"error": "No such command 'frobnicate'; see lakehouse --help", "exit_code": 2}


def test_the_installed_command_is_this_one(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("lakehouse")
    done = subprocess.run(
        [command, "show", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: there is no lake at ./lake; set LAKEHOUSE_ROOT, or make one with lakehouse build\n"
    )
