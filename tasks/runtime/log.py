"""Where the program says what it does: the log file, and a few lines on the console."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pipeline.errors import machine_faults

MAX_BYTES = 10_000_000
KEPT_FILES = 9


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Log to the file (each step) and to the console (what failed, and the summary)."""
    with machine_faults(f"opening the log {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT_FILES, encoding="utf-8")
    # What cannot be logged, on a full disk say, is no reason to fill the console with tracebacks.
    logging.raiseExceptions = False
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("ipp-mirror")
    log.setLevel(logging.DEBUG)
    console.setLevel(logging.INFO)
    log.propagate = False
    log.handlers[:] = [console, file]
    _quieten_luigi(file)
    try:
        yield
    finally:
        log.handlers.clear()
        with suppress(OSError):
            file.close()


def _quieten_luigi(file: logging.Handler) -> None:
    """Luigi says four lines for each task; only its own troubles are worth keeping."""
    luigi_log = logging.getLogger("luigi-interface")
    luigi_log.handlers[:] = [file]
    luigi_log.propagate = False
    luigi_log.setLevel(logging.WARNING)
    luigi_log.addFilter(lambda record: "failed    %s" not in str(record.msg))
