"""The small tree of errors, one branch for each thing a person would do differently about it.

Every message says what was expected, what came, where it came from and what happens next. The
exit codes are those of ``docs/guide.md``; a run ends with the highest one that applies.
"""

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
