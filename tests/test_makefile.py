"""The targets of the Makefile."""

import os
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


NEEDED = {
    "init": ["URL"],
    "adopt": ["FOLDER"],
    "sql": ["QUERY"],
    "skip": ["PRODUCT", "FILESET", "REASON"],
    "unskip": ["PRODUCT", "FILESET"],
    "get": ["PRODUCT", "FILESET"],
    "publish": ["PRODUCT", "FILESET", "FILES"],
    "withdraw": ["PRODUCT", "FILESET"],
}


@pytest.mark.parametrize("target", NEEDED)
def test_a_variable_that_a_target_needs_is_asked_for(target):
    """The commands are printed only."""
    for left_out in NEEDED[target]:
        given = [f"{name}=x" for name in NEEDED[target] if name != left_out]
        made = _made(target, *given)
        assert (made.returncode, made.stdout) == (2, "")
        assert f"make {target}: expected {left_out}=..., got none, as in `make {target} " in made.stderr
    whole = _made(target, *(f"{name}=x" for name in NEEDED[target]))
    assert (whole.returncode, whole.stderr) == (0, "")
    assert f"/ipp-mirror {target} " in whole.stdout


def test_a_pattern_to_retry_needs_its_product():
    assert "expected PRODUCT=..., got none" in _made("retry", "PATTERN=x").stderr
    for given in ([], ["PRODUCT=x"], ["PRODUCT=x", "PATTERN=y"]):
        assert _made("retry", *given).returncode == 0


def _made(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-n", "-o", ".venv/ready", *arguments]
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
