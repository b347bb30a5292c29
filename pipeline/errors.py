"""Errors of the project, one class for each different reaction of an operator.

Every message has the cause, the expected and the actual value, their source, and what happens next. The exit
codes are those of ``docs/guide.md``; a run ends with the highest one that applies.
"""

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.units import as_size

EXIT_DONE = 0
EXIT_ALREADY_RUNNING = 10
EXIT_SERVER_UNAVAILABLE = 20
EXIT_STOPPED = 25
EXIT_FILESET_FAILED = 30
EXIT_NOT_SCHEDULED = 35
EXIT_SETTINGS_OR_BUG = 40


class MirrorError(Exception):
    """Base class of all errors that the project raises on purpose."""

    exit_code = EXIT_FILESET_FAILED


class ServerUnavailable(MirrorError):
    """Server unreachable, or its response is not a valid listing."""

    exit_code = EXIT_SERVER_UNAVAILABLE


class ContentMismatch(MirrorError):
    """Content that differs from the listing: wrong size, wrong md5, a file refused or missing."""


class FilesFailed(MirrorError):
    """Failure of some files of a fileset: ``reasons`` by file name, in the order of the listing."""

    def __init__(self, reasons: dict[str, MirrorError]) -> None:
        first = str(next(iter(reasons.values())))
        super().__init__(first if len(reasons) == 1 else f"{first} ({len(reasons)} files failed in all)")
        self.reasons = reasons

    def __reduce__(self) -> tuple[type["FilesFailed"], tuple[dict[str, MirrorError]]]:
        """Pickle the reasons, from which the message follows."""
        return FilesFailed, (self.reasons,)


class BundleUnusable(MirrorError):
    """Unusable bundle or description of it: dirinfo, dbinfo, archive, path."""


class HostileName(MirrorError):
    """Name from outside that must not become a path."""


class MachineFault(MirrorError):
    """Failure of this machine: disk full, permission denied, name too long."""


class NoSpace(MachineFault):
    """No disk space for a fileset: disk full, quota used up, or what must stay free would not."""


class AlreadyRunning(MachineFault):
    """Update refused because another one holds the lock of the mirror."""

    exit_code = EXIT_ALREADY_RUNNING


class Paused(MirrorError):
    """Update refused because an operator paused the mirror."""

    exit_code = EXIT_ALREADY_RUNNING


class SettingsError(MirrorError):
    """Wrong setting; nothing was started."""

    exit_code = EXIT_SETTINGS_OR_BUG


# Kinds of failures, in the order in which they are reported: those of this site come first.
KINDS = ("machine", "settings", "network", "upstream", "unknown")
KINDS_HERE = frozenset({"machine", "settings", "network"})
_KIND_OF = {
    MachineFault: "machine",
    SettingsError: "settings",
    ServerUnavailable: "network",
    ContentMismatch: "upstream",
    BundleUnusable: "upstream",
    HostileName: "upstream",
}


def kind_of(error: MirrorError) -> str:
    """Return which of ``KINDS`` the error is: ``network`` also stands for a server that is down."""
    return next((kind for each, kind in _KIND_OF.items() if isinstance(error, each)), "unknown")


# Paths and addresses, digests, sizes, seconds and long numbers differ between messages of one cause. A short
# number may be the cause, as a status code is.
VARIABLE = re.compile(
    r"\S*/\S*|\b[0-9a-f]{32}\b|\d[\d.,]*(?: [kMGT]?B\b| bytes?\b)|\d+(?= s\b)|\d+\.\d+|\d{4,}"
)


def cause_in(message: str, names: Iterable[str]) -> str:
    """Return the cause that a message names: equal where only names, numbers and the next try differ.

    >>> cause_in("file a.fits: expected 12 bytes, got 11 bytes", ["a.fits"])
    'file … expected …, got …'
    >>> cause_in("806 bytes in 5 s", []) == cause_in("1.1 kB in 5.01 s", [])
    True
    """
    known = "|".join(re.escape(name) for name in names if name)
    # A full stop may have been added before the next try.
    message = without_next_try(message).rstrip().removesuffix(".")
    text = re.sub(rf"(?<!\w)(?:{known})(?!\w)", "/", message) if known else message
    return VARIABLE.sub("…", text)


_NEXT_RUN = re.compile(r"\b([Tt])he next run tries again\.")
_LATER = re.compile(r"\b([Ii])t is tried again from \S+ on\.")
_AT_END = re.compile(rf"(?: (?=[TI])|; )(?:{_NEXT_RUN.pattern}|{_LATER.pattern})$")


def with_next_try(message: str, next_try: str | None) -> str:
    """Return the message with the next try: from ``next_try`` (UTC) on, or by the next run for None.

    >>> with_next_try("no answer. The next run tries again.", "2026-07-10T12:00:00Z")
    'no answer. It is tried again from 2026-07-10T12:00:00Z on.'
    """
    if next_try is None:
        return _LATER.sub(lambda it: f"{'T' if it[1] == 'I' else 't'}he next run tries again.", message)
    later = f"t is tried again from {next_try} on."
    said, found = _NEXT_RUN.subn(lambda it: f"{'I' if it[1] == 'T' else 'i'}{later}", message)
    return said if found else f"{message.rstrip().removesuffix('.')}. I{later}"


def without_next_try(message: str) -> str:
    """Return the message without a sentence at its end on the next try.

    >>> without_next_try("The disk is full: free disk space; the next run tries again.")
    'The disk is full: free disk space'
    """
    return _AT_END.sub("", message)


_ADVICE = {
    errno.ENOSPC: "The disk is full: free disk space",
    errno.EDQUOT: "The quota is used up: raise it or free disk space",
    errno.EACCES: "Give the user that runs the mirror the right to write there, readers that to read",
    errno.EPERM: "Give the user that runs the mirror the right to do that",
    errno.EROFS: "The file system is read-only: mount it for writing",
    errno.EMFILE: "Raise the limit on open files (ulimit -n) or lower source.connections",
    errno.EISDIR: "There is a folder where a file belongs: move it away",
    errno.ENOTDIR: "There is a file where a folder belongs: move it away",
    errno.EEXIST: "There is a file where a folder belongs: move it away",
    errno.EXDEV: "store/ and incoming/ have to lie on one mounted file system",
    errno.ENAMETOOLONG: "The file system of mirror.root has a lower limit on names: use another one",
}


def machine_fault(doing: str, error: OSError, needed: int | None = None) -> MachineFault:
    """Return the error as a MachineFault, with the failed action and advice to the operator.

    ``needed`` is the number of bytes that were to be written.
    """
    advice = _ADVICE.get(error.errno or 0, "See what is wrong with this machine")
    kind = NoSpace if error.errno in {errno.ENOSPC, errno.EDQUOT} else MachineFault
    if needed is not None and kind is NoSpace:
        advice += f" for {as_size(needed)}"
    place = f" at {error.filename}" if error.filename else ""
    return kind(f"{doing}: {error.strerror or error}{place}. {advice}; the next run tries again.")


@contextmanager
def machine_faults(doing: str, needed: int | None = None) -> Iterator[None]:
    """Turn an OSError in the ``with`` block into the MachineFault that ``machine_fault`` returns."""
    try:
        yield
    except OSError as error:
        raise machine_fault(doing, error, needed) from error
