"""What a command that runs nothing costs to start."""

from __future__ import annotations

import subprocess
import sys


def test_the_command_line_starts_without_dagster() -> None:
    code = "import sys, lakehouse.cli; print('dagster' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
