"""Disks of a mirror: free space, growth, and the day on which a disk is full."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.config import Settings
from pipeline.mirror.resources.file_systems import nearest_folder
from pipeline.mirror.state.layout import LOOK_UP_AT_MOST, Layout, MarkerKind
from pipeline.mirror.state.snapshot import held_bytes

_FURTHEST = timedelta(days=36_500)


@dataclass(frozen=True)
class Disk:
    """One file system: the ``folders`` of the mirror on it, and bytes.

    ``growth`` is in bytes per day, None while it is not known. ``full`` is the date (UTC) on which free space
    reaches ``min_free``; None when it does not grow, or in a hundred years.
    """

    folders: tuple[str, ...]
    size: int
    free: int
    min_free: int
    growth: float | None
    full: str | None


def disks(layout: Layout, settings: Settings, bytes_per_day: float | None, now: datetime) -> tuple[Disk, ...]:
    """Return the file systems of the mirror, that of the root first. Raises OSError.

    ``bytes_per_day`` are fetched: bundles grow ``store/`` by as much where they are kept, and ``data/`` in
    the ratio of what is unpacked to what was fetched so far.
    """
    by_device: dict[int, list[str]] = {}
    for folder in _folders(layout):
        device = nearest_folder(layout.root / folder).stat().st_dev
        by_device.setdefault(device, []).append(folder)
    growth = _growth(layout, settings, bytes_per_day)
    return tuple(_disk(layout, settings, folders, growth, now) for folders in by_device.values())


def _folders(layout: Layout) -> Iterator[str]:
    yield from (".", "store", "data", "incoming", "state")
    with suppress(OSError):
        yield from sorted(f"store/{path.name}" for path in layout.store_root.iterdir() if path.is_symlink())


def _growth(layout: Layout, settings: Settings, bytes_per_day: float | None) -> dict[str, float] | None:
    """Return bytes per day by folder; None while they are not known."""
    if bytes_per_day is None:
        return None
    fetched = _held(layout, MarkerKind.DOWNLOADED)
    unpacked = _held(layout, MarkerKind.EXTRACTED)
    ratio = unpacked / fetched if fetched and settings.mirror.unpack else 0.0
    return {"store": bytes_per_day * settings.mirror.keep_bundles, "data": bytes_per_day * ratio}


def _held(layout: Layout, kind: MarkerKind) -> int:
    folders = (layout.marker_folder(kind, product) for product in layout.state_products())
    return sum(held_bytes(folder, LOOK_UP_AT_MOST)[0] for folder in folders)


def _disk(
    layout: Layout, settings: Settings, folders: list[str], growth: dict[str, float] | None, now: datetime
) -> Disk:
    usage = shutil.disk_usage(nearest_folder(layout.root / folders[0]))
    min_free = settings.mirror.min_free
    daily = None if growth is None else sum(growth.get(folder, 0.0) for folder in folders)
    full = None
    if daily and (left := timedelta(days=min(max(0, usage.free - min_free) / daily, 40_000))) < _FURTHEST:
        full = (now + left).date().isoformat()
    return Disk(tuple(folders), usage.total, usage.free, min_free, daily, full)
