"""What can go wrong with a task beyond the errors of the library, and how any exception becomes one."""

import traceback

from luigi.worker import TaskException

from pipeline.errors import EXIT_SETTINGS_OR_BUG, EXIT_STOPPED, MirrorError, machine_fault


class Stopped(MirrorError):
    """The run was asked to stop before all was done."""

    exit_code = EXIT_STOPPED


class FailedAlready(MirrorError):
    """Another worker of the same update tried it a moment ago, and told."""


class Bug(MirrorError):
    """Something that this program did not expect, with its traceback."""

    exit_code = EXIT_SETTINGS_OR_BUG


def as_mirror_error(exception: BaseException) -> MirrorError:
    """The exception of a task as one of ours: the machine's fault, or a bug."""
    if isinstance(exception, MirrorError):
        return exception
    if isinstance(exception, OSError):
        return machine_fault("on this machine", exception)
    if isinstance(exception, TaskException) or str(exception).startswith("Unfulfilled depend"):
        return MirrorError(f"a marker is not there any more ({exception}). The next run tries again.")
    trace = "".join(traceback.format_exception(exception))
    return Bug(f"a bug in this program, please report it:\n{trace}")
