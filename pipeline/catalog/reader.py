"""Queries of the catalog: read-only, with one SQL for all databases.

SQLite is asked by Python's own module: SQLAlchemy takes longer to import than most questions to answer.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from pipeline.catalog.damage import NO_WRITING, advice
from pipeline.catalog.wrong_sql import (
    NAMES_OF_MARIADB,
    NAMES_OF_POSTGRESQL,
    explained,
    wrong_sql,
)
from pipeline.errors import MachineFault

if TYPE_CHECKING:
    from pipeline.catalog.database import Database

Row = tuple[Any, ...]
# Rows that are fetched from a server at once.
_BLOCK = 1000
# Memory for pages of SQLite, most of which a question about a deep field reads once.
_CACHE_KIB = 16_384
# Instructions of SQLite between two chances of a signal handler to run.
_INSTRUCTIONS = 1_000_000
_ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_PRAGMAS = {"table_list", "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo"}
# Statements of MariaDB that read, and words of those that write to the disk of the server.
_QUERY = re.compile(r"[\s(]*(select|with|show|describe|desc|explain|values|table)\b", re.IGNORECASE)
_TO_FILE = re.compile(r"\b(outfile|dumpfile)\b", re.IGNORECASE)
# Primary error codes of a wrong statement in SQLite.
_WRONG = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_READONLY}


class Reader(Protocol):
    """Database of a catalog, for queries.

    ``has_statistics`` is True where the database knows how many rows an index finds.
    """

    has_statistics: bool

    def rows(self, sql: str, parameters: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the rows of a query of this program as they are fetched; ``:name`` is a parameter.

        Raises MachineFault.
        """

    def answer(self, sql: str) -> tuple[list[str], Iterator[Row]]:
        """Return the names of the columns and the rows of a query of a user: one statement that only reads.

        Raises SettingsError for another statement, or a wrong one, and MachineFault.
        """

    def stored(self, time: datetime) -> object:
        """Return a time in UTC as the database compares it with those that it holds."""

    def close(self) -> None:
        """Close the connections."""


