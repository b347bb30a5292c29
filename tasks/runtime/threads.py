"""Threads for Luigi's worker, which would fork a process for each task; and the results that they hand in."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from luigi.worker import TaskProcess


class Threads:
    """Threads that run one thing after another: to start one for each is a fifth of the worker's time."""

    def __init__(self) -> None:
        self._idle = threading.Semaphore(0)
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self, work: Callable[[], None]) -> None:
        """Have it run at once, by a thread that is idle or a new one."""
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._serve, daemon=True).start()
        self._work.put(work)

    def _serve(self) -> None:
        while True:
            self._work.get()()
            self._idle.release()


class TaskThread(TaskProcess):
    """Luigi's task process, run in one of ``threads``."""

    def __init__(self, threads: Threads, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._threads = threads
        self._ended = threading.Event()

    def start(self) -> None:
        """Run the task beside the worker."""
        try:
            self._threads.run(self._run_to_its_end)
        except RuntimeError:
            # No thread can be started: it has ended before it began, and nobody is to wait for it.
            self._ended.set()
            raise

    def _run_to_its_end(self) -> None:
        try:
            self.run()
        finally:
            self._ended.set()

    def is_alive(self) -> bool:
        """Whether the task still runs."""
        return not self._ended.is_set()

    def finish(self) -> None:
        """Wait until the task has ended."""
        self._ended.wait()

    @property
    def exitcode(self) -> None:
        """A thread has none: what went wrong comes through the result queue."""


class Results:
    """The worker's result queue; ``wake`` makes its reader look around at once.

    ``put`` and ``wake`` are safe inside a signal handler.
    """

    def __init__(self) -> None:
        # Whoever waits looks around that often (seconds), whatever Luigi says.
        self.patience = float("inf")
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, result: tuple) -> None:
        """Hand in the result of a task."""
        self._queue.put(result)

    def wake(self) -> None:
        """Let the reader go on as if nothing had come."""
        self._queue.put(None)

    def get(self, timeout: float) -> tuple:
        """The next result; raises queue.Empty after ``timeout`` seconds or when woken."""
        result = self._queue.get(timeout=min(timeout, self.patience))
        if result is None:
            raise queue.Empty
        return result

    @property
    def empty(self) -> bool:
        """Whether neither a result nor a call to wake up is there."""
        return self._queue.empty()

    def close(self) -> None:
        """Nothing is left open."""
