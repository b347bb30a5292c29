"""The targets of the Makefile."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import REPOSITORY

OF_VERSION = """#!{python}
import sys
sys.version_info = {version} + ("final", 0)
exec(sys.argv[sys.argv.index("-c") + 1])
"""


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 14, 0)])
def test_an_interpreter_that_does_not_fit_is_one_sentence(version, tmp_path: Path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    python = tmp_path / "another-python"
    python.write_text(OF_VERSION.format(python=sys.executable, version=version))
    python.chmod(0o755)
    made = subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert made.returncode == 2
    assert made.stderr.splitlines()[0] == (
        f"expected Python 3.11, 3.12 or 3.13, got {version[0]}.{version[1]} from PYTHON={python}; "
        "name another one, such as PYTHON=python3.13"
    )
    assert not (tmp_path / ".venv").exists()


def test_help_lists_the_operations():
    listed = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[0] for line in listed.splitlines()}
    assert {
        "setup",
        "demo",
        "test",
        "update",
        "adopt",
        "worker",
        "status",
        "verify",
        "serve",
        "scheduler",
    } <= targets
