"""Handlers of the program's loggers: the log file, and the console."""

import logging
import os
import platform
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

import luigi

from pipeline import __version__
from pipeline.config import Settings
from pipeline.errors import machine_faults
from tasks.runtime.causes import FirstOfEachCause
from tasks.runtime.console import EscapingFormatter, console_handlers

MAX_BYTES = 10_000_000
KEPT_FILES = 9
# Parents of the loggers of all modules.
LOGGERS = ("pipeline", "tasks")

log = logging.getLogger(__name__)


@contextmanager
def log_to(path: Path, *, each_failure: bool = False) -> Iterator[FirstOfEachCause]:
    """Log all messages to the file, and to the console what ``console_handlers`` shows.

    ``each_failure`` as for ``FirstOfEachCause``.

    Raises MachineFault when the file cannot be opened.
    """
    with machine_faults(f"opening the log {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT_FILES, encoding="utf-8")
    # A message that cannot be written, on a full disk for example, must not print a traceback.
    logging.raiseExceptions = False
    file.setFormatter(EscapingFormatter("%(asctime)s %(levelname)s %(message)s"))
    causes = FirstOfEachCause(each_failure)
    console = console_handlers(causes)
    for name in LOGGERS:
        parent = logging.getLogger(name)
        parent.setLevel(logging.DEBUG)
        parent.propagate = False
        parent.handlers[:] = [*console, file]
    _quieten_luigi(file)
    try:
        yield causes
    finally:
        for name in LOGGERS:
            logging.getLogger(name).handlers.clear()
        with suppress(OSError):
            file.close()


def log_beginning(config: Path, settings: Settings) -> None:
    """Log which program begins a run, where, and with which settings; passwords are masked."""
    log.debug(
        "run begins: ipp-mirror %s, Luigi %s, Python %s; host %s, process %d, user id %d; command: %s",
        *(__version__, luigi.__version__, platform.python_version()),
        *(socket.gethostname(), os.getpid(), os.geteuid(), masked(shlex.join(sys.argv))),
    )
    log.debug("settings of %s: %s", config, masked(settings.model_dump_json()))


def masked(text: str) -> str:
    """Return the text without the user names and passwords of the addresses in it.

    The password of a database may have any character, or be a parameter of the address.
    """
    text = re.sub(r"(?<=://)([^/@\s\"]*:[^\s\"]*|[^/@\s\"]*)@", "***@", text)
    return re.sub(r"(?<=[?&])(\w*passw(?:or)?d=)[^&\s\"]*", r"\1***", text)


def _quieten_luigi(file: logging.Handler) -> None:
    """Send Luigi's warnings to the file, without its lines on each failed task."""
    luigi_log = logging.getLogger("luigi-interface")
    luigi_log.handlers[:] = [file]
    luigi_log.propagate = False
    luigi_log.setLevel(logging.WARNING)
    luigi_log.addFilter(lambda record: "failed    %s" not in str(record.msg))
