"""Commands in a process of their own, run in the repository."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("ipp-mirror")
REPOSITORY = Path(__file__).resolve().parents[2]


def ipp_mirror(
    *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in the repository, with the settings of Luigi there; its output is text."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONWARNINGS": "error::ResourceWarning"} | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@dataclass
class Ended:
    """Exit code and output of a command."""

    code: int
    output: str


def ended(command: list[str]) -> Ended:
    """Run a command from the repository root."""
    environment = os.environ | {"PYTHONWARNINGS": "error::DeprecationWarning:tasks,error::ResourceWarning"}
    result = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    return Ended(result.returncode, result.stdout + result.stderr)
