"""Never fill the disk beyond what the settings leave free."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import MachineFault
from pipeline.mirror.status import as_size


class DiskSpace:
    """The space below ``root`` (bytes), shared by the filesets in hand: each reserves what it will write."""

    def __init__(self, root: Path, min_free: int) -> None:
        self._root = root
        self._min_free = min_free
        self._reserved = 0
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self, needed: int, what: str) -> Iterator[None]:
        """Hold ``needed`` bytes for ``what``. Raises MachineFault when they are not to be had."""
        with self._lock:
            free = shutil.disk_usage(self._root).free
            missing = needed + self._reserved + self._min_free - free
            if missing > 0:
                raise MachineFault(
                    f"{what} needs {as_size(needed)} below {self._root}; {as_size(free)} are free, "
                    f"of which {as_size(self._min_free)} stay free (mirror.min_free) and "
                    f"{as_size(self._reserved)} are promised to other filesets: "
                    f"{as_size(missing)} are missing. Make room; the next run tries again."
                )
            self._reserved += needed
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= needed
