"""Disk space: reservations, so that ``mirror.min_free`` bytes stay free on the disk."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import NoSpace
from pipeline.units import as_size


class Reservation:
    """Bytes reserved for one writer; bytes that are written are no longer reserved.

    ``check`` raises NoSpace when there is no room for more than was reserved.
    """

    def __init__(self, needed: int, check: Callable[[], None]) -> None:
        self.left = needed
        self._check = check
        self._lock = threading.Lock()

    def written(self, count: int) -> None:
        """Release the reservation of ``count`` bytes that have been written.

        Raises NoSpace when they are more than what was reserved and what is free.
        """
        with self._lock:
            beyond = count > self.left
            self.left = max(0, self.left - count)
        if beyond:
            self._check()


class DiskSpace:
    """Space below ``root`` (bytes), reserved by the filesets in progress before they write."""

    def __init__(self, root: Path, min_free: int) -> None:
        self._root = root
        self._min_free = min_free
        self._reservations: set[Reservation] = set()
        self._lock = threading.RLock()

    @contextmanager
    def reserved(self, needed: int, what: str) -> Iterator[Reservation]:
        """Reserve ``needed`` bytes for ``what``. Raises NoSpace when they are not available."""
        reservation = Reservation(needed, lambda: self._check(0, f"{what} needs more than was reserved"))
        with self._lock:
            self._check(needed, f"{what} needs {as_size(needed)}")
            self._reservations.add(reservation)
        try:
            yield reservation
        finally:
            with self._lock:
                self._reservations.remove(reservation)

    def _check(self, needed: int, need: str) -> None:
        """Raise NoSpace when ``needed`` bytes are not available besides those that are reserved."""
        with self._lock:
            # Reserved bytes are added up first: bytes written in between count twice, which is safe.
            reserved = sum(other.left for other in self._reservations)
        free = shutil.disk_usage(self._root).free
        missing = needed + reserved + self._min_free - free
        if missing > 0:
            raise NoSpace(
                f"{need} below {self._root}; {as_size(free)} are free, "
                f"of which {as_size(self._min_free)} stay free (mirror.min_free) and "
                f"{as_size(reserved)} are reserved for other filesets: "
                f"{as_size(missing)} are missing. Make room; the next run tries again."
            )
