"""The threads that fetch: whole files in the order they come, and what can wait when nothing else does."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Ask(NamedTuple):
    """The address that work asks for first, and about how many ``bytes`` the answer has.

    ``bytes`` is 0 where nobody knows but they are few, and infinite where nothing may be asked before the
    answer is here.
    """

    url: str
    bytes: float


class Upcoming(Protocol):
    """The work that a thread does after the one in hand, in order; see ``Connections``."""

    @property
    def taken(self) -> list[Ask]:
        """What the work of which the thread took charge asks for."""

    def take_next(self) -> bool:
        """Take charge of one more; False when there is none, or it is not known what it asks for."""

    def give_back(self) -> None:
        """Do without having taken charge of anything: what was asked for is not on its way any more."""


class InTurn:
    """The work of a thread that does all of it by itself; ``asks`` is what each part of it asks for first."""

    def __init__(self, asks: Iterable[Ask | None]) -> None:
        self._asks = deque(asks)
        self._taken = 0

    @property
    def taken(self) -> list[Ask]:
        """As ``Upcoming`` has it."""
        return list(islice(self._asks, self._taken))

    def take_next(self) -> bool:
        """As ``Upcoming`` has it."""
        known = self._taken < len(self._asks) and self._asks[self._taken] is not None
        self._taken += known
        return known

    def give_back(self) -> None:
        """As ``Upcoming`` has it."""
        self._taken = 0

    def go_on(self) -> None:
        """Begin with the next part."""
        self._asks.popleft()
        self._taken = max(0, self._taken - 1)


@dataclass(frozen=True)
class _Turn:
    """Work for one connection, and what it ``asks`` for first, if that is known."""

    work: Callable[..., Any]
    args: tuple
    asks: Ask | None
    first: bool
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
    """What one of the threads took charge of; it does that next, in this order."""

    serves = False

    def __init__(self) -> None:
        self.turns: deque[_Turn] = deque()


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

    def submit(
        self, work: Callable[..., T], *args: Any, asks: Ask | None = None, first: bool = False
    ) -> Future[T]:
        """Have the work done in its turn, or before all that waits and is not ``first``; its result to come.

        Work of which it is known what it ``asks`` for may be taken charge of before its turn (``take_next``).
        """
        turn = _Turn(work, args, asks, first)
        with self._changed:
            if first:
                others = sum(1 for _ in takewhile(lambda other: other.first, self._waiting))
                self._waiting.insert(others, turn)
            else:
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

    @property
    def taken(self) -> list[Ask]:
        """What the work of which this thread took charge asks for, in the order in which it is done."""
        return [turn.asks for turn in self._own.turns]

    def take_next(self) -> bool:
        """Called by work: have this thread do next what waits first, after all that it took charge of before.

        False when nothing waits (an idle thread begins at once with what is handed in), when it is not known
        what it asks for, and in any other thread.
        """
        with self._changed:
            self._skip_cancelled()
            left = len(self._waiting) > self.count - self._busy
            if not (self._own.serves and left and self._waiting[0].asks):
                return False
            turn = self._waiting.popleft()
            if begins := turn.begins():
                self._own.turns.append(turn)
            return begins

    def give_back(self) -> None:
        """Called by work: what this thread took charge of is for any thread again."""
        with self._changed:
            self._waiting.extendleft(reversed(self._own.turns))
            self._changed.notify(len(self._own.turns))
            self._own.turns.clear()

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
        own = self._own.turns.popleft() if self._own.turns else None
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
