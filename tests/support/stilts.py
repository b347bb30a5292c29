"""STILTS, which checks VOTables."""

import shutil
import subprocess
from pathlib import Path

import pytest


def stilts_accepts(*paths: Path) -> None:
    """Have STILTS check VOTables; the last line of a test, which is skipped without STILTS."""
    stilts = shutil.which("stilts")
    if stilts is None:
        pytest.skip("needs STILTS (Debian package stilts)")
    for path in paths:
        command = [stilts, "votlint", "ucd=true", "unit=true", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
