"""Share of an update's CPU time that its progress, history, metrics and status files take.

``python -m bench.reporting SETTINGS RESULT`` runs one update and writes the seconds of these parts to the
file RESULT; the benchmark does so in a separate process. The page is drawn by a process of its own, and is
not among them.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tasks.workflow  # noqa: F401  (the tasks that Luigi finds by their names)
from bench.check import check
from bench.daemons import REPOSITORY
from bench.measure import Run, run
from bench.payload import Payload
from bench.tools import OURS
from tasks.runtime import display, ending, takeover
from tasks.runtime.progress import Progress

# Names in the modules, or classes, that call or have them.
_MEASURED = (
    (ending, ("product_rows", "write_status", "append_record", "write_metrics")),
    (takeover, ("append_record", "run_so_far")),
    (display, ("write_progress", "bar_lines", "plain_line", "progress_text")),
    (Progress, ("expect", "begin", "update", "end", "end_fileset", "settle", "steps", "state")),
)


def reporting_cost(given: Payload, url: str, target: Path) -> tuple[Run, float]:
    """Return one update into the folder ``target``, and the CPU seconds of reporting in it."""
    settings = OURS.settings(url, target)
    result = target / "reporting.seconds"
    command = [sys.executable, "-m", "bench.reporting", str(settings), str(result)]
    done = run(command, REPOSITORY, target / "output.log")
    check(given, target, thorough=False)
    return done, float(result.read_text())


class _Clock:
    """Sum of the CPU time of calls, in whichever thread; a call within another one counts with that."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._local = threading.local()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with the time of its calls added to the sum."""

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if getattr(self._local, "is_inside", False):
                return function(*arguments, **named)
            self._local.is_inside = True
            began = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self._local.is_inside = False
                with self._lock:
                    self.seconds += time.thread_time() - began

        return call


def main(settings: str, result: str) -> None:
    """Run an update with these settings; write the seconds to the file ``result``."""
    from luigi.cmdline import luigi_run

    clock, process = _Clock(), os.getpid()
    with ExitStack() as stack:
        for owner, names in _MEASURED:
            for name in names:
                stack.enter_context(patch.object(owner, name, clock.timed(getattr(owner, name))))
        command = ["UpdateMirror", "--mirror-config", settings, "--local-scheduler"]
        try:
            luigi_run([*command, "--mirror-progress", "plain"])
        finally:
            if os.getpid() == process:
                Path(result).write_text(str(clock.seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
