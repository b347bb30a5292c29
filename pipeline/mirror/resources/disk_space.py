"""Disk space: reservations, so that ``min_free`` bytes stay free on each disk of the mirror."""

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Mirror, Volume
from pipeline.errors import NoSpace
from pipeline.mirror.resources.file_systems import is_reachable, nearest_folder
from pipeline.mirror.state.layout import Layout
from pipeline.units import as_size

# Folders of the root that may lie on several disks, on each of which ``mirror.min_free`` stays free.
FOLDERS = (".", "store", "data", "incoming", "state")


@dataclass(frozen=True)
class MinFree:
    """Bytes that stay free on each file system: ``least``, unless the volumes on it say otherwise.

    Where several settings are about one file system, such as those of two volumes, or of a volume and of one
    of the mirror's ``folders``, the largest holds.
    """

    least: int
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, layout: Layout, settings: Mirror) -> "MinFree":
        """Return what the settings of a mirror say."""
        return cls(settings.min_free, settings.volumes, tuple(layout.root / name for name in FOLDERS))

    def on(self, device: int) -> tuple[int, str]:
        """Return the bytes that stay free on a file system, and the setting that says so. Raises OSError."""
        here = {
            pattern: volume.min_free
            for pattern, volume in self.volumes.items()
            if is_reachable(volume.path) and volume.path.stat().st_dev == device
        }
        said = [(f"mirror.volumes.{pattern}.min_free", count) for pattern, count in here.items()]
        own = {nearest_folder(folder).stat().st_dev for folder in self.folders}
        found = [(count, setting) for setting, count in said if count is not None]
        if len(found) < len(here) or not here or device in own:
            found.insert(0, (self.least, "mirror.min_free"))
        return max(found, key=lambda each: each[0])


class Reservation:
    """Bytes ``left`` for one writer on the file system of ``folder``; written ones are no longer reserved."""

    def __init__(self, space: "DiskSpace", folder: Path, what: str) -> None:
        self.left = 0
        self.folder = folder
        self.device = folder.stat().st_dev
        self._space = space
        self._what = what
        self._lock = threading.Lock()

    def add(self, needed: int) -> None:
        """Reserve ``needed`` bytes more."""
        self.left += needed

    def written(self, count: int) -> None:
        """Release the reservation of ``count`` bytes that have been written.

        Raises NoSpace when they are more than what was reserved and what is free.
        """
        with self._lock:
            beyond = count > self.left
            self.left = max(0, self.left - count)
        if beyond:
            self._space.check(self, 0, f"{self._what} needs more than was reserved")


class DiskSpace:
    """Space (bytes) on the file systems of a mirror, reserved by the filesets in progress before they write.

    ``data/`` may lie on another file system than ``incoming/``, a folder in ``data/`` on a third one, and
    products on volumes.
    """

    def __init__(self, min_free: MinFree) -> None:
        self._min_free = min_free
        self._reservations: set[Reservation] = set()
        self._lock = threading.RLock()

    @contextmanager
    def reserved(self, needed: Mapping[Path, int], what: str) -> Iterator[dict[Path, Reservation]]:
        """Reserve, for ``what``, as many bytes as are needed in each folder, which need not exist yet.

        Yield the reservation of each folder; folders of one file system share it. Raises NoSpace when
        the bytes are not available, OSError when a file system does not tell.
        """
        by_device: dict[int, Reservation] = {}
        by_folder: dict[Path, Reservation] = {}
        for folder, count in needed.items():
            reservation = Reservation(self, nearest_folder(folder), what)
            by_folder[folder] = by_device.setdefault(reservation.device, reservation)
            by_folder[folder].add(count)
        with self._lock:
            for reservation in by_device.values():
                self.check(reservation, reservation.left, f"{what} needs {as_size(reservation.left)}")
            self._reservations.update(by_device.values())
        try:
            yield by_folder
        finally:
            with self._lock:
                self._reservations.difference_update(by_device.values())

    def check(self, reservation: Reservation, needed: int, need: str) -> None:
        """Raise NoSpace when ``needed`` bytes are not available besides those that are reserved."""
        with self._lock:
            # Reserved bytes are added up first: bytes written in between count twice, which is safe.
            reserved = sum(other.left for other in self._reservations if other.device == reservation.device)
        disk = shutil.disk_usage(reservation.folder)
        min_free, setting = self._min_free.on(reservation.device)
        missing = needed + reserved + min_free - disk.free
        if missing > 0:
            remedy = "Free disk space"
            if min_free >= disk.total:
                remedy = f"The disk holds {as_size(disk.total)} in all: lower {setting}"
            raise NoSpace(
                f"{need} below {reservation.folder}; {as_size(disk.free)} are free, "
                f"{as_size(min_free)} are to stay free ({setting}) and "
                f"{as_size(reserved)} are reserved for other filesets: "
                f"{as_size(missing)} are missing. {remedy}; the next run tries again."
            )
