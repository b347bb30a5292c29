"""Quota of connections, by which all processes of an update together keep to the limit.

In a process that works alone any fileset may use all idle connections. When other processes take part, each
fileset keeps to one connection, which Luigi counts as a resource of its task on every host: the sum stays
within the limit without messages between the processes.
"""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SHARED, _OVER = 0, slice(1, 5)


class ConnectionQuota:
    """Connections of one process. Safe for use by several threads.

    ``share`` and ``is_kept`` act across forked processes, through shared memory.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._used: dict[object, int] = {}
        self._lock = threading.Lock()
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def share(self, shared: bool) -> None:
        """Limit each fileset to one connection from now on, or lift that limit."""
        self._memory[_SHARED] = shared

    @property
    def is_kept(self) -> bool:
        """True while no fileset uses more than one connection."""
        return not any(self._memory[_OVER])

    @property
    def fraction(self) -> float:
        """Part of all connections that the filesets in progress here may use, from 0 to 1."""
        if not self._memory[_SHARED]:
            return 1.0
        return min(1.0, max(1, len(self._used)) / self._connections)

    def surplus(self, fileset: object, using: int) -> int:
        """Return how many of the connections that a fileset uses, or is about to use, exceed its quota."""
        # Recorded before the flag is read: either the flag is found here, or the record where the flag is
        # set.
        self._record(fileset, using)
        return max(0, using - 1) if self._memory[_SHARED] else 0

    @contextmanager
    def all_lent(self, file: object) -> Iterator[bool]:
        """Yield True if one file may use all idle connections inside the ``with``."""
        self._record(file, self._connections)
        try:
            alone = not self._memory[_SHARED]
            if not alone:
                self._record(file, None)
            yield alone
        finally:
            self._record(file, None)

    def done(self, fileset: object) -> None:
        """Record that the fileset uses no connection any more."""
        self._record(fileset, None)

    def _record(self, fileset: object, using: int | None) -> None:
        with self._lock:
            if using is None:
                self._used.pop(fileset, None)
            else:
                self._used[fileset] = using
            over = sum(max(0, count - 1) for count in self._used.values())
            self._memory[_OVER] = over.to_bytes(4, "little")
