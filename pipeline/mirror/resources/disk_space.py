"""Disk space: reservations, so that ``mirror.min_free`` bytes stay free on the disk."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import NoSpace
from pipeline.units import as_size


class Reservation:
    """Bytes reserved for one writer; bytes that are written are no longer reserved."""

    def __init__(self, needed: int) -> None:
        self.left = needed
        self._lock = threading.Lock()

    def written(self, count: int) -> None:
        """Release the reservation of ``count`` bytes that have been written."""
        with self._lock:
            self.left = max(0, self.left - count)


class DiskSpace:
    """Space below ``root`` (bytes), reserved by the filesets in progress before they write."""

    def __init__(self, root: Path, min_free: int) -> None:
        self._root = root
        self._min_free = min_free
        self._reservations: set[Reservation] = set()
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self, needed: int, what: str) -> Iterator[Reservation]:
        """Reserve ``needed`` bytes for ``what``. Raises NoSpace when they are not available."""
        reservation = Reservation(needed)
        with self._lock:
            # Reserved bytes are added up first: bytes written in between count twice, which is safe.
            reserved = sum(other.left for other in self._reservations)
            free = shutil.disk_usage(self._root).free
            missing = needed + reserved + self._min_free - free
            if missing > 0:
                raise NoSpace(
                    f"{what} needs {as_size(needed)} below {self._root}; {as_size(free)} are free, "
                    f"of which {as_size(self._min_free)} stay free (mirror.min_free) and "
                    f"{as_size(reserved)} are reserved for other filesets: "
                    f"{as_size(missing)} are missing. Make room; the next run tries again."
                )
            self._reservations.add(reservation)
        try:
            yield reservation
        finally:
            with self._lock:
                self._reservations.remove(reservation)
