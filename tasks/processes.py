"""The processes that do the steps of filesets, so that Python's lock is not shared by all of them.

One process fetches: it has all connections, the rate limit and the account of disk space. One for each
core unpacks. The process of the Luigi worker hands them steps and waits. They are forked before any
thread is started and hold the mirror's lock together with it: whoever takes the lock next can be sure
that nothing of this run is left.
"""

import ctypes
import gc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn, Protocol

from pipeline.datastore.client import retry
from pipeline.errors import MirrorError
from pipeline.mirror.markers import Fileset
from pipeline.mirror.site import Report, Site
from tasks.errors import as_mirror_error

# What is asked of a process: a function of the module level, which gets the site and the argument.
Work = Callable[[Site, Any, Report], Any]

CORES = os.cpu_count() or 1
# While one waits for the disk another inflates.
UNPACKED_PER_CORE = 2
UNPACKED_AT_ONCE = UNPACKED_PER_CORE * CORES
# More than a worker has use for; each is a thread that mostly waits.
ASKED_AT_ONCE = 16
TELL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


class Step(Protocol):
    """What a step of a fileset is made with, and how it is done."""

    def __init__(self, site: Site, fileset: Fileset, report: Report) -> None: ...

    def run(self) -> None:
        """Do it. Raises a MirrorError."""


def do_step(site: Site, step: tuple[type[Step], Fileset], report: Report) -> None:
    """Do one step of one fileset."""
    kind, fileset = step
    kind(site, fileset, report).run()


def get_listing(site: Site, url: str, _: Report) -> bytes:
    """Return the body of a listing, valid or not. Raises ServerUnavailable."""
    return retry(site.store.retry_policy, lambda: site.store.fetch_body(url))


class ProcessLost(MirrorError):
    """A process of this run was killed from outside."""


@dataclass(frozen=True)
class _Process:
    pid: int
    lanes: list[Connection]


class Processes:
    """Processes that do the same kind of work. Safe for use by several threads."""

    def __init__(self, what: str, site: Site, processes: list[_Process], on_loss: Callable[[], None]) -> None:
        self._what = what
        self._site = site
        self._processes = processes
        self._on_loss = on_loss
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        # In turns, so that the first two filesets do not share a process.
        for lanes in zip(*(process.lanes for process in processes), strict=True):
            for lane in lanes:
                self._idle.put(lane)

    def do(self, work: Work, argument: Any, report: Report = lambda *_: None) -> Any:
        """What ``work`` gives, done in one of the processes. Raises what it raises, or ProcessLost."""
        lane = self._idle.get()
        try:
            lane.send((work, argument))
            while True:
                received, kind, content = lane.recv()
                self._site.tally.count(received=received)
                if kind == "report":
                    report(*content)
                elif kind == "result":
                    return content
                else:
                    raise content
        except (EOFError, OSError):
            self._on_loss()
            raise ProcessLost(
                f"expected an answer of the process that {self._what}, but it was killed "
                "(did this machine run out of memory?). The next run goes on from here."
            ) from None
        finally:
            self._idle.put(lane)

    def stop(self) -> None:
        """Let them wait for nothing any more."""
        for process in self._processes:
            os.kill(process.pid, signal.SIGUSR1)

    def end(self) -> None:
        """Let them go, and wait until they have."""
        for process in self._processes:
            for lane in process.lanes:
                lane.close()
        for process in self._processes:
            os.waitpid(process.pid, 0)


@contextmanager
def step_processes(
    site: Site, stopping: threading.Event, on_loss: Callable[[], None]
) -> Iterator[tuple[Processes, Processes]]:
    """The one that fetches and those that unpack. ``stopping`` is set in them by ``Processes.stop``."""
    sys.stdout.flush()
    sys.stderr.flush()
    # All that is there by now stays: a collection would look at it in vain, and thereby copy the pages
    # that the processes share.
    gc.freeze()
    forked: list[_Process] = []
    # Until a process has its own idea of them.
    allowed = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
    for lanes in [ASKED_AT_ONCE, *(UNPACKED_PER_CORE for _ in range(CORES))]:
        forked.append(_fork(site, stopping, lanes, forked))
    signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
    fetching = Processes("fetches", site, forked[:1], on_loss)
    unpacking = Processes("unpacks", site, forked[1:], on_loss)
    try:
        yield fetching, unpacking
    finally:
        fetching.end()
        unpacking.end()


def _fork(site: Site, stopping: threading.Event, lanes: int, earlier: list[_Process]) -> _Process:
    pipes = [Pipe() for _ in range(lanes)]
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # An end that a sibling holds open would hide from it that this process is gone.
        for process in earlier:
            for lane in process.lanes:
                lane.close()
        for ours, _ in pipes:
            ours.close()
        _serve(site, stopping, [theirs for _, theirs in pipes], parent)
    for _, theirs in pipes:
        theirs.close()
    return _Process(pid, [ours for ours, _ in pipes])


def _serve(site: Site, stopping: threading.Event, lanes: list[Connection], parent: int) -> NoReturn:
    """Do what is asked on each lane, until the parent closes them or is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # The parent decides what a signal to all of its group means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Waited for rather than handled: a handler that another signal interrupts would wait for itself.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1})
    threading.Thread(target=_await_stop, args=(stopping,), daemon=True).start()
    ours = [threading.Thread(target=_attend, args=(site, lane), daemon=True) for lane in lanes]
    for thread in ours:
        thread.start()
    for thread in ours:
        thread.join()
    os._exit(0)


def _await_stop(stopping: threading.Event) -> None:
    signal.sigwait({signal.SIGUSR1})
    stopping.set()


def _attend(site: Site, lane: Connection) -> None:
    # An end that is closed means that the parent is gone, or lets this process go.
    with suppress(EOFError, OSError):
        while True:
            work, argument = lane.recv()
            telling = _Telling(site, lane)
            telling.send(*_outcome(work, site, argument, telling))


def _outcome(work: Work, site: Site, argument: Any, telling: "_Telling") -> tuple[str, Any]:
    try:
        return "result", work(site, argument, telling.report)
    except Exception as error:
        return "error", as_mirror_error(error)


class _Telling:
    """Sends what is to be known about one step; with each word the bytes received since the last one."""

    def __init__(self, site: Site, lane: Connection) -> None:
        self._site = site
        self._lane = lane
        # What is over within moments is not worth a word.
        self._tell_at = time.monotonic() + TELL_SECONDS

    def report(self, message: str, share: float) -> None:
        """Say how far the step is, now and then: each word costs, with a central scheduler most."""
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_SECONDS
            self.send("report", (message, share))

    def send(self, kind: str, content: Any) -> None:
        self._lane.send((self._site.tally.take_received(), kind, content))
