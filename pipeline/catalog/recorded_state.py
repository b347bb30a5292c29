"""The database as the last run left it, in ``state/catalog/seen.json``; while it is so, nothing is compared.

An SQLite file is read without SQLAlchemy, which takes as long to import as an update with nothing to do.
"""

import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

from pipeline import __version__
from pipeline.catalog.damage import error_code, is_damage
from pipeline.catalog.generations import current_file
from pipeline.config import Settings
from pipeline.durable import remove_files
from pipeline.errors import MachineFault, machine_faults
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker

# The identity of a database, and the newest of its rows.
STATE = """
    SELECT (SELECT value FROM catalog_setting WHERE name = 'id'),
           (SELECT value FROM catalog_setting WHERE name = 'generation'),
           (SELECT COUNT(*) FROM fileset), (SELECT MAX(cataloged) FROM fileset)
"""
# Columns of it.
_OF_DATABASE = 4


def is_as_recorded(settings: Settings, layout: Layout) -> bool:
    """Return True if the database is as the last run left it. Raises MachineFault or SettingsError."""
    recorded = (read_marker(layout.catalog_record) or {}).get("state")
    state = _state(settings, layout)
    return state is not None and recorded == _whole(state, settings, layout)


def is_recorded(layout: Layout) -> bool:
    """Return True if the last run has recorded the database, which may have changed since."""
    marker = read_marker(layout.catalog_record)
    return marker is not None and marker.get("state") is not None


def recorded_state(layout: Layout) -> list[str] | None:
    """Return identity and newest rows of the database as the last run recorded them; None when it did not."""
    marker = read_marker(layout.catalog_record) or {}
    state = marker.get("state")
    return state[:_OF_DATABASE] if isinstance(state, list) else None


def record_state(settings: Settings, layout: Layout) -> None:
    """Record the database as it is, unless it is behind. Raises MachineFault or SettingsError."""
    if _is_behind(layout):
        return
    with machine_faults(f"recording the state of the catalog in {layout.catalog}"):
        state = _state(settings, layout) or []
        write_marker(layout.catalog_record, {"state": _whole(state, settings, layout)})


def _whole(state: list[str], settings: Settings, layout: Layout) -> list[str | None]:
    """Return the state together with all that is written to the database from elsewhere."""
    of_settings = (settings.catalog.access_url, settings.catalog.publisher_did)
    return [*state, __version__, str(layout.root), *of_settings]


def record_behind(layout: Layout) -> None:
    """Record that the database has rows to be deleted: the next run compares all. Raises MachineFault."""
    with machine_faults(f"recording in {layout.catalog} that rows of the catalog are to be deleted"):
        write_marker(layout.catalog_record, {"state": None})


def forget_state(layout: Layout) -> None:
    """Have the next run compare all, unless this run records the database at its end. Raises MachineFault."""
    with machine_faults(f"recording in {layout.catalog} that the catalog changes"):
        if layout.catalog_record.exists() and not _is_behind(layout):
            remove_files([layout.catalog_record])


def _is_behind(layout: Layout) -> bool:
    marker = read_marker(layout.catalog_record)
    return marker is not None and marker.get("state") is None


def _state(settings: Settings, layout: Layout) -> list[str] | None:
    """Return by what a database is known again; None when there is none that can be used."""
    if settings.catalog.url is not None:
        return _state_of_server(settings, layout)
    path = current_file(layout)
    if path is None or not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            return _texts(connection.execute(STATE).fetchone())
    except sqlite3.Error as error:
        if is_damage(error) or error_code(error) == sqlite3.SQLITE_ERROR:
            # Damaged, or without tables: of no use as it is.
            return None
        raise MachineFault(
            f"catalog {path}: {error}. The files of the mirror are not concerned; the next run tries again."
        ) from error


def _state_of_server(settings: Settings, layout: Layout) -> list[str] | None:
    from pipeline.catalog.opening import current_database
    from pipeline.catalog.schema import revision_of

    database = current_database(settings, layout)
    if database is None:
        return None
    with closing(database), database.reading() as connection:
        if revision_of(connection) is None:
            return None
        return _texts(connection.exec_driver_sql(STATE).one())


def _texts(row: Any) -> list[str]:
    return [str(value) for value in row]
