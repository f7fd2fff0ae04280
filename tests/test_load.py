"""What loading the code location costs."""

from __future__ import annotations

import subprocess
import sys


def test_the_code_location_loads_without_what_only_work_needs() -> None:
    code = (
        "import sys, lakehouse.definitions as code; code.defs(); "
        "print([name for name in ('matplotlib', 'mlcroissant', 'deltalake') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
