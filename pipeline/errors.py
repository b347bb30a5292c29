"""The small tree of errors, one branch for each thing a person would do differently about it.

Every message says what was expected, what came, where it came from and what happens next. The
exit codes are those of ``docs/guide.md``; a run ends with the highest one that applies.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_DONE = 0
EXIT_ALREADY_RUNNING = 10
EXIT_SERVER_UNAVAILABLE = 20
EXIT_STOPPED = 25
EXIT_FILESET_FAILED = 30
EXIT_NOT_SCHEDULED = 35
EXIT_SETTINGS_OR_BUG = 40


class MirrorError(Exception):
    """Root of every error this project raises on purpose."""

    exit_code = EXIT_FILESET_FAILED


class ServerUnavailable(MirrorError):
    """The server could not be asked: no answer, or an answer that is no valid listing."""

    exit_code = EXIT_SERVER_UNAVAILABLE


class ContentMismatch(MirrorError):
    """What came is not what was listed: wrong size, wrong md5, a file refused or missing."""


class FilesFailed(MirrorError):
    """Some files of a fileset could not be had: ``reasons`` by file name, in the listing's order."""

    def __init__(self, reasons: "dict[str, MirrorError]") -> None:
        first = str(next(iter(reasons.values())))
        super().__init__(first if len(reasons) == 1 else f"{first} ({len(reasons)} files failed in all)")
        self.reasons = reasons

    def __reduce__(self) -> tuple:
        """From process to process with its reasons, from which the message follows."""
        return FilesFailed, (self.reasons,)


class BundleUnusable(MirrorError):
    """A bundle or its description cannot be used: dirinfo, dbinfo, archive, path."""


class HostileName(MirrorError):
    """A name from outside is not one that may become a path here."""


class MachineFault(MirrorError):
    """This machine cannot: disk full, permission denied, name too long."""


class AlreadyRunning(MachineFault):
    """Another update holds this mirror."""

    exit_code = EXIT_ALREADY_RUNNING


class SettingsError(MirrorError):
    """A setting is wrong; nothing was started."""

    exit_code = EXIT_SETTINGS_OR_BUG


_WHAT_TO_DO = {
    errno.ENOSPC: "The disk is full: make room",
    errno.EDQUOT: "The quota is used up: have it raised or make room",
    errno.EACCES: "Give the user that runs the mirror the right to write there",
    errno.EPERM: "Give the user that runs the mirror the right to do that",
    errno.EROFS: "The file system is read-only: mount it for writing",
    errno.EMFILE: "Raise the limit on open files (ulimit -n) or lower source.connections",
    errno.ENAMETOOLONG: "The file system of mirror.root takes no names that long: use another one",
}


def machine_fault(doing: str, error: OSError, needed: int | None = None) -> MachineFault:
    """The error as a MachineFault that says what was being done and what would help.

    ``needed`` are the bytes that were to be written.
    """
    advice = _WHAT_TO_DO.get(error.errno or 0, "See what is wrong with this machine")
    if needed is not None and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        advice += f" for {needed / 1e6:.1f} MB"
    place = f" at {error.filename}" if error.filename else ""
    return MachineFault(f"{doing}: {error.strerror or error}{place}. {advice}; the next run tries again.")


@contextmanager
def machine_faults(doing: str, needed: int | None = None) -> Iterator[None]:
    """Turn an OSError inside into a MachineFault, as ``machine_fault`` words it."""
    try:
        yield
    except OSError as error:
        raise machine_fault(doing, error, needed) from error
