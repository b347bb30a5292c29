"""Semaphore that serves waiting threads in the order of their arrival."""

import threading
from collections import deque
from types import TracebackType


class FifoSemaphore:
    """FIFO semaphore. Safe for use by several threads.

    ``threading.Semaphore`` lets the thread that has just released it acquire it again before those that wait:
    a thread that fetches one file after the other would keep listings waiting for as long as there are files.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._turns: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Number of threads that wait."""
        return len(self._turns)

    def acquire(self) -> None:
        """Wait until one is free and nobody came before."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        turn.acquire()

    def release(self) -> None:
        """Hand it to the thread that has waited longest, or free it."""
        with self._lock:
            if self._turns:
                self._turns.popleft().release()
            else:
                self._free += 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
