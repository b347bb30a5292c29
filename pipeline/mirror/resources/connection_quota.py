"""Who may use how many of the connections, so that all processes of an update together keep to the limit.

A process that works alone lends all of them to whatever fileset has use for them. When others take part,
each fileset keeps to one connection, which Luigi counts for the filesets in progress everywhere: the sum
is then within the limit without a word between the processes.
"""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SHARED, _OVER = 0, slice(1, 5)


class Shares:
    """The connections of one process. Safe for use by several threads.

    What ``share`` sets is seen by processes that are forked off, and what these use is seen by ``kept``.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._used: dict[object, int] = {}
        self._lock = threading.Lock()
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def share(self, shared: bool) -> None:
        """Let each fileset keep to one connection from now on, or not any more."""
        self._memory[_SHARED] = shared

    @property
    def kept(self) -> bool:
        """Whether no fileset uses more than one connection."""
        return not any(self._memory[_OVER])

    @property
    def fraction(self) -> float:
        """The part of all connections that the filesets being fetched here may use."""
        if not self._memory[_SHARED]:
            return 1.0
        return min(1.0, max(1, len(self._used)) / self._connections)

    def surplus(self, fileset: object, using: int) -> int:
        """How many of the connections that a fileset uses, or is about to use, are beyond its one."""
        # First said, then looked: either this process sees that it is to share, or whoever shares sees this.
        self._note(fileset, using)
        return max(0, using - 1) if self._memory[_SHARED] else 0

    @contextmanager
    def all_lent(self, file: object) -> Iterator[bool]:
        """Whether one file may use whatever connections are idle, for as long as the ``with`` lasts."""
        self._note(file, self._connections)
        try:
            alone = not self._memory[_SHARED]
            if not alone:
                self._note(file, None)
            yield alone
        finally:
            self._note(file, None)

    def done(self, fileset: object) -> None:
        """The fileset uses none any more."""
        self._note(fileset, None)

    def _note(self, fileset: object, using: int | None) -> None:
        with self._lock:
            if using is None:
                self._used.pop(fileset, None)
            else:
                self._used[fileset] = using
            over = sum(max(0, count - 1) for count in self._used.values())
            self._memory[_OVER] = over.to_bytes(4, "little")
