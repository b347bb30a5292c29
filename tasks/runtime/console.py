"""Console: the messages of a run on standard output, and on standard error what is wrong."""

import logging
import sys

from pipeline.errors import EXIT_ALREADY_RUNNING, EXIT_DONE, EXIT_STOPPED
from pipeline.names import escaped
from tasks.mirror_config import QUIET, VERBOSE, mirror
from tasks.runtime.causes import FirstOfEachCause

# Codes of runs in which nothing is wrong: another run is at work, or a person paused or stopped the mirror.
WELL = frozenset({EXIT_DONE, EXIT_ALREADY_RUNNING, EXIT_STOPPED})


def is_silent(code: int) -> bool:
    """Return True if the console does not show that the run ends with this exit code."""
    return mirror().console == QUIET and code in WELL


class EscapingFormatter(logging.Formatter):
    """Formatter that escapes what is not printable, and indents further lines: none looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of the record."""
        return escaped(super().format(record), but="\n").replace("\n", "\n    ")


class _ConsoleFormatter(EscapingFormatter):
    """Formatter of a console: the text of the record, or its ``short_text``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of the record."""
        short: str | None = getattr(record, "short_text", None)
        return super().format(record) if short is None else escaped(short)


def console_handlers(causes: FirstOfEachCause) -> list[logging.Handler]:
    """Return the handlers of standard output and of standard error, which shows warnings and errors.

    A quiet console shows these alone, and records whose ``code`` is an exit code that is not well; a verbose
    one shows all; any other leaves out debug messages, and all but the first failure of each cause.
    """
    output = logging.StreamHandler(sys.stdout)
    output.addFilter(lambda record: record.levelno < logging.WARNING)
    errors = logging.StreamHandler(sys.stderr)
    errors.setLevel(logging.WARNING)
    if mirror().console != VERBOSE:
        output.setLevel(logging.INFO)
        errors.addFilter(causes)
    for handler in (output, errors):
        handler.setFormatter(_ConsoleFormatter("%(message)s"))
        if mirror().console == QUIET:
            handler.addFilter(_matters)
    return [output, errors]


def _matters(record: logging.LogRecord) -> bool:
    code: int | None = getattr(record, "code", None)
    return record.levelno >= logging.WARNING if code is None else code not in WELL
