"""Renewal of the page ``status/index.html`` by processes of their own: while a run works, and after its end.

A process has the lowest priority. One that fails, hangs or is killed leaves the page as it was, and the run
goes on. After its end the run waits for the last one, as systemd and containers kill what a service leaves.
"""

import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import read_settings
from pipeline.errors import MirrorError
from pipeline.mirror.state.layout import Layout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PagePolicy:
    """Times in seconds.

    While a run works the page is renewed ``every`` so often, or so much more rarely that its processes take
    at most ``share`` of one processor. A process that takes longer than ``longest``, or after the run than
    ``after_run``, is killed. A run without news leaves a page that is younger than ``fresh`` and has the map
    of the sky as it is.
    """

    every: float = 60.0
    share: float = 0.02
    longest: float = 300.0
    after_run: float = 60.0
    fresh: float = 3600.0


DEFAULT = PagePolicy()


class PageRenewal:
    """Renewals of the page of one run, by the settings in the file ``config``."""

    def __init__(self, config: Path, layout: Layout, policy: PagePolicy = DEFAULT) -> None:
        self._command = [sys.executable, "-m", __name__, str(config.absolute())]
        self._path = layout.page
        self._pictures = layout.coverage_pictures
        self._policy = policy
        self._ended = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        # True from a request to kill the process on, which may come before it is started.
        self._is_killed = False

    @contextmanager
    def while_running(self) -> Iterator[None]:
        """Renew the page regularly, in a thread. Enter it after all processes of the run are forked."""
        thread = threading.Thread(target=self._follow, name="page", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            # What it would write says that the run works.
            self._kill()
            thread.join(self._policy.after_run)

    def after_run(self, *, news: bool) -> None:
        """Renew the page and wait for that; without ``news`` only if it is old. A signal ends the wait."""
        if not (news or self._is_old()):
            return
        self._is_killed = False
        with self._killed_by_signals():
            if failure := self._renew(self._policy.after_run):
                print(f"ipp-mirror: {failure}", file=sys.stderr)

    def _follow(self) -> None:
        pause = self._policy.every
        while not self._ended.wait(pause):
            before = _children_seconds()
            failure = self._renew(self._policy.longest)
            if failure and not self._ended.is_set():
                log.debug("%s", failure)
            pause = max(self._policy.every, (_children_seconds() - before) / self._policy.share)

    def _renew(self, seconds: float) -> str | None:
        """Renew the page in a process, which may take so many seconds; return why it was not renewed."""
        try:
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Signals to the update, such as the Ctrl-C of a terminal, are not for it.
                start_new_session=True,
            )
            if self._is_killed:
                process.kill()
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=1)
            return f"the page {self._path} was not renewed: that took longer than {seconds:.0f} s"
        except OSError as error:
            return f"the page {self._path} was not renewed: {error.strerror}"
        # One that was killed was killed on request.
        if process.returncode <= 0:
            return None
        last = errors.strip().rpartition("\n")[2]
        return f"the page {self._path} was not renewed: {last or f'exit code {process.returncode}'}"

    def _kill(self) -> None:
        self._is_killed = True
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()

    @contextmanager
    def _killed_by_signals(self) -> Iterator[None]:
        """Let the signals that stop a run kill the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, lambda *_: self._kill()) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _is_old(self) -> bool:
        written = _modified(self._path)
        is_fresh = 0 <= time.time() - written < self._policy.fresh
        return not is_fresh or any(_modified(picture) > written for picture in self._pictures)


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
        print(f"{error.strerror} at {error.filename}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
