"""The ``ipp-mirror`` command in a process of its own, as a person runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = Path(sys.executable).with_name("ipp-mirror")
_REPOSITORY = Path(__file__).resolve().parents[2]


def ipp_mirror(
    *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in the repository, with the settings of Luigi there; its output is text."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=_REPOSITORY,
        env=os.environ | {"PYTHONWARNINGS": "error::ResourceWarning"} | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
