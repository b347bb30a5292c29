"""Semaphore that serves waiting threads in the order of their arrival."""

import threading
from collections import deque
from types import TracebackType


class FifoSemaphore:
    """FIFO semaphore. Safe for use by several threads.

    A thread that has just released a ``threading.Semaphore`` may acquire it again before waiting threads: a
    thread that fetches one file after the other would delay listings until the last file.
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
        """Wait for a free place, behind the threads that came before."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        turn.acquire()

    def release(self) -> None:
        """Release a place, to the thread that has waited longest if one waits."""
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
