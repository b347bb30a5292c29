"""Supervisor of updates: starts one as a child process each time, and obeys signals.

The supervisor holds no lock and no settings: both are those of the child. So a supervisor that runs for
years keeps nothing of the last update, and `ipp-mirror update`, `verify` and others find the mirror free in
between.
"""

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pipeline.errors import EXIT_STOPPED, MirrorError

_STOP = (signal.SIGTERM, signal.SIGINT)
_WAITS = "the next update begins once the one that runs has ended, with its page and its maps."
_SIGNALS = frozenset({*_STOP, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD})


class Supervisor:
    """Starts a child at once, then every ``every`` seconds, or as soon as the last one has ended.

    ``start`` starts a child and returns its process id; ``check_settings`` raises MirrorError for settings
    with which a child could not run. ``say`` gets what happens, ``warn`` what a person has to correct.

    SIGUSR1: the next child begins now, or as soon as the one that runs has ended. SIGHUP: the same, with the
    settings as they are then; the one that runs is stopped, unless the settings are wrong. SIGTERM, SIGINT:
    the child is stopped, and the supervisor ends with it.
    """

    def __init__(
        self,
        start: Callable[[], int],
        check_settings: Callable[[], None],
        every: float,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._start = start
        self._check_settings = check_settings
        self._every = every
        self._say = say
        self._warn = warn
        self._child: int | None = None
        self._due = time.monotonic()
        self._is_stopping = False

    def run(self) -> int:
        """Return the exit code once a signal has ended the supervisor."""
        # Signals wait until they are asked for: none comes between a look at the child and the wait for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while not (self._is_stopping and self._child is None):
            if self._child is None and time.monotonic() >= self._due:
                self._due = time.monotonic() + self._every
                self._child = self._start()
            self._obey(self._next_signal())
        self._say("ended on request.")
        return EXIT_STOPPED

    def _next_signal(self) -> int | None:
        """Return the next signal; None when the next child is due."""
        if self._child is not None:
            return signal.sigwaitinfo(_SIGNALS).si_signo
        caught = signal.sigtimedwait(_SIGNALS, max(0.0, self._due - time.monotonic()))
        return caught.si_signo if caught else None

    def _obey(self, number: int | None) -> None:
        if number in _STOP:
            self._is_stopping = True
            self._stop_child()
        elif number == signal.SIGUSR1:
            self._due = time.monotonic()
            if self._child is not None:
                self._say(_WAITS)
        elif number == signal.SIGHUP:
            self._read_settings()
        elif number == signal.SIGCHLD:
            self._reap()

    def _read_settings(self) -> None:
        try:
            self._check_settings()
        except MirrorError as error:
            self._warn(f"{error} An update that is running goes on with the settings that it has read.")
            return
        self._say("the settings are right; an update begins with them.")
        self._due = time.monotonic()
        self._stop_child()

    def _stop_child(self) -> None:
        if self._child is not None:
            # Until it is reaped, no other process has its number.
            os.kill(self._child, signal.SIGTERM)

    def _reap(self) -> None:
        """Note the end of the child, if it has ended."""
        if self._child is None or os.waitpid(self._child, os.WNOHANG)[0] == 0:
            return
        self._child = None
        if not self._is_stopping:
            wait = timedelta(seconds=self._due - time.monotonic())
            at = f"at {datetime.now(UTC) + wait:%Y-%m-%dT%H:%M:%SZ}" if wait > timedelta() else "now"
            self._say(f"the next update begins {at}.")


def start_unmasked(command: list[str]) -> int:
    """Start a command that gets all signals, whatever this process has blocked; return its process id."""
    return os.posix_spawn(command[0], command, os.environ, setsigmask=[])
