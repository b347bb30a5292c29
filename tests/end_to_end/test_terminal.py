"""Ctrl-C at a terminal: what the run says at once, and the terminal that it leaves behind."""

import codecs
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import sleep

import pytest
from support.command import REPOSITORY
from support.follower import Follower
from support.running import SEEN_SECONDS, TIMEOUT_SECONDS, gate, tasks_command, until
from support.summary_line import stopped
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"
FILESETS = 6
CONNECTIONS = 4
CTRL_C = b"\x03"
HIDE, SHOW, ERASE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"
# Makes the terminal on standard input the controlling one, whose Ctrl-C becomes a signal.
IN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """Terminal in which a command runs, with all that it shows."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, *command],
            cwd=REPOSITORY,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "400"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.shown = ""
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # EIO: no process has the terminal any more.
        with suppress(OSError):
            # A read may end within a character.
            decoder = codecs.getincrementaldecoder("utf-8")()
            while content := os.read(self._master, 65_536):
                self.shown += decoder.decode(content)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait(self) -> int:
        code = self.process.wait(TIMEOUT_SECONDS)
        self._reader.join()
        return code

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()
        os.close(self._master)


@contextmanager
def terminal(command: list[str]) -> Iterator[Terminal]:
    running = Terminal(command)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def opened(upstream: Upstream, server, follower: Follower) -> Iterator[Event]:
    for number in range(FILESETS):
        upstream.add(PRODUCT, f"f{number}", [File("x.fits", b"x" * 100)])
    follower.source = {"connections": CONNECTIONS, "timeout": 60}
    event = Event()
    server.faults.append(gate(event, f"{PRODUCT}/*/x.fits"))
    yield event
    event.set()


def in_progress(server) -> bool:
    waiting = [entry for entry in server.requests if entry.target.endswith(".fits") and entry.status is None]
    return len(waiting) >= CONNECTIONS


def is_restored(shown: str) -> bool:
    return HIDE in shown and shown.rfind(SHOW) > shown.rfind(HIDE)


def test_ctrl_c_says_at_once_what_is_finished_and_how_to_end_now(opened, server, follower: Follower):
    """And at the end what is drawn, on a line that is erased."""
    follower.mirror["page"] = True
    with terminal(tasks_command(follower)) as update:
        until(lambda: in_progress(server) and HIDE in update.shown, "nothing is in progress")
        update.type(CTRL_C)
        until(lambda: "Ctrl-C (or the signal) again ends at once" in update.shown, "nothing is said")
        assert "stopping after what is in progress: " in update.shown
        assert update.process.poll() is None
        assert f"fileset {PRODUCT}/f0, " in update.shown
        assert f" and {CONNECTIONS - 3} more. Ctrl-C (or the signal) again ends at once" in update.shown
        opened.set()
        assert update.wait() == 25, update.shown
        assert f"filesets: {stopped(FILESETS, CONNECTIONS)}; " in update.shown
        end = update.shown.partition(f"filesets: {stopped(FILESETS, CONNECTIONS)}; ")[2]
        assert "drawing the page" in end
        assert end.rfind(ERASE) > end.rfind("drawing the page")
        assert is_restored(update.shown)
        assert not re.search(r"\x1b\[[\d;]*m", update.shown), "colours"


def test_a_second_ctrl_c_ends_at_once_and_shows_the_cursor(opened, server, follower: Follower):
    with terminal(tasks_command(follower)) as update:
        until(lambda: in_progress(server) and HIDE in update.shown, "nothing is in progress")
        update.type(CTRL_C)
        until(lambda: "stopping after what is in progress: " in update.shown, "nothing is said")
        sleep(SEEN_SECONDS)
        update.type(CTRL_C)
        assert update.wait() == 25, update.shown
        assert not opened.is_set()
        assert "ipp-mirror: ended at once on request; the next run goes on." in update.shown
        assert is_restored(update.shown)


SLOW_START = """
import sys, time, luigi.worker
enter = luigi.worker.Worker.__enter__
def slow(worker):
    time.sleep(60)
    return enter(worker)
luigi.worker.Worker.__enter__ = slow
del sys.argv[0]
import tasks.__main__
"""


def test_ctrl_c_before_the_first_task_shows_the_cursor(opened, follower: Follower):
    """The program is held up between the beginning of its bar and its first task."""
    command = tasks_command(follower)
    arguments = command[command.index("tasks") :]
    with terminal([sys.executable, "-c", SLOW_START, *arguments]) as update:
        until(lambda: HIDE in update.shown, "no bar is shown")
        update.type(CTRL_C)
        assert update.wait() == 25, update.shown
        assert "stopped on request before anything was started" in update.shown
        assert is_restored(update.shown)
