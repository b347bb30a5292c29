"""Threads that fetch: files in the order in which they are submitted, and idle tasks while no file waits."""

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
class _Task:
    """Submitted task and its future."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)

    def __call__(self) -> None:
        try:
            self.future.set_result(self.function(*self.args))
        except BaseException as error:
            self.future.set_exception(error)


class FetchPool:
    """Pool of ``count`` threads, one for each connection. Safe for use by several threads.

    As ``ThreadPoolExecutor``, with a second queue of idle tasks. Threads are started as tasks are submitted.

    >>> pool = FetchPool(2)
    >>> pool.submit(divmod, 7, 2).result()
    (3, 1)
    >>> pool.close()
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads: list[threading.Thread] = []
        self._waiting: deque[_Task] = deque()
        self._idle_tasks: list[tuple[int, Callable[[], bool]]] = []
        self._order = itertools.count()
        self._busy = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def idle(self) -> int:
        """Number of threads for which there is no submitted task."""
        with self._changed:
            self._skip_cancelled()
            return max(0, self.count - self._busy - len(self._waiting))

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Submit a task; return the future of its result. Tasks are run in the order of submission."""
        task = _Task(function, args)
        with self._changed:
            self._waiting.append(task)
            self._wake()
        return task.future

    def add_idle_task(self, task: Callable[[], bool]) -> None:
        """Run a task whenever no submitted one waits, repeatedly until it returns False.

        Of several idle tasks the one that was added first is run. The task raises nothing.
        """
        with self._changed:
            heapq.heappush(self._idle_tasks, (next(self._order), task))
            self._wake()

    def close(self) -> None:
        """Cancel the tasks that wait, and wait for those that run."""
        with self._changed:
            self._closed = True
            self._idle_tasks.clear()
            for task in self._waiting:
                task.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _wake(self) -> None:
        """Wake a thread, or start one more."""
        if self._closed:
            raise RuntimeError("expected tasks before the pool is closed")
        if len(self._threads) < self.count:
            thread = threading.Thread(target=self._run, name=f"fetch {len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while (task := self._claim()) is not None:
            task()
            with self._changed:
                self._busy -= 1

    def _claim(self) -> Callable[[], None] | None:
        """Wait for the next task of this thread and return it; None after ``close``."""
        task: Callable[[], None] | None = None
        with self._changed:
            while task is None:
                self._skip_cancelled()
                if self._waiting:
                    first = self._waiting.popleft()
                    task = first if first.future.set_running_or_notify_cancel() else None
                elif self._idle_tasks:
                    task = partial(self._run_idle_task, *heapq.heappop(self._idle_tasks))
                elif self._closed:
                    return None
                else:
                    self._changed.wait()
            self._busy += 1
        return task

    def _run_idle_task(self, order: int, task: Callable[[], bool]) -> None:
        if task():
            with self._changed:
                if not self._closed:
                    heapq.heappush(self._idle_tasks, (order, task))

    def _skip_cancelled(self) -> None:
        while self._waiting and self._waiting[0].future.cancelled():
            self._waiting.popleft().future.set_running_or_notify_cancel()
