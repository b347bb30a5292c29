"""The threads that fetch: whole files in the order they come, and what can wait when nothing else does."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import PriorityQueue
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Connections:
    """One thread for each connection that may be in use. Safe for use by several threads."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, "connection")
        self._lock = threading.Lock()
        self._waiting = 0
        self._busy = 0
        self._spare: PriorityQueue[tuple[int, Callable[[], bool]]] = PriorityQueue()
        self._order = itertools.count()

    @property
    def idle(self) -> int:
        """How many have nothing to do, and nothing that waits for them."""
        return max(0, self.count - self._busy - self._waiting)

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have the work done in its turn; its result to come."""
        with self._lock:
            self._waiting += 1
        return self._threads.submit(self._in_turn, work, *args, **kwargs)

    def when_idle(self, work: Callable[[], bool]) -> None:
        """Have the work done whenever nothing else waits, again and again until it gives False.

        What was handed in first goes first. The work raises nothing.
        """
        self._spare.put((next(self._order), work))
        self._threads.submit(self._spare_turn)

    def close(self) -> None:
        """Forget what waits, and wait for what is being done."""
        self._threads.shutdown(cancel_futures=True)

    def _in_turn(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            self._waiting -= 1
            self._busy += 1
        try:
            return work(*args, **kwargs)
        finally:
            with self._lock:
                self._busy -= 1

    def _spare_turn(self) -> None:
        # There is a turn in the queue for each work that can wait: this one moves behind all files.
        if not self._waiting and not self._do_spare():
            return
        self._threads.submit(self._spare_turn)

    def _do_spare(self) -> bool:
        """Do the first of what can wait; whether it wants to be done again."""
        with self._lock:
            self._busy += 1
        order, work = self._spare.get()
        try:
            again = work()
        finally:
            with self._lock:
                self._busy -= 1
        if again:
            self._spare.put((order, work))
        return again
