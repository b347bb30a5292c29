"""The run of this process."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from pipeline.errors import MirrorError
from pipeline.names import escaped
from tasks.runtime.console import is_silent
from tasks.runtime.run import Run

# Start of this process: identifies its run.
STARTED = datetime.now(UTC).isoformat().replace("+00:00", "Z")

_runs: list[Run] = []
T = TypeVar("T")


def begin_run(run: Run) -> None:
    """Make the run that of this process."""
    _runs[:] = [run]


def current_run() -> Run:
    """Return the run of this process."""
    return _runs[0]


def run_if_started() -> Run | None:
    """Return the run of this process, which may have ended; None when none has started."""
    return _runs[0] if _runs else None


def current_mirror() -> str:
    """Return the short id of the mirror of this process; empty before its run has started."""
    return _runs[0].mirror if _runs else ""


def or_exit(begin: Callable[[], T]) -> T:
    """Return the result of ``begin``; a MirrorError ends the program with its message.

    The exit code is that of the error, or that of the run if it is higher, as after a request to stop.
    """
    try:
        return begin()
    except MirrorError as error:
        code = max([error.exit_code, *(run.code for run in _runs)])
        if not is_silent(code):
            print(escaped(f"ipp-mirror: {error}", but="\n"), file=sys.stderr)
        raise SystemExit(code) from None
