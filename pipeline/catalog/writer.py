"""Writing to the catalog: filesets replaced and deleted, by the processes of a run."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from pipeline.catalog.database import Database
from pipeline.catalog.fileset_rows import (
    Images,
    delete_fileset,
    find_fileset,
    next_time,
    paths_of,
    replace_fileset,
    time_of,
)
from pipeline.catalog.gather import Gathered, gather, headers_of, unusable
from pipeline.catalog.opening import current_database
from pipeline.catalog.pipeline_tables import PipelineTables, add_columns
from pipeline.config import Settings
from pipeline.durable import remove_files
from pipeline.errors import BundleUnusable, MachineFault, machine_faults
from pipeline.mirror.context import Report, StepProgress
from pipeline.mirror.resources.ownership import Ownership, owners_of
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, mark_done, utc_now

# Errors of a database that refuses the values of one fileset, and takes those of others.
_OF_ONE_FILESET = (DataError, IntegrityError, ProgrammingError)
T = TypeVar("T")


@dataclass
class CatalogWriter:
    """Writer of one process to one database. Safe for use by several threads.

    After a fault of the database that is none of one fileset, every further fileset fails at once with the
    same message: each would wait for the same lock, or the same server.
    """

    layout: Layout
    database: Database
    id: str
    generation: int
    _tables: PipelineTables | None = None
    _fault: MachineFault | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def catalog(self, fileset: Fileset, ownership: Ownership, report: Report) -> None:
        """Replace the rows of the fileset, and write its marker. Raises BundleUnusable or MachineFault."""
        started = utc_now()

        def mark(cataloged: datetime) -> None:
            mark_done(self.layout, MarkerKind.CATALOGED, fileset, started, self.marked(cataloged))

        self.write(fileset, ownership, report, mark)

    def marked(self, cataloged: datetime) -> dict[str, Any]:
        """Return what the marker says of rows that were written at that time (UTC)."""
        return {"database": self.id, "generation": self.generation, "cataloged": cataloged.isoformat()}

    def write(
        self,
        fileset: Fileset,
        ownership: Ownership,
        report: Report,
        written: Callable[[datetime], None] = lambda _: None,
    ) -> datetime:
        """Replace the rows of the fileset; return the time (UTC) that they have.

        ``written`` is called with it before another fileset can take over files of this one, or give up
        files to it. Raises BundleUnusable or MachineFault.
        """
        with machine_faults(f"cataloging fileset {fileset}"):
            try:
                gathered = gather(self.layout, fileset)
            except BundleUnusable as error:
                raise unusable(fileset, error) from None
            gone = self._given_up(gathered)
        # Against an extraction, or another cataloging, of one of the files meanwhile.
        locks = ownership.held(gone.union(held.path for held in gathered.members))
        with locks, machine_faults(f"cataloging fileset {fileset}"):
            images = self._images(gathered, report)
            self._release(gathered, gone)

            def work(connection: Connection, tables: PipelineTables) -> datetime:
                now = next_time(connection)
                replace_fileset(connection, tables, gathered, images, now)
                return now

            now = self._transact(work, gathered)
            written(now)
        return now

    def _images(self, gathered: Gathered, report: Report) -> Images:
        """Return the images of each file, by its path."""
        fits = [held for held in gathered.held if held.is_fits]
        images: Images = {}
        for number, held in enumerate(fits, start=1):
            images[held.path] = headers_of(self.layout, held)
            report(StepProgress(f"{number} of {len(fits)} headers", number / len(fits)))
        return images

    def cataloged(self, fileset: Fileset) -> str | None:
        """Return the time of the fileset's rows as markers have it, None without. Raises MachineFault."""
        when = self._read(lambda connection: time_of(connection, fileset))
        return when.isoformat() if when else None

    def delete(self, fileset: Fileset) -> None:
        """Delete the rows of the fileset. Raises MachineFault."""

        def work(connection: Connection, tables: PipelineTables) -> None:
            fileset_id = find_fileset(connection, fileset)
            if fileset_id is not None:
                delete_fileset(connection, tables, fileset_id)

        self._transact(work)

    def _given_up(self, gathered: Gathered) -> set[str]:
        """Return the paths of the files in the catalog that the fileset no longer brings."""

        def paths(connection: Connection) -> set[str]:
            fileset_id = find_fileset(connection, gathered.fileset)
            return paths_of(connection, fileset_id) if fileset_id is not None else set()

        return self._read(paths) - {held.path for held in gathered.members}

    def _release(self, gathered: Gathered, paths: set[str]) -> None:
        """Make the cataloging of those filesets pending that own these files of an earlier registration."""
        owners = set(owners_of(self.layout, paths, {gathered.fileset}).values())
        remove_files(self.layout.marker(MarkerKind.CATALOGED, owner.product, owner.name) for owner in owners)

    def _read(self, query: Callable[[Connection], T]) -> T:
        """Return the result of a query, which does not wait for the lock of SQLite's writer."""
        with self._faults(), self.database.reading() as connection:
            return query(connection)

    def _transact(
        self, work: Callable[[Connection, PipelineTables], T], gathered: Gathered | None = None
    ) -> T:
        with self._faults():
            tables = self._tables_for(gathered)
            return self.database.transact(lambda connection: work(connection, tables))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Keep a fault of the database in the ``with`` block, and raise it again before every later one."""
        if self._fault is not None:
            raise MachineFault(str(self._fault))
        try:
            yield
        except MachineFault as fault:
            if not isinstance(fault.__cause__, _OF_ONE_FILESET):
                self._fault = fault
            raise

    def _tables_for(self, gathered: Gathered | None) -> PipelineTables:
        """Return the pipeline's tables, with a column for all that the fileset's documents have."""
        dialect = self.database.engine.dialect.name
        with self._lock:
            if self._tables is None:
                self._tables = self.database.transact(PipelineTables)
            rows = gathered.pipeline_rows if gathered else []
            if missing := self._tables.missing_columns(rows, dialect):
                self.database.transact(lambda connection: add_columns(connection, missing))
                self._tables = self.database.transact(PipelineTables)
            return self._tables


_writers: dict[str, CatalogWriter] = {}
_writers_lock = threading.Lock()


def writer_of(settings: Settings, layout: Layout) -> CatalogWriter:
    """Return the writer of this process for the current database of the mirror.

    Raises MachineFault when there is none, or SettingsError.
    """
    with _writers_lock:
        key = str(layout.root)
        if key not in _writers:
            database = current_database(settings, layout)
            if database is None:
                raise MachineFault(
                    f"expected a catalog in {layout.catalog}, found none; the next run makes it anew."
                )
            id, generation = database.setting("id"), database.setting("generation")
            _writers[key] = CatalogWriter(layout, database, id or "", int(generation or 0))
        return _writers[key]
