"""Generations of the SQLite file in ``state/catalog/``: a pointer names the current one.

A rebuild writes the next generation beside the current one and exchanges the pointer at the end: no file is
renamed over an open database, and queries that are under way end on the generation that they began with.
"""

import logging
import os
from itertools import chain, count
from pathlib import Path
from typing import Any

from pipeline.catalog.damage import damage_in
from pipeline.config import Settings
from pipeline.durable import remove_files
from pipeline.errors import machine_faults
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker

log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
_FILE_SUFFIXES = ("", "-wal", "-shm", "-journal")


def how_to_make(settings: Settings | None) -> str:
    """Return the sentence on how a catalog comes to be where there is none."""
    if settings and settings.catalog.enabled:
        return "The next update makes it: ipp-mirror update"
    return "Set catalog.enabled to true in the settings, and run: ipp-mirror update"


def file_of(settings: Settings | None, layout: Layout) -> Path | None:
    """Return the path of the SQLite file of the catalog that the settings name, else of the current one.

    None for a server, and before the first file of the mirror's own was made.
    """
    url = settings.catalog.url if settings else None
    return current_file(layout) if url is None else sqlite_file(url)


def sqlite_file(url: str) -> Path | None:
    """Return the path in the URL of an SQLite file, without parameters of a driver; None for a server.

    >>> sqlite_file("sqlite:////data/a%20b.sqlite?timeout=5")
    PosixPath('/data/a%20b.sqlite')
    """
    return Path(url.removeprefix(_SQLITE).partition("?")[0]) if url.startswith(_SQLITE) else None


def current_file(layout: Layout) -> Path | None:
    """Return the path of the current SQLite file, None before the first was made."""
    name = _pointer(layout).get("file")
    return layout.catalog / name if isinstance(name, str) and Path(name).name == name else None


def next_file(layout: Layout) -> Path:
    """Return the path of a new SQLite file, and remove what a killed rebuild left there."""
    numbers = [int(path.stem) for path in layout.catalog.glob("*.sqlite") if path.stem.isdecimal()]
    current = current_file(layout)
    beyond = [number for number in numbers if current and number > int(current.stem)]
    remove_files(
        layout.catalog / f"{number:06d}.sqlite{suffix}" for number in beyond for suffix in _FILE_SUFFIXES
    )
    number = int(current.stem) if current else max(numbers, default=0)
    return layout.catalog / f"{number + 1:06d}.sqlite"


def make_current(layout: Layout, path: Path) -> None:
    """Exchange the pointer: queries that begin from here on use the file. Raises MachineFault.

    Earlier generations are removed by ``remove_earlier``.
    """
    with machine_faults(f"making {path} the current catalog"):
        write_marker(layout.catalog_pointer, {"file": path.name})


def remove_generation(path: Path) -> None:
    """Remove an SQLite file that is not the current one."""
    remove_files(Path(f"{path}{suffix}") for suffix in _FILE_SUFFIXES)


def set_damaged_aside(path: Path) -> None:
    """Rename a damaged SQLite file that the settings name, for it may be another file than a catalog.

    Readers keep what they have opened. Raises MachineFault.
    """
    damage = damage_in(path)
    if damage is None:
        return
    names = chain([f"{path.name}.damaged"], (f"{path.name}.damaged.{number}" for number in count(2)))
    aside = next(other for name in names if not _parts(other := path.with_name(name)))
    log.warning("catalog %s: %s. It is kept as %s, and a new one is made.", path, damage, aside)
    with machine_faults(f"renaming the damaged catalog {path} to {aside}"):
        # First the file's log, which must not become that of a new file.
        for suffix, part in reversed(_parts(path).items()):
            part.rename(f"{aside}{suffix}")


def _parts(path: Path) -> dict[str, Path]:
    """Return what there is of an SQLite file and its logs, by suffix."""
    parts = {suffix: Path(f"{path}{suffix}") for suffix in _FILE_SUFFIXES}
    return {suffix: part for suffix, part in parts.items() if os.path.lexists(part)}


def remove_earlier(layout: Layout) -> None:
    """Remove the SQLite files before the current one: their last readers keep what they have opened."""
    current = current_file(layout)
    if current is None:
        return
    earlier = [path for path in layout.catalog.glob("*.sqlite") if path.name < current.name]
    remove_files(Path(f"{path}{suffix}") for path in earlier for suffix in _FILE_SUFFIXES)


def _pointer(layout: Layout) -> dict[str, Any]:
    return read_marker(layout.catalog_pointer) or {}
