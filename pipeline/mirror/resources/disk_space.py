"""Never fill the disk beyond what the settings leave free."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import MachineFault
from pipeline.units import as_size


class Promise:
    """Bytes that are held for one who will write them; what is written is no longer held."""

    def __init__(self, needed: int) -> None:
        self.left = needed
        self._lock = threading.Lock()

    def written(self, count: int) -> None:
        """So many bytes are on the disk now, and no longer among its free ones."""
        with self._lock:
            self.left = max(0, self.left - count)


class DiskSpace:
    """The space below ``root`` (bytes), shared by the filesets in hand: each reserves what it will write."""

    def __init__(self, root: Path, min_free: int) -> None:
        self._root = root
        self._min_free = min_free
        self._promises: set[Promise] = set()
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self, needed: int, what: str) -> Iterator[Promise]:
        """Hold ``needed`` bytes for ``what``. Raises MachineFault when they are not to be had."""
        promise = Promise(needed)
        with self._lock:
            # In this order: what is written in between counts as promised and as gone, which is safe.
            promised = sum(other.left for other in self._promises)
            free = shutil.disk_usage(self._root).free
            missing = needed + promised + self._min_free - free
            if missing > 0:
                raise MachineFault(
                    f"{what} needs {as_size(needed)} below {self._root}; {as_size(free)} are free, "
                    f"of which {as_size(self._min_free)} stay free (mirror.min_free) and "
                    f"{as_size(promised)} are promised to other filesets: "
                    f"{as_size(missing)} are missing. Make room; the next run tries again."
                )
            self._promises.add(promise)
        try:
            yield promise
        finally:
            with self._lock:
                self._promises.remove(promise)
