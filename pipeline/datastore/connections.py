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
    """Work for one connection, which ``asks`` for that address first, if that is known."""

    work: Callable[..., Any]
    args: tuple
    asks: str | None
    future: Future = field(default_factory=Future)

    def begins(self) -> bool:
        """Whether it is to be done; it cannot be cancelled any more then."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def __call__(self) -> None:
        try:
            self.future.set_result(self.work(*self.args))
        except BaseException as error:
            self.future.set_exception(error)


class _Own(threading.local):
    """What one of the threads took charge of; it does that next."""

    serves = False
    turn: _Turn | None = None


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
        self._own = _Own()

    @property
    def idle(self) -> int:
        """How many have nothing to do, and nothing that waits for them."""
        with self._changed:
            self._skip_cancelled()
            return max(0, self.count - self._busy - len(self._waiting))

    @property
    def files_wait(self) -> bool:
        """Whether there is work that goes before what can wait."""
        with self._changed:
            self._skip_cancelled()
            return bool(self._waiting)

    def submit(self, work: Callable[..., T], *args: Any, asks: str | None = None) -> Future[T]:
        """Have the work done in its turn; its result to come.

        Work that ``asks`` for an address may be taken charge of before its turn (``take_next``).
        """
        turn = _Turn(work, args, asks)
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

    def take_next(self) -> str | None:
        """Called by work: have this thread do next what waits first; the address that it asks for.

        None when nothing waits, when it is not known what it asks for, and in any other thread.
        """
        with self._changed:
            self._skip_cancelled()
            known = self._waiting and self._waiting[0].asks is not None
            if self._own.serves and self._own.turn is None and known:
                turn = self._waiting.popleft()
                self._own.turn = turn if turn.begins() else None
            return self._own.turn.asks if self._own.turn else None

    def give_back(self) -> None:
        """Called by work that will take longer: what it took charge of is for any thread again."""
        with self._changed:
            if self._own.turn is not None:
                self._waiting.appendleft(self._own.turn)
                self._own.turn = None
                self._changed.notify()

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
        self._own.serves = True
        while (work := self._next()) is not None:
            work()
            with self._changed:
                self._busy -= 1

    def _next(self) -> Callable[[], None] | None:
        """What this thread does now; None when it is to end."""
        own, self._own.turn = self._own.turn, None
        with self._changed:
            while own is None:
                self._skip_cancelled()
                if self._waiting:
                    turn = self._waiting.popleft()
                    own = turn if turn.begins() else None
                elif self._spare:
                    order, work = heapq.heappop(self._spare)
                    own = partial(self._do_spare, order, work)
                elif self._closed:
                    return None
                else:
                    self._changed.wait()
            self._busy += 1
        return own

    def _do_spare(self, order: int, work: Callable[[], bool]) -> None:
        if work():
            with self._changed:
                if not self._closed:
                    heapq.heappush(self._spare, (order, work))

    def _skip_cancelled(self) -> None:
        while self._waiting and self._waiting[0].future.cancelled():
            self._waiting.popleft().future.set_running_or_notify_cancel()
