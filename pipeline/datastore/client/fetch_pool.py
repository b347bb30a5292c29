"""The threads that fetch: whole files in the order they come, and what can wait when nothing else does."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Turn:
    """Work for one connection."""

    work: Callable[..., Any]
    args: tuple
    future: Future = field(default_factory=Future)

    def __call__(self) -> None:
        try:
            self.future.set_result(self.work(*self.args))
        except BaseException as error:
            self.future.set_exception(error)


class Connections:
    """One thread for each connection that may be in use. Safe for use by several threads.

    The threads are started with the first work.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads: list[threading.Thread] = []
        self._waiting: deque[_Turn] = deque()
        self._spare: list[tuple[int, Callable[[], bool]]] = []
        self._order = itertools.count()
        self._busy = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def idle(self) -> int:
        """How many have nothing to do, and nothing that waits for them."""
        with self._changed:
            self._skip_cancelled()
            return max(0, self.count - self._busy - len(self._waiting))

    def submit(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Have the work done in its turn; its result to come."""
        turn = _Turn(work, args)
        with self._changed:
            self._waiting.append(turn)
            self._call()
        return turn.future

    def when_idle(self, work: Callable[[], bool]) -> None:
        """Have the work done whenever nothing else waits, again and again until it gives False.

        What was handed in first goes first. The work raises nothing.
        """
        with self._changed:
            heapq.heappush(self._spare, (next(self._order), work))
            self._call()

    def close(self) -> None:
        """Forget what waits, and wait for what is being done."""
        with self._changed:
            self._closed = True
            self._spare.clear()
            for turn in self._waiting:
                turn.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        """Let a thread see what was handed in."""
        if self._closed:
            raise RuntimeError("expected work before the connections are closed")
        if len(self._threads) < self.count:
            thread = threading.Thread(
                target=self._serve, name=f"connection {len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._changed.notify()

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work()
            with self._changed:
                self._busy -= 1

    def _next(self) -> Callable[[], None] | None:
        """What this thread does now; None when it is to end."""
        work: Callable[[], None] | None = None
        with self._changed:
            while work is None:
                self._skip_cancelled()
                if self._waiting:
                    turn = self._waiting.popleft()
                    work = turn if turn.future.set_running_or_notify_cancel() else None
                elif self._spare:
                    work = partial(self._do_spare, *heapq.heappop(self._spare))
                elif self._closed:
                    return None
                else:
                    self._changed.wait()
            self._busy += 1
        return work

    def _do_spare(self, order: int, work: Callable[[], bool]) -> None:
        if work():
            with self._changed:
                if not self._closed:
                    heapq.heappush(self._spare, (order, work))

    def _skip_cancelled(self) -> None:
        while self._waiting and self._waiting[0].future.cancelled():
            self._waiting.popleft().future.set_running_or_notify_cancel()
