"""A request to stop that comes while the program is still being loaded, before there is a run to end."""

import os
import signal
import threading

from pipeline.errors import EXIT_STOPPED

_SAID = b"ipp-mirror: stopped on request before anything was begun; the next run goes on.\n"


def heed_signals() -> None:
    """End at once on SIGTERM and SIGINT, until the worker sees to them; what others see to is left alone."""
    # Python lets the main thread alone do this.
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)


def leave_signals() -> None:
    """Let SIGTERM and SIGINT do what they do in any other program."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: object) -> None:
    # Not SystemExit: somewhere in the middle of an import it could be caught.
    os.write(2, _SAID)
    os._exit(EXIT_STOPPED)
