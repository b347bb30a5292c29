"""Signals as requests to stop: while the program is loading, and during a run."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from pipeline.errors import EXIT_STOPPED

_STOPPED_EARLY = b"ipp-mirror: stopped on request before anything was started; the next run goes on.\n"
# Erases the line of the progress bar, and shows the cursor that the bar hides.
_RESTORE = b"\r\x1b[2K\x1b[?25h"
_ENDED_AT_ONCE = b"ipp-mirror: ended at once on request; the next run goes on.\n"

# Signals within this time are one request: a shell and `timeout` signal a process and its group.
ONE_REQUEST_SECONDS = 0.5


def handle_early_signals() -> None:
    """End at once on SIGTERM and SIGINT until the worker handles them; handlers of other programs stay.

    SIGHUP becomes SIGTERM for the whole life of the process, unless it is ignored, as below nohup.
    """
    # Only the main thread may install handlers in Python.
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _end(_number: int, _frame: object) -> None:
    # Not SystemExit: an import in progress could catch it.
    _exit(_STOPPED_EARLY)


def restore_terminal() -> None:
    """Remove the progress bar and show the cursor, before an exit at once. Safe in a signal handler."""
    # Rich hides the cursor of no other terminal.
    if os.isatty(1) and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}:
        with suppress(OSError):
            os.write(1, _RESTORE)


def _exit(message: bytes) -> NoReturn:
    restore_terminal()
    with suppress(OSError):
        os.write(2, message)
    os._exit(EXIT_STOPPED)


class StopSignals:
    """Handler of SIGTERM, SIGINT and SIGUSR1: calls ``stop`` at the first request, exits at the second."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._first_at: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._handle)

    def redirect(self, stop: Callable[[], None]) -> None:
        """Call another ``stop`` at the first request, if none has come; the one after it still exits."""
        self._stop = stop

    def _handle(self, number: int, _frame: object) -> None:
        if self._first_at is None:
            self._first_at = time.monotonic()
            self._stop()
        elif number != signal.SIGUSR1 and time.monotonic() - self._first_at > ONE_REQUEST_SECONDS:
            _exit(_ENDED_AT_ONCE)
