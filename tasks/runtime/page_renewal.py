"""Renewal of the page ``status/index.html`` by processes of their own: while a run works, and after its end.

A process has the lowest priority. One that fails, hangs or is killed leaves the page as it was, and the run
goes on. After its end the run waits for the last one, as systemd and containers kill what a service leaves.
"""

import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import read_settings
from pipeline.errors import MirrorError, machine_fault
from pipeline.mirror.state.layout import Layout
from tasks.runtime.threads import thread_beside

_POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PagePolicy:
    """Times in seconds.

    While a run works the page is renewed ``every`` so often, or so much more rarely that its processes take
    at most ``share`` of one processor; one that is absent is written ``first`` after the run has numbers. A
    process that takes longer than ``longest``, or after the run than ``after_run``, is killed. A run without
    news leaves a page that is younger than ``fresh`` and has the map of the sky as it is.
    """

    every: float = 60.0
    first: float = 2.0
    share: float = 0.02
    longest: float = 300.0
    after_run: float = 60.0
    fresh: float = 3600.0


DEFAULT = PagePolicy()


class PageRenewal:
    """Renewals of the page of one run, by the settings in the file ``config``.

    ``has_begun`` returns True once the run has numbers to show.
    """

    def __init__(
        self, config: Path, layout: Layout, has_begun: Callable[[], bool], policy: PagePolicy = DEFAULT
    ) -> None:
        self._has_begun = has_begun
        self._command = [sys.executable, "-P", "-m", __name__, str(config.absolute())]
        self._path = layout.page
        self._pictures = layout.coverage_pictures
        self._policy = policy

    @contextmanager
    def while_running(self) -> Iterator[None]:
        """Renew the page regularly, in a thread. Enter it after all processes of the run are forked."""
        # The end of the block ends a process, too: what it would write says that the run works.
        with thread_beside("page", self._follow, self._policy.after_run):
            yield

    def after_run(self, stopping: threading.Event, *, news: bool) -> str | None:
        """Renew the page and wait for that, until ``stopping`` is set; without ``news`` only if it is old.

        Return why it was not renewed, if it failed.
        """
        return self._renew(self._policy.after_run, stopping) if news or self._is_old() else None

    def _follow(self, ended: threading.Event) -> None:
        pause = self._policy.every if self._path.exists() else self._first_pause(ended)
        while not ended.wait(pause):
            before = _children_seconds()
            if failure := self._renew(self._policy.longest, ended):
                log.debug("%s", failure)
            pause = max(self._policy.every, (_children_seconds() - before) / self._policy.share)

    def _first_pause(self, ended: threading.Event) -> float:
        """Wait for the first numbers, at most as long as between two renewals; return the next pause."""
        until = time.monotonic() + self._policy.every
        while not self._has_begun() and time.monotonic() < until and not ended.wait(_POLL_SECONDS):
            pass
        return self._policy.first

    def _renew(self, seconds: float, stopping: threading.Event) -> str | None:
        """Renew the page in a process, which may take so many seconds; return why it failed."""
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Signals to the update, such as the Ctrl-C of a terminal, are not for it.
                start_new_session=True,
            )
        except OSError as error:
            return f"the page {self._path} was not renewed: {machine_fault('starting a process', error)}"
        errors = _output(process, time.monotonic() + seconds, stopping)
        if errors is None:
            reason = "" if stopping.is_set() else f"that took longer than {seconds:.0f} s"
        elif process.returncode > 0:
            reason = errors.strip().rpartition("\n")[2] or f"exit code {process.returncode}"
        else:
            # One that was killed was killed by a person.
            reason = ""
        return f"the page {self._path} was not renewed: {reason}" if reason else None

    def _is_old(self) -> bool:
        written = _modified(self._path)
        is_fresh = 0 <= time.time() - written < self._policy.fresh
        return not is_fresh or any(_modified(picture) > written for picture in self._pictures)


def _output(process: "subprocess.Popen[str]", until: float, stopping: threading.Event) -> str | None:
    """Return what the process prints on standard error; None where it is killed: at ``until``, or to stop."""
    while True:
        try:
            return process.communicate(timeout=_POLL_SECONDS)[1]
        except subprocess.TimeoutExpired:
            if stopping.is_set() or time.monotonic() > until:
                break
    process.kill()
    # On a disk that does not answer, it does not end.
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=1)
    return None


def _modified(path: Path) -> float:
    """Return the time at which the file was modified, in seconds since 1970; 0 for one that is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _children_seconds() -> float:
    """Return the processor time of the processes of this one that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Renew the page of the mirror whose settings file is the argument. Return the exit code."""
    os.nice(19)
    try:
        settings = read_settings(Path(sys.argv[1]))
        layout = Layout(settings.mirror.root)
        # The folder of the update may be that of a disk that is to be unmounted.
        os.chdir("/")
        # Imported here, as Matplotlib takes a second.
        from pipeline.reporting.page.page import write_page
        from tasks.steps import STEPS

        write_page(layout, settings, STEPS, layout.page)
    except MirrorError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(machine_fault("drawing it", error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
