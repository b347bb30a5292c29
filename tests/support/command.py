"""Commands in a process of their own, run in the repository."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.warm_start import WarmStart

COMMAND = Path(sys.executable).with_name("ipp-mirror")
REPOSITORY = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 240
_STRICT = {"PYTHONWARNINGS": "error::DeprecationWarning:tasks,error::ResourceWarning"}
_warm_start = WarmStart(REPOSITORY, os.environ | _STRICT)


def ipp_mirror(
    *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in the repository, with the settings of Luigi there; its output is text."""
    return _run([str(COMMAND), *map(str, arguments)], os.environ | _STRICT | dict(environment or {}))


@dataclass
class Ended:
    """Exit code and output of a command."""

    code: int
    output: str


def ended(command: list[str]) -> Ended:
    """Run a command from the repository root."""
    result = _run(command, os.environ | _STRICT)
    return Ended(result.returncode, result.stdout + result.stderr)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if not _warm_start.can_run(command, environment):
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    return _warm_start.run(command, environment, _TIMEOUT_SECONDS)
