"""Rebuild of the catalog from what is on disk, by several processes, while queries go on.

An SQLite catalog is written as a new generation beside the current one, and the pointer exchanged at the end.
In a database server each fileset's rows are replaced in a transaction of their own: a query sees the rows of
before or those of after.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.catalog.database import Database, database_url, sqlite_url
from pipeline.catalog.finish import finish
from pipeline.catalog.generations import make_current, next_file
from pipeline.catalog.opening import create_file
from pipeline.catalog.reconcile import reconcile
from pipeline.catalog.views import renew_settings
from pipeline.catalog.writer import CatalogWriter
from pipeline.config import Settings
from pipeline.errors import MirrorError
from pipeline.mirror.context import StepProgress
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.resources.ownership import Ownership
from pipeline.mirror.resources.peers import wait_for_exit
from pipeline.mirror.resources.update_lock import heartbeat, update_lock
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import marker_text
from pipeline.mirror.state.markers import Fileset, utc_now

# Filesets handed to a process at once.
_CHUNK = 8
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rebuilt:
    """Outcome of a rebuild: the number of filesets cataloged, and why others were not, by name."""

    filesets: int
    failures: dict[str, str]


def rebuild(settings: Settings, layout: Layout, kinds: Iterable[str], progress: Progress) -> Rebuilt:
    """Catalog all complete filesets anew; ``kinds`` are the kinds of the markers of a complete one.

    Holds the lock of the mirror. ``progress`` is called with the filesets done and those in all. Raises
    AlreadyRunning, MachineFault or SettingsError.
    """
    with update_lock(layout), heartbeat(layout):
        wait_for_exit(layout)
        if settings.catalog.url is not None:
            # Makes the tables where there are none.
            reconcile(settings, layout)
            return _rebuild_into(
                Database(database_url(settings.catalog.url)), settings, layout, kinds, progress
            )
        path = next_file(layout)
        database = create_file(layout, path)
        database.transact(lambda connection: renew_settings(connection, settings, layout))
        return _rebuild_into(database, settings, layout, kinds, progress, path)


def _rebuild_into(
    database: Database,
    settings: Settings,
    layout: Layout,
    kinds: Iterable[str],
    progress: Progress,
    path: Path | None = None,
) -> Rebuilt:
    identity = (database.setting("id") or "", int(database.setting("generation") or 0))
    database.close()
    filesets = complete_filesets(layout, tuple(kinds))
    failures: dict[str, str] = {}
    cataloged: list[tuple[Fileset, datetime]] = []
    for done, (fileset, when, failure) in enumerate(
        _cataloged(database, identity, layout, filesets, durable=path is None), start=1
    ):
        if when is None:
            failures[str(fileset)] = failure
        else:
            cataloged.append((fileset, when))
        progress(done, len(filesets))
    if path is not None:
        database.flush()
        make_current(layout, path)
    _write_markers(layout, cataloged, identity)
    reconcile(settings, layout)
    finish(settings, layout)
    return Rebuilt(len(cataloged), failures)


def complete_filesets(layout: Layout, kinds: tuple[str, ...]) -> list[Fileset]:
    """Return the filesets with all of these markers, in the order of the listings."""
    found = []
    for product in layout.state_products():
        held = layout.marked_in_all(kinds, product)
        rows = LocalListing(layout, product).rows() if held else ()
        found += [Fileset.of(product, row) for row in rows if row.name in held]
    return found


_Result = tuple[Fileset, datetime | None, str]
# The writer of a process of the pool.
_opened: list[tuple[CatalogWriter, Ownership]] = []


def _cataloged(
    database: Database, identity: tuple[str, int], layout: Layout, filesets: list[Fileset], *, durable: bool
) -> Iterator[_Result]:
    """Catalog the filesets in a process for each core; yield each with the time of it, or the failure.

    Only a file that is not in use yet may be written without flushes: a power cut could damage it.
    """
    address = str(database.url.database) if database.is_file else database.url.render_as_string(False)
    arguments = (address, database.is_file, durable, identity, layout)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), _begin, arguments) as pool:
        yield from pool.imap_unordered(_catalog, filesets, _CHUNK)


def _begin(address: str, is_file: bool, durable: bool, identity: tuple[str, int], layout: Layout) -> None:
    """Open the database in a process of the pool."""
    url = sqlite_url(Path(address)) if is_file else database_url(address)
    writer = CatalogWriter(layout, Database(url, durable=durable), *identity)
    _opened[:] = [(writer, Ownership(layout, ByteLocks(layout.ownership_lock)))]


def _catalog(fileset: Fileset) -> _Result:
    writer, ownership = _opened[0]
    try:
        return fileset, writer.write(fileset, ownership, _no_report), ""
    except MirrorError as error:
        return fileset, None, str(error)


def _no_report(_progress: StepProgress) -> None:
    return None


def _write_markers(
    layout: Layout, cataloged: list[tuple[Fileset, datetime]], identity: tuple[str, int]
) -> None:
    """Write the markers, unflushed: a fileset whose marker is lost in a power cut is cataloged again."""
    now = utc_now()
    for fileset, when in cataloged:
        path = layout.marker(MarkerKind.CATALOGED, fileset.product, fileset.name)
        path.parent.mkdir(exist_ok=True)
        content = {
            "product": fileset.product,
            "fileset": fileset.name,
            "registered": fileset.registered,
            "started": now,
            "finished": now,
            "database": identity[0],
            "generation": identity[1],
            "cataloged": when.isoformat(),
        }
        path.write_bytes(marker_text(content))
