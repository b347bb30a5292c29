"""Errors of tasks beyond those of the library, and the conversion of any exception into one of them."""

import traceback

from luigi.worker import TaskException

from pipeline.errors import (
    EXIT_FILESET_FAILED,
    EXIT_SERVER_UNAVAILABLE,
    EXIT_SETTINGS_OR_BUG,
    EXIT_STOPPED,
    MirrorError,
    machine_fault,
)


class Stopped(MirrorError):
    """Run stopped before all tasks were done: on request, or for the reason that a subclass names."""

    exit_code = EXIT_STOPPED


class ServerLost(Stopped):
    """Server that answers no more."""

    exit_code = EXIT_SERVER_UNAVAILABLE


class DiskFull(Stopped):
    """Disk that has no disk space for any fileset."""

    exit_code = EXIT_FILESET_FAILED


class VolumeFull(DiskFull):
    """Volume that has no disk space for any fileset; the products elsewhere go on."""


class FailedAlready(MirrorError):
    """Another worker of the same update has tried the step and recorded the failure."""


class Bug(MirrorError):
    """Unexpected error, with its traceback."""

    exit_code = EXIT_SETTINGS_OR_BUG


def as_mirror_error(exception: BaseException) -> MirrorError:
    """Return the exception of a task as a MirrorError: a MachineFault for an OSError, else a Bug."""
    if isinstance(exception, MirrorError):
        return exception
    if isinstance(exception, OSError):
        return machine_fault("on this machine", exception)
    if isinstance(exception, TaskException) or str(exception).startswith("Unfulfilled depend"):
        return MirrorError(f"a marker is not there any more ({exception}). The next run tries again.")
    trace = "".join(traceback.format_exception(exception))
    return Bug(f"a bug in this program, please report it:\n{trace}")
