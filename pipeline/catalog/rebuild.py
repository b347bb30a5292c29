"""Rebuild of the catalog from what is on disk, by several processes, while queries go on.

An SQLite catalog is written as a new generation beside the current one, and the pointer exchanged at the end.
In a database server each fileset's rows are replaced in a transaction of their own: a query sees the rows of
before or those of after.
"""

import ctypes
import json
import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event

from pipeline.catalog.database import Database, database_url, in_batches, sqlite_url
from pipeline.catalog.finish import finish
from pipeline.catalog.generations import (
    current_file,
    make_current,
    next_file,
    remove_generation,
    set_damaged_aside,
)
from pipeline.catalog.opening import create_file
from pipeline.catalog.reconcile import reconcile
from pipeline.catalog.views import renew_settings
from pipeline.catalog.writer import CatalogWriter
from pipeline.config import Settings
from pipeline.cores import CORES
from pipeline.errors import MachineFault, MirrorError
from pipeline.mirror.context import StepProgress
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.resources.ownership import Ownership
from pipeline.mirror.resources.peers import wait_for_exit
from pipeline.mirror.resources.update_lock import heartbeat, update_lock
from pipeline.mirror.resources.volumes import check_volumes, place_products
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import marker_text
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.units import as_count

# Filesets handed to a process at once.
_CHUNK = 8
# Chunks in progress: no process waits for its next one.
_IN_PROGRESS = 4 * CORES
_PR_SET_PDEATHSIG = 1
Progress = Callable[[int, int], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rebuilt:
    """Outcome of a rebuild: the number of filesets cataloged, and why others were not, by name.

    One that was ``stopped`` has left an SQLite catalog as it was; in a database server it has replaced the
    rows of some filesets.
    """

    filesets: int
    failures: dict[str, str]
    stopped: bool = False


def rebuild(
    settings: Settings, layout: Layout, kinds: Iterable[str], progress: Progress, stopping: Event
) -> Rebuilt:
    """Catalog all complete filesets anew; ``kinds`` are the kinds of the markers of a complete one.

    Holds the lock of the mirror. ``progress`` is called with the filesets done and those in all. Once
    ``stopping`` is set, the filesets in progress are the last. Raises AlreadyRunning, MachineFault or
    SettingsError.
    """
    with update_lock(layout), heartbeat(layout):
        wait_for_exit(layout)
        check_volumes(layout, settings)
        place_products(layout, settings, layout.products_on_volumes())
        if settings.catalog.url is not None:
            database = Database(database_url(settings.catalog.url))
            if database.is_file:
                set_damaged_aside(Path(str(database.url.database)))
            # Makes the tables where there are none.
            reconcile(settings, layout)
            return _rebuild_into(database, settings, layout, kinds, progress, stopping)
        return _rebuild_file(next_file(layout), settings, layout, kinds, progress, stopping)


def _rebuild_file(
    path: Path,
    settings: Settings,
    layout: Layout,
    kinds: Iterable[str],
    progress: Progress,
    stopping: Event,
) -> Rebuilt:
    """Write the next generation; a part of one is removed."""
    try:
        database = create_file(layout, path)
        database.transact(lambda connection: renew_settings(connection, settings, layout))
        return _rebuild_into(database, settings, layout, kinds, progress, stopping, path)
    finally:
        if current_file(layout) != path:
            remove_generation(path)


def _rebuild_into(
    database: Database,
    settings: Settings,
    layout: Layout,
    kinds: Iterable[str],
    progress: Progress,
    stopping: Event,
    path: Path | None = None,
) -> Rebuilt:
    key = (database.setting("id") or "", int(database.setting("generation") or 0))
    database.close()
    kinds = tuple(kinds)
    total, done = _count(layout, kinds), 0
    log.info("rebuilding the catalog: %s", as_count(total, "fileset"))
    failures: dict[str, str] = {}
    layout.catalog.mkdir(exist_ok=True)
    results = _cataloged(database, key, layout, complete_filesets(layout, kinds), stopping, path is None)
    # On the disk: there may be any number of filesets.
    with TemporaryFile("w+", dir=layout.catalog) as cataloged:
        for done, (fileset, when, failure) in enumerate(results, start=1):
            if when is None:
                failures[str(fileset)] = failure
            else:
                registration = (fileset.product, fileset.name, fileset.registered, when.isoformat())
                print(json.dumps(registration), file=cataloged)
            progress(done, max(done, total))
        stopped = stopping.is_set()
        if path is not None:
            if stopped:
                return Rebuilt(0, failures, stopped)
            with closing(database):
                database.flush()
            make_current(layout, path)
        cataloged.seek(0)
        _write_markers(layout, map(json.loads, cataloged), key)
    # Rows that another process wrote or deleted meanwhile are not those of these markers.
    reconcile(settings, layout)
    finish(settings, layout)
    rebuilt = as_count(done - len(failures), "fileset")
    log.debug("catalog rebuilt: %s, %d failed", rebuilt, len(failures))
    return Rebuilt(done - len(failures), failures, stopped)


def complete_filesets(layout: Layout, kinds: tuple[str, ...]) -> Iterator[Fileset]:
    """Yield the filesets with all of these markers, in the order of the listings."""
    for product in layout.state_products():
        if any(layout.count(kind, product) == 0 for kind in kinds):
            continue
        for rows in in_batches(LocalListing(layout, product).rows()):
            names = {row.name for row in rows}
            held = set.intersection(*(layout.marked_among(kind, product, names) for kind in kinds))
            yield from (Fileset.of(product, row) for row in rows if row.name in held)


def _count(layout: Layout, kinds: tuple[str, ...]) -> int:
    """Return the number of complete filesets, nearly: that of the markers, good or not."""
    return sum(min(layout.count(kind, product) for kind in kinds) for product in layout.state_products())


_Result = tuple[Fileset, datetime | None, str]
# The writer of a process of the pool.
_opened: list[tuple[CatalogWriter, Ownership]] = []


def _cataloged(
    database: Database,
    generation_key: tuple[str, int],
    layout: Layout,
    filesets: Iterable[Fileset],
    stopping: Event,
    durable: bool,
) -> Iterator[_Result]:
    """Catalog the filesets in a process for each core; yield each with the time of it, or the failure.

    Only a file that is not in use yet may be written without flushes: a power cut could damage it. Raises
    MachineFault when a process was killed.
    """
    address = str(database.url.database) if database.is_file else database.url.render_as_string(False)
    arguments = (address, database.is_file, durable, generation_key, layout)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(CORES, context, _begin, arguments)
    submitted: deque[Future[list[_Result]]] = deque()
    try:
        rest = iter(filesets)
        while not stopping.is_set():
            while len(submitted) < _IN_PROGRESS and (some := list(islice(rest, _CHUNK))):
                submitted.append(pool.submit(_catalog_several, some))
            if not submitted:
                return
            yield from submitted.popleft().result()
    except BrokenProcessPool:
        raise MachineFault(
            "rebuilding the catalog: one of its processes was killed, by hand or for lack of memory. "
            "An SQLite catalog is as it was; begin the rebuild again."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(
    address: str, is_file: bool, durable: bool, generation_key: tuple[str, int], layout: Layout
) -> None:
    """Open the database in a process of the pool, which ends with its parent and leaves signals to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    url = sqlite_url(Path(address)) if is_file else database_url(address)
    writer = CatalogWriter(layout, Database(url, durable=durable), *generation_key)
    _opened[:] = [(writer, Ownership(layout, ByteLocks(layout.ownership_lock)))]


def _catalog_several(filesets: list[Fileset]) -> list[_Result]:
    return [_catalog(fileset) for fileset in filesets]


def _catalog(fileset: Fileset) -> _Result:
    writer, ownership = _opened[0]
    try:
        return fileset, writer.write(fileset, ownership, _no_report), ""
    except MirrorError as error:
        return fileset, None, str(error)


def _no_report(_progress: StepProgress) -> None:
    return None


def _write_markers(layout: Layout, cataloged: Iterable[list[str]], generation_key: tuple[str, int]) -> None:
    """Write the markers, unflushed: a fileset whose marker is lost in a power cut is cataloged again.

    ``cataloged`` are product, fileset, time registered, and the time of the rows.
    """
    now = utc_now()
    for product, fileset, registered, when in cataloged:
        path = layout.marker(MarkerKind.CATALOGED, product, fileset)
        path.parent.mkdir(exist_ok=True)
        content = {
            "product": product,
            "fileset": fileset,
            "registered": registered,
            "started": now,
            "finished": now,
            "database": generation_key[0],
            "generation": generation_key[1],
            "cataloged": when,
        }
        path.write_bytes(marker_text(content))
