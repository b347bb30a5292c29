"""Disks of a mirror: free space, growth, and the day on which a disk is full."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.config import Settings
from pipeline.mirror.resources.disk_space import FOLDERS, MinFree
from pipeline.mirror.resources.file_systems import is_reachable, nearest_folder
from pipeline.mirror.resources.volumes import product_folder
from pipeline.mirror.state.layout import LOOK_UP_AT_MOST, Layout, MarkerKind
from pipeline.mirror.state.snapshot import held_bytes

_FURTHEST = timedelta(days=36_500)
# Products that the name of a disk has.
_NAMED = 3


@dataclass(frozen=True)
class Disk:
    """One file system: the ``folders`` of the mirror on it, and bytes.

    ``path`` is absolute: the root, a volume, or where a folder of the mirror leads. ``growth`` is in bytes
    per day, None while it is not known. ``full`` is the date (UTC) on which free space reaches ``min_free``;
    None when it does not grow, or in a hundred years.
    """

    folders: tuple[str, ...]
    size: int
    free: int
    min_free: int
    growth: float | None
    full: str | None
    path: str

    @property
    def name(self) -> str:
        """The disk in words: its path, and what of the mirror is on it."""
        if "." in self.folders:
            return f"the mirror's disk {self.path}"
        products = [name for _, slash, name in (each.partition("/") for each in self.folders) if slash]
        owners = [f"{folder}/" for folder in self.folders if "/" not in folder]
        if products:
            more = [f"{len(products) - _NAMED} more"] if len(products) > _NAMED else []
            noun = "product" if len(products) == 1 else "products"
            owners.append(f"{noun} {', '.join([*products[:_NAMED], *more])}")
        return f"the disk {self.path} of {' and '.join(owners)}"


def disks(layout: Layout, settings: Settings, bytes_per_day: float | None, now: datetime) -> tuple[Disk, ...]:
    """Return the file systems of the mirror, that of the root first. Raises OSError.

    ``bytes_per_day`` are fetched, of each product in proportion to its bytes here. They grow the disk of the
    product's folder in ``store/`` where bundles are kept, and that of its DATA in the ratio of what is
    unpacked to what was fetched so far. The disk of a volume that is not mounted is absent.
    """
    by_device: dict[int, list[str]] = {}
    for folder in _folders(layout):
        by_device.setdefault(_device(layout.root / folder), []).append(folder)
    growth = None if bytes_per_day is None else _growth(layout, settings, bytes_per_day)
    min_free = MinFree.of(layout, settings.mirror)
    return tuple(
        _disk(
            layout,
            _path(layout, settings, folders[0]),
            folders,
            min_free.on(device)[0],
            None if growth is None else growth[device],
            now,
        )
        for device, folders in by_device.items()
    )


def _device(folder: Path) -> int:
    return nearest_folder(folder).stat().st_dev


def _folders(layout: Layout) -> Iterator[str]:
    """Yield the folders of the mirror that may lie on disks of their own, relative to the root."""
    yield from FOLDERS
    volumes, usual = layout.products_on_volumes(), _device(layout.store_root)
    with suppress(OSError):
        for path in sorted(layout.store_root.iterdir()):
            # A link, or a mount, of somebody who has placed the product by hand.
            if (
                path.name not in volumes
                and is_reachable(path)
                and (path.is_symlink() or _device(path) != usual)
            ):
                yield f"store/{path.name}"
    yield from (f"volumes/{product}" for product in volumes if is_reachable(layout.volume(product)))


def _growth(layout: Layout, settings: Settings, bytes_per_day: float) -> Mapping[int, float]:
    """Return the bytes per day by file system."""
    growth: dict[int, float] = defaultdict(float)
    products = layout.state_products()
    fetched = {product: _held(layout, MarkerKind.DOWNLOADED, product) for product in products}
    in_all = sum(fetched.values())
    for product in products if in_all else ():
        if layout.store_of(product).is_symlink() and not is_reachable(layout.store_of(product)):
            # Its disk is not mounted.
            continue
        packed = fetched[product] if settings.mirror.keep_bundles else 0
        unpacked = _held(layout, MarkerKind.EXTRACTED, product) if settings.mirror.unpack else 0
        growth[_device(layout.store_of(product))] += bytes_per_day * packed / in_all
        growth[_device(layout.data_of(product))] += bytes_per_day * unpacked / in_all
    return growth


def _held(layout: Layout, kind: MarkerKind, product: str) -> int:
    return held_bytes(layout.marker_folder(kind, product), LOOK_UP_AT_MOST)[0]


def _path(layout: Layout, settings: Settings, folder: str) -> str:
    """Return the absolute path of a folder of the mirror, or of the volume that its product is on."""
    parent, _, product = folder.partition("/")
    placed = product_folder(layout, settings, product) if parent == layout.volumes.name else None
    if placed:
        return str(placed.parent)
    return str(layout.root) if folder == "." else os.path.realpath(layout.root / folder)


def _disk(
    layout: Layout, path: str, folders: list[str], min_free: int, daily: float | None, now: datetime
) -> Disk:
    usage = shutil.disk_usage(nearest_folder(layout.root / folders[0]))
    full = None
    if daily and (left := timedelta(days=min(max(0, usage.free - min_free) / daily, 40_000))) < _FURTHEST:
        full = (now + left).date().isoformat()
    return Disk(tuple(folders), usage.total, usage.free, min_free, daily, full, path)
