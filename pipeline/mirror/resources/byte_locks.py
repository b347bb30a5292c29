"""Locks by name, between threads, processes and hosts: each name is a byte of one file, which stays empty.

The kernel holds them (``fcntl``), over NFS the file server: however a process dies, its bytes are free
again, and no lock file is left behind.
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

# Two names that share a byte wait for each other without need: with so many, hardly ever.
_BYTES = 1 << 20
# Between two tries for a byte that another process holds. The kernel's own way to wait takes the threads of a
# process for one, and refuses as a deadlock what is none.
_PAUSE_SECONDS = 0.01


class ByteLocks:
    """The locks of one file. Safe for use by several threads and processes.

    A process has one for each file at most: closing a file gives back all that the process has locked of it.
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
    def held(self, names: Iterable[str], what: str, patience: float = float("inf")) -> Iterator[None]:
        """Hold all the names.

        Raises MachineFault, which says that somebody else holds ``what``, when they are not to be had
        within ``patience`` seconds.
        """
        until = time.monotonic() + patience
        places = sorted({int(short_digest(name), 16) % _BYTES for name in names})
        with self._held_here(places, what, until), self._locked(places, what, until):
            yield

    @contextmanager
    def _held_here(self, places: list[int], what: str, until: float) -> Iterator[None]:
        """Keep the other threads of this process out: the kernel's lock is one for all of them."""
        with self._changed:
            patience = min(until - time.monotonic(), threading.TIMEOUT_MAX)
            if not self._changed.wait_for(lambda: self._held.isdisjoint(places), patience):
                raise _refusal(what)
            self._held.update(places)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(places)
                self._changed.notify_all()

    @contextmanager
    def _locked(self, places: list[int], what: str, until: float) -> Iterator[None]:
        """Keep other processes out. In the order of the bytes, so that no two wait for each other."""
        file = self._opened()
        try:
            for place in places:
                while not _try_to_lock(file, place):
                    if time.monotonic() > until:
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
        f"{what}: expected nobody else to have it in hand, but another process of this mirror does, and "
        "does not let go. If it hangs, end it; the next run tries again."
    )
