"""Processes that do the steps of filesets, each with an interpreter lock of its own.

One process fetches, with all connections, the rate limit and the reservations of disk space. One process for
each core unpacks. The process of the Luigi worker sends them steps and waits. All are forked before any
thread is started and share the mirror's lock with the worker: when the next run acquires the lock, no process
of this run is left.
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
from typing import Any, NoReturn

from pipeline.cores import CORES
from pipeline.datastore.client import retry
from pipeline.errors import MirrorError
from pipeline.mirror.context import Report, RunContext, StepProgress
from pipeline.mirror.state.markers import Fileset
from tasks.runtime.errors import as_mirror_error

# Function at module level, called with the context of the run, the argument and the report of progress.
Work = Callable[[RunContext, Any, Report], Any]

# While one extraction waits for the disk, another inflates.
UNPACKED_PER_CORE = 2
UNPACKED_AT_ONCE = UNPACKED_PER_CORE * CORES
# Pause between the first two reports of a step, which doubles up to a little less than the second after which
# steps report.
FIRST_PAUSE = 0.15
REPORT_SECONDS = 0.9
_PR_SET_PDEATHSIG = 1


def do_step(context: RunContext, step: tuple[str, Fileset], report: Report) -> None:
    """Do one step, by its name, of one fileset. Raises MirrorError."""
    name, fileset = step
    context.steps[name].do(context, fileset, report)


def get_listing(context: RunContext, url: str, _: Report) -> bytes:
    """Return the body of a listing, valid or not. Raises ServerUnavailable."""
    return retry(context.upstream.retry_policy, lambda: context.upstream.fetch_body(url))


class ProcessLost(MirrorError):
    """Process of this run that was killed."""


@dataclass(frozen=True)
class _Process:
    pid: int
    channels: list[Connection]


class Processes:
    """Processes that do the same kind of work. Safe for use by several threads."""

    def __init__(self, what: str, context: RunContext, processes: list[_Process]) -> None:
        self._what = what
        self._context = context
        self._processes = processes
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        # Alternating, so that the first two filesets do not share a process.
        for channels in zip(*(process.channels for process in processes), strict=True):
            for channel in channels:
                self._idle.put(channel)

    def do(self, work: Work, argument: Any, report: Report = lambda *_: None) -> Any:
        """Call ``work`` in one of the processes. Raises the errors of ``work``, or ProcessLost."""
        channel = self._idle.get()
        try:
            channel.send((work, argument))
            while True:
                received, kind, content = channel.recv()
                self._context.counters.count(received=received)
                if kind == "report":
                    report(content)
                elif kind == "result":
                    return content
                else:
                    raise content
        except (EOFError, OSError):
            raise ProcessLost(
                f"the process that {self._what} was killed (did this machine run out of memory?). "
                "The next run goes on from here."
            ) from None
        finally:
            self._idle.put(channel)

    def stop(self) -> None:
        """Interrupt every pause between retries; steps in progress go on."""
        for process in self._processes:
            os.kill(process.pid, signal.SIGUSR1)

    def close(self) -> None:
        """Close all channels, and wait until the processes have exited."""
        for process in self._processes:
            for channel in process.channels:
                channel.close()
        for process in self._processes:
            os.waitpid(process.pid, 0)


@contextmanager
def step_processes(context: RunContext, stopping: threading.Event) -> Iterator[tuple[Processes, Processes]]:
    """Fork the process that fetches and those that unpack; ``Processes.stop`` sets ``stopping`` in them."""
    sys.stdout.flush()
    sys.stderr.flush()
    # A collection would write to every existing object, and thereby copy the pages that the processes share.
    gc.freeze()
    forked: list[_Process] = []
    # Until each process has installed its own handlers.
    allowed = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
    for channels in [context.settings.source.connections, *(UNPACKED_PER_CORE for _ in range(CORES))]:
        forked.append(_fork(context, stopping, channels, forked))
    signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
    fetching = Processes("fetches", context, forked[:1])
    unpacking = Processes("unpacks", context, forked[1:])
    try:
        yield fetching, unpacking
    finally:
        fetching.close()
        unpacking.close()


def _fork(context: RunContext, stopping: threading.Event, channels: int, earlier: list[_Process]) -> _Process:
    pipes = [Pipe() for _ in range(channels)]
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            # With an end still open in a sibling, the worker would not notice the death of this process.
            for channel in (*(each for process in earlier for each in process.channels), *_ours(pipes)):
                channel.close()
            _serve(context, stopping, [theirs for _, theirs in pipes], parent)
        except Exception as error:
            # For example no more threads. The code of the parent must not run here too.
            # In one piece with its end, as the processes share standard error.
            line = f"ipp-mirror: a process of this run cannot begin: {error}\n"
            print(line, end="", file=sys.stderr, flush=True)
        finally:
            os._exit(1)
    for _, theirs in pipes:
        theirs.close()
    return _Process(pid, _ours(pipes))


def _ours(pipes: list[tuple[Connection, Connection]]) -> list[Connection]:
    return [ours for ours, _ in pipes]


def _serve(
    context: RunContext, stopping: threading.Event, channels: list[Connection], parent: int
) -> NoReturn:
    """Serve all channels until the parent closes them or is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # The parent handles the signals sent to its process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # ``sigwait`` rather than a handler: a handler interrupted by another signal could deadlock on the event.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1})
    threading.Thread(target=_wait_for_stop, args=(stopping,), daemon=True).start()
    threads = [
        threading.Thread(target=_serve_channel, args=(context, channel), daemon=True) for channel in channels
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)


def _wait_for_stop(stopping: threading.Event) -> None:
    signal.sigwait({signal.SIGUSR1})
    stopping.set()


def _serve_channel(context: RunContext, channel: Connection) -> None:
    # EOFError: the parent has closed the channel, or is gone.
    with suppress(EOFError, OSError):
        while True:
            work, argument = channel.recv()
            sender = _ProgressSender(context, channel)
            sender.send(*_outcome(work, context, argument, sender))


def _outcome(work: Work, context: RunContext, argument: Any, sender: "_ProgressSender") -> tuple[str, Any]:
    try:
        return "result", work(context, argument, sender.report)
    except Exception as error:
        return "error", as_mirror_error(error)


class _ProgressSender:
    """Sender of the progress and the result of one step, each with the bytes received since the last one."""

    def __init__(self, context: RunContext, channel: Connection) -> None:
        self._context = context
        self._channel = channel
        self._report_at = 0.0
        self._pause = FIRST_PAUSE
        self._lock = threading.Lock()

    def report(self, progress: StepProgress) -> None:
        """Send the progress: the first one, then at most one after each pause."""
        now = time.monotonic()
        if now >= self._report_at:
            self._report_at = now + self._pause
            self._pause = min(REPORT_SECONDS, 2 * self._pause)
            self.send("report", progress)

    def send(self, kind: str, content: Any) -> None:
        """Send a "report", the "result" or the "error". Safe for several threads."""
        with self._lock:
            self._channel.send((self._context.counters.take_received(), kind, content))