class SqliteReader:
    """Queries of an SQLite file.

    ``immutable`` is for a file that is never written to, such as a snapshot. Any other one can be read by a
    user who must not write to its folder while a writer has it open; and, when none has, as if it were
    immutable, which is checked after each query.
    """

    has_statistics = False

    def __init__(self, path: Path, *, immutable: bool = False) -> None:
        self._path = path
        self._immutable = immutable
        self._connection: sqlite3.Connection | None = None
        self._unchanged: tuple[int, int] | None = None

    def rows(self, sql: str, parameters: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the rows of a query. Raises MachineFault."""
        try:
            yield from self.open().execute(sql, parameters)
        except sqlite3.Error as error:
            raise self._fault(error) from error
        self._check_unchanged()

    def answer(self, sql: str) -> tuple[list[str], Iterator[Row]]:
        """Return the names of the columns, and the rows. Raises SettingsError or MachineFault."""
        connection = self.open()
        with self._explained(sql):
            cursor = connection.execute(sql)
        if cursor.description is None:
            raise explained(sql, "got a statement without rows", {})
        return [column[0] for column in cursor.description], self._fetched(cursor, sql)

    def stored(self, time: datetime) -> str:
        """Return a time in UTC as the text that SQLAlchemy stores."""
        return time.replace(tzinfo=None).isoformat(" ", "microseconds")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetched(self, cursor: sqlite3.Cursor, sql: str) -> Iterator[Row]:
        with self._explained(sql):
            yield from cursor
        self._check_unchanged()

    @contextmanager
    def _explained(self, sql: str) -> Iterator[None]:
        """Turn errors of a user's statement into SettingsError, those of the file into MachineFault."""
        try:
            yield
        except sqlite3.Error as error:
            if _code(error) not in _WRONG:
                raise self._fault(error) from None
            raise explained(sql, str(error), self._names()) from None

    def _names(self) -> dict[str, list[str]]:
        """Return the columns of each table and view; none at all when the file cannot be read."""
        tables = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        try:
            return {
                name: [column for _, column, *_ in self.rows(f'PRAGMA table_xinfo("{name}")', {})]
                for (name,) in self.rows(tables, {})
            }
        except MachineFault:
            return {}

    def open(self) -> sqlite3.Connection:
        """Return the connection, opened with the first use. Raises MachineFault."""
        if self._connection is None:
            try:
                self._connection = self._readable()
            except sqlite3.Error as error:
                raise self._fault(error) from error
            self._connection.set_authorizer(_authorize)
        return self._connection

    def _readable(self) -> sqlite3.Connection:
        if self._immutable:
            return self._connect("mode=ro&immutable=1")
        try:
            return self._connect("mode=ro")
        except sqlite3.Error as error:
            if _code(error) not in NO_WRITING or self._has_log() or self._state() is None:
                raise
        self._unchanged = self._state()
        return self._connect("mode=ro&immutable=1")

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"file:{quote(str(self._path))}?{mode}"
        # A notebook or a server may fetch from another thread than the one that asked.
        connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        try:
            # LIKE uses an index with it, and is the same as in the other databases.
            connection.execute("PRAGMA case_sensitive_like = ON")
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
        connection.set_progress_handler(lambda: None, _INSTRUCTIONS)
        return connection

    def _has_log(self) -> bool:
        """Return True if the file has a write-ahead log, without which it may be incomplete."""
        with suppress(OSError):
            return Path(f"{self._path}-wal").stat().st_size > 0
        return False

    def _state(self) -> tuple[int, int] | None:
        """Return by what a change of the file is known; None when it is gone, which changes no open file."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _check_unchanged(self) -> None:
        """Raise MachineFault if a file was written to of which SQLite was told that nobody would."""
        if self._unchanged is not None and self._state() not in (None, self._unchanged):
            raise MachineFault(
                f"catalog {self._path}: an update wrote to it during the query: this user must not lock it. "
                "The answer may be wrong; ask again."
            )

    def _fault(self, error: sqlite3.Error) -> MachineFault:
        then = advice(error, self._path, "ask again later.")
        return MachineFault(f"catalog {self._path}: {error}. Nothing was changed; {then}")


class ServerReader:
    """Queries of PostgreSQL or MariaDB, by SQLAlchemy; rows are fetched in blocks."""

    has_statistics = True

    def __init__(self, database: "Database") -> None:
        self._database = database

    def rows(self, sql: str, parameters: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the rows of a query. Raises MachineFault."""
        from sqlalchemy import text

        with self._database.reading() as connection:
            connection = connection.execution_options(yield_per=_BLOCK)
            with closing(connection.execute(text(sql), dict(parameters))) as result:
                yield from map(tuple, result)

    def answer(self, sql: str) -> tuple[list[str], Iterator[Row]]:
        """Return the names of the columns, and the rows. Raises SettingsError or MachineFault."""
        rows = self._answer(sql)
        return list(next(rows)), rows

    def stored(self, time: datetime) -> datetime:
        """Return a time in UTC without its zone, as the columns are."""
        return time.replace(tzinfo=None)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def _answer(self, sql: str) -> Iterator[Row]:
        """Yield the names of the columns, then the rows."""
        from sqlalchemy.exc import DBAPIError

        is_mariadb = self._database.url.get_backend_name() == "mysql"
        if is_mariadb:
            _refuse_more_than_queries(sql)
        with self._database.reading() as connection:
            # Fetched by a cursor of the server, which takes one statement alone, and no other than a query.
            connection = connection.execution_options(yield_per=_BLOCK)
            try:
                with closing(connection.exec_driver_sql(sql.replace("%", "%%"))) as result:
                    yield tuple(result.keys())
                    yield from map(tuple, result)
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                words = " ".join(str(error.orig.args[-1] if error.orig else error).split())
                query = NAMES_OF_MARIADB if is_mariadb else NAMES_OF_POSTGRESQL
                raise explained(sql, words, self._names(query)) from None

    def _names(self, query: str) -> dict[str, list[str]]:
        """Return the columns of each table and view; none at all when the database fails."""
        names: dict[str, list[str]] = defaultdict(list)
        with suppress(MachineFault):
            for table, column in self.rows(query, {}):
                names[table].append(column)
        return names


def _refuse_more_than_queries(sql: str) -> None:
    """Raise SettingsError for what MariaDB does in spite of a read-only transaction, such as DROP TABLE."""
    if not _QUERY.match(sql):
        raise explained(sql, f"got {sql[:40]!r}, which does not begin with SELECT, WITH or SHOW", {})
    if _TO_FILE.search(sql):
        raise wrong_sql("got one that writes a file (OUTFILE, DUMPFILE). Nothing was changed")


def _code(error: sqlite3.Error) -> int:
    """Return the primary error code; that of a wrong statement where Python's module refused it itself."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _authorize(action: int, name: str | None, value: str | None, *_: str | None) -> int:
    """Allow reading; neither writing, nor other files (ATTACH), nor settings of the connection."""
    is_report = action == sqlite3.SQLITE_PRAGMA and name in _PRAGMAS
    return sqlite3.SQLITE_OK if action in _ACTIONS or is_report else sqlite3.SQLITE_DENY
