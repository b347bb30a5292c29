"""Byte-range locks by name, between threads, processes and hosts.

Each name is one byte of a file that stays empty. The kernel holds the locks (``fcntl``), over NFS the file
server: however a process dies, its locks are released, and no lock file is left behind.
"""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import MachineFault
from pipeline.mirror.state.layout import short_digest

# Two names with the same byte exclude each other needlessly: a fileset fails when that lasts. With 16 in
# progress and a million of these bytes, each 70,000th would. All file servers can lock so many.
_BYTES = 1 << 31
# Pause between two tries for a byte that another process holds. A blocking fcntl call would treat the threads
# of a process as one owner, and report deadlocks where there are none.
_PAUSE_SECONDS = 0.01


class ByteLocks:
    """Byte-range locks of one file. Safe for use by several threads and processes.

    A process has at most one object for each file: closing a file releases all locks of the process in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._held: set[int] = set()
        self._changed = threading.Condition()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def held(self, names: Iterable[str], what: str, timeout: float = float("inf")) -> Iterator[None]:
        """Hold the locks of all the names.

        Raises MachineFault, which names ``what`` is locked, when another holder does not release them within
        ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        places = sorted({int(short_digest(name), 16) % _BYTES for name in names})
        with self._held_by_thread(places, what, deadline), self._held_by_process(places, what, deadline):
            yield

    @contextmanager
    def _held_by_thread(self, places: list[int], what: str, deadline: float) -> Iterator[None]:
        """Exclude the other threads of this process, which share the kernel's lock."""
        with self._changed:
            timeout = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
            if not self._changed.wait_for(lambda: self._held.isdisjoint(places), timeout):
                raise _refusal(what)
            self._held.update(places)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(places)
                self._changed.notify_all()

    @contextmanager
    def _held_by_process(self, places: list[int], what: str, deadline: float) -> Iterator[None]:
        """Exclude other processes. All lock bytes in ascending order, so that no two wait for each other."""
        file = self._opened()
        try:
            for place in places:
                while not _try_to_lock(file, place):
                    if time.monotonic() > deadline:
                        raise _refusal(what)
                    time.sleep(_PAUSE_SECONDS)
            yield
        finally:
            for place in places:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    def _opened(self) -> int:
        with self._changed:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            return self._file


def _try_to_lock(file: int, place: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return False
        raise
    return True


def _refusal(what: str) -> MachineFault:
    return MachineFault(
        f"{what}: another process of this mirror has it in progress and does not release it. If that process "
        "hangs, end it; the next run tries again."
    )
