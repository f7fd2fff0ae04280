"""The guides name every command, option and setting there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from lakehouse.campaign import load_campaign
from lakehouse.cli import app
from lakehouse.cli.system import _variable
from lakehouse.settings import Settings
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def row_of(command: str) -> str:
    rows = [line for line in GUIDE.splitlines() if re.match(rf"\| `lakehouse {command}\b", line)]
    assert len(rows) == 1, f"docs/command-line.md has {len(rows)} rows on `lakehouse {command}`"
    return rows[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_row_with_its_options(command: str) -> None:
    row = row_of(command)
    options = {
        name for parameter in COMMANDS[command].params for name in parameter.opts if name.startswith("--")
    }
    missing = {name for name in options - {"--help", "--json"} if name not in row}
    assert missing == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_json_as_the_guide_says(command: str) -> None:
    options = {name for parameter in COMMANDS[command].params for name in parameter.opts}
    silent = re.search(r"Every command (?:but `lakehouse (\w+)` )?takes `--json`", GUIDE)
    assert silent is not None
    assert ("--json" in options) != (silent[1] == command)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_no_guide_names_a_command_that_is_not_there(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    code = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    named = {name for piece in code for name in re.findall(r"(?:^|\s)lakehouse ([a-z]+)\b", piece)}
    assert named <= set(COMMANDS)


def test_every_setting_has_a_row() -> None:
    table = "\n".join(line for line in GUIDE.splitlines() if line.startswith("| `"))
    missing = {_variable(name) for name in Settings.model_fields} - set(re.findall(r"`([A-Z0-9_]+)`", table))
    assert missing == set()


def test_no_setting_is_documented_that_is_not_read() -> None:
    known = {_variable(name) for name in Settings.model_fields} | {"DAGSTER_HOME"}
    named = {name for path in GUIDES for name in re.findall(r"\bLAKEHOUSE_[A-Z0-9_]+\b", path.read_text())}
    assert named - known == set()


def test_the_defaults_in_the_guide_are_the_real_ones() -> None:
    for name in ("root", "campaigns", "connections"):
        row = next(line for line in GUIDE.splitlines() if line.startswith(f"| `{_variable(name)}`"))
        assert row.endswith(f"`{Settings.model_fields[name].default}` |")


def test_the_campaign_in_the_readme_is_a_valid_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my-campaign.yaml").write_text(example)
    assert load_campaign(tmp_path / "my-campaign.yaml").name == "bumblebees"
