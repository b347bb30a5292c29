"""Health of the catalog: whether the database can be used at the moment, without waiting for it.

An SQLite file on a file system that several hosts share is not looked at: only the host that writes to the
file sees all of it.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipeline.catalog.damage import NO_WRITING, advice, error_code
from pipeline.catalog.generations import file_of
from pipeline.catalog.recorded_state import STATE
from pipeline.config import Settings
from pipeline.errors import MirrorError
from pipeline.mirror.resources.file_systems import is_shared
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.units import as_count

if TYPE_CHECKING:
    from pipeline.catalog.database import Database

# Seconds until a server has answered, a busy one too, and until a lock of SQLite is taken for one that stays.
ANSWER_SECONDS = 3
_LOCK_SECONDS = 0.2


def behind_text(filesets: int) -> str:
    """Return a clause on so many filesets that wait to be cataloged.

    >>> behind_text(1)
    '1 fileset is not in the catalog yet; the next update adds it'
    """
    are, them = ("is", "it") if filesets == 1 else ("are", "them")
    return f"{as_count(filesets, 'fileset')} {are} not in the catalog yet; the next update adds {them}"


def catalog_fault(settings: Settings, layout: Layout, *, is_working: bool) -> str | None:
    """Return why the catalog cannot be used, as a sentence; None for one that can be, or is not made yet.

    ``is_working`` is True while a run works, which may hold the lock of the writer. Takes
    :data:`ANSWER_SECONDS` at most.
    """
    if not settings.catalog.enabled:
        return None
    if not settings.catalog.is_file:
        return _fault_of_server(settings, layout)
    file = file_of(settings, layout)
    if file is None or not file.is_file():
        return _fault_of_absence(layout, file)
    return None if is_shared(file.parent) else _fault_of_file(file, is_working=is_working)


def _fault_of_absence(layout: Layout, file: Path | None) -> str | None:
    """Return a sentence if filesets were cataloged in a file that is gone."""
    if not any(layout.count(MarkerKind.CATALOGED, product) for product in layout.state_products()):
        return None
    return f"catalog {file or layout.catalog}: the file is gone. The next update makes it anew."


def _fault_of_file(file: Path, *, is_working: bool) -> str | None:
    may_write = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    mode = "rw" if may_write else "ro"
    try:
        with closing(
            sqlite3.connect(
                f"file:{quote(str(file))}?mode={mode}", uri=True, timeout=_LOCK_SECONDS, isolation_level=None
            )
        ) as connection:
            connection.execute(STATE).fetchone()
            if may_write and not is_working:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if error_code(error) in NO_WRITING and not may_write:
            return None
        # The update asks the same, and finds the same damage.
        return f"catalog {file}: {error}. The files of the mirror are not concerned; " + advice(
            error, file, "the next update tries again.", update="the next update"
        )
    return None


def _fault_of_server(settings: Settings, layout: Layout) -> str | None:
    from pipeline.catalog.opening import required_database

    answer: SimpleQueue[str | None] = SimpleQueue()
    try:
        database = required_database(settings, layout)
        # Imports the driver, which is no time of the server's.
        _ = database.engine
        # Names are resolved, and connections made, in a time that no driver bounds below two seconds.
        Thread(target=lambda: answer.put(_asked(database)), daemon=True).start()
        return answer.get(timeout=ANSWER_SECONDS)
    except Empty:
        return (
            f"catalog {database}: no answer within {ANSWER_SECONDS} s. The files of the mirror are not "
            "concerned; the next update tries again."
        )
    except MirrorError as error:
        return str(error)


def _asked(database: "Database") -> str | None:
    from pipeline.catalog.schema import revision_of

    try:
        with closing(database), database.reading() as connection:
            if revision_of(connection) is not None:
                connection.exec_driver_sql("SELECT MAX(fileset_id) FROM fileset")
    except MirrorError as error:
        return str(error)
    return None
