"""Damage of an SQLite file: how it is told from other errors, and what helps."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from pipeline.mirror.state.layout import Layout

_REBUILD = "make the catalog anew with: ipp-mirror catalog rebuild"
# Errors of a user who must not write to the folder of the file.
NO_WRITING = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def error_code(error: BaseException | None) -> int | None:
    """Return the primary error code of SQLite, also of an error of SQLAlchemy; None where there is none."""
    code = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_damage(error: BaseException | None) -> bool:
    """Return True for the error of a file that is damaged, or no database: waiting does not help."""
    return error_code(error) in _DAMAGED


def advice(
    error: BaseException, path: Path | None, otherwise: str, update: str = "an update that meets the damage"
) -> str:
    """Return the end of a message: what to do about a damaged file, ``otherwise`` for other errors.

    A file in ``state/catalog/`` is replaced by an ``update``. All others need a person: the file that
    ``catalog.url`` names may be another than a catalog.
    """
    if not is_damage(error):
        return otherwise
    if path is not None and _is_generation(path):
        return f"{update} makes the catalog anew; to do so now: ipp-mirror catalog rebuild"
    return _REBUILD


def _is_generation(path: Path) -> bool:
    """Return True for a file in the folder ``state/catalog/`` of a mirror."""
    layout = Layout(path.absolute().parent.parent.parent)
    return layout.catalog == path.absolute().parent and layout.catalog_pointer.exists()


def damage_in(path: Path) -> str | None:
    """Return SQLite's words about a damaged file, all of which is read; None for any other file."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error) if is_damage(error) else None
    return None if found == "ok" else " ".join(found.split())
