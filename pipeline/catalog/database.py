"""Connections to the database of the catalog: SQLite, PostgreSQL or MariaDB.

Failures of the database are failures of this machine (``MachineFault``); messages show no password.
"""

import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from pipeline.catalog.damage import advice
from pipeline.catalog.generations import sqlite_file
from pipeline.catalog.tables import catalog_setting
from pipeline.durable import flush_file
from pipeline.errors import MachineFault, SettingsError, machine_faults

# Another process may hold the lock of SQLite's only writer for the time of one fileset.
LOCK_WAIT_SECONDS = 60.0
CONNECT_SECONDS = 10
ATTEMPTS = 8
# Databases limit the parameters of one statement.
_AT_ONCE = 500
_DRIVERS = {
    "postgresql": ("postgresql+psycopg", "postgresql"),
    "mysql": ("mysql+pymysql", "mysql"),
    "mariadb": ("mysql+pymysql", "mysql"),
}
# Parameters of the drivers that hold a password.
_PASSWORDS = {"password", "passwd"}
# Transactions that failed because of another one: PostgreSQL's SQLSTATE, MariaDB's numbers. The last of each
# is that of a row which both have inserted.
_CONFLICTS = {"40P01", "40001", "23505", 1205, 1213, 1020, 1062}
# A thread that waits for a lock keeps its connection meanwhile: no other thread has to wait for that.
_ANY_NUMBER: dict[str, Any] = {"poolclass": QueuePool, "max_overflow": -1}
# Option of a connection whose transactions in SQLite do not ask for the lock of the writer.
_READING = "reading"
T = TypeVar("T")


def database_url(text: str) -> URL:
    """Return the URL of a database with its driver. Raises SettingsError for one that cannot be used."""
    # Versions of SQLAlchemy differ in whether they decode percent signs of a path.
    if (file := sqlite_file(text)) is not None:
        return sqlite_url(file)
    try:
        url = make_url(text)
        driver, extra = _DRIVERS[url.get_backend_name()]
    except (ArgumentError, NoSuchModuleError, KeyError, ValueError):
        raise SettingsError(
            "catalog.url: expected sqlite:///PATH, postgresql://USER@HOST/DATABASE or "
            "mysql://USER@HOST/DATABASE, got another kind of address"
        ) from None
    url = url.set(drivername=driver)
    for name in _PASSWORDS & url.query.keys():
        # Messages hide the password in its usual place alone.
        url = url.set(password=str(url.query[name])).difference_update_query([name])
    if extra == "mysql":
        url = url.update_query_dict({"charset": "utf8mb4"})
    return url


def sqlite_url(path: Path) -> URL:
    """Return the URL of an SQLite file."""
    return URL.create("sqlite", database=str(path))


def in_batches(values: Iterable[T]) -> Iterator[list[T]]:
    """Yield the values in lists, each of which one statement can have as parameters."""
    rest = iter(values)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch


class Database:
    """Database of a catalog, which any number of threads may use; opened with the first transaction.

    ``read_only`` transactions cannot change anything. Those of an SQLite file that is not ``durable`` are not
    flushed to the disk: ``flush`` does that once for all.
    """

    def __init__(self, url: URL, *, read_only: bool = False, durable: bool = True) -> None:
        self.url = url
        self.read_only = read_only
        self._durable = durable
        self._engine: Engine | None = None

    @property
    def is_file(self) -> bool:
        """True for SQLite, whose readers and writers have to be on one host."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> Engine:
        """The engine. Raises SettingsError without the driver."""
        if self._engine is None:
            self._engine = self._sqlite() if self.is_file else self._server()
        return self._engine

    def __str__(self) -> str:
        return str(self.url.database) if self.is_file else self.url.render_as_string(hide_password=True)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Return the result of ``work`` in one transaction, done again after a conflict with another one.

        Raises MachineFault.
        """
        for attempt in range(ATTEMPTS):
            try:
                with self.faults(), self.engine.begin() as connection:
                    return work(connection)
            except MachineFault as fault:
                if attempt == ATTEMPTS - 1 or not _is_conflict(fault.__cause__):
                    raise
            time.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection for queries, which change nothing. Raises MachineFault."""
        with self.faults(), self.engine.connect() as connection:
            if self.is_file:
                connection = connection.execution_options(**{_READING: True})
            elif self.url.get_backend_name() == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            elif self.url.get_backend_name() == "mysql":
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield connection

    def setting(self, name: str) -> str | None:
        """Return one of the settings in the database. Raises MachineFault."""
        query = select(catalog_setting.c.value).where(catalog_setting.c.name == name)
        with self.reading() as connection:
            return connection.execute(query).scalar()

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turn the errors of the database in the ``with`` block into MachineFault."""
        try:
            yield
        except SQLAlchemyError as error:
            file = Path(str(self.url.database)) if self.is_file else None
            raise MachineFault(
                f"catalog {self}: {_cause(error)}. The files of the mirror are not concerned; "
                + advice(error, file, "the next run tries again.")
            ) from error

    def flush(self) -> None:
        """Write all transactions of an SQLite file to the disk. Raises MachineFault."""
        with self.faults(), self.engine.connect() as connection:
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("BEGIN")
        with machine_faults(f"flushing the catalog {self}"):
            flush_file(Path(str(self.url.database)))

    def close(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _sqlite(self) -> Engine:
        path = quote(str(self.url.database))
        mode = "mode=ro" if self.read_only else "mode=rw"
        address = f"file:{path}?{mode}"

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(
                address, uri=True, timeout=LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                if self.read_only:
                    connection.execute("PRAGMA query_only = ON")
                # A marker is flushed after the rows that it promises.
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
            except sqlite3.Error:
                connection.close()
                raise
            return connection

        # Without a class of its own, an engine for "sqlite://" closes connections that other threads use.
        pool: dict[str, Any] = {"poolclass": NullPool} if self.read_only else _ANY_NUMBER
        engine = create_engine("sqlite://", creator=connect, **pool)
        event.listen(engine, "begin", self._begin)
        return engine

    def _begin(self, connection: Connection) -> None:
        # Otherwise two transactions that have read both wait for each other, and one of them fails.
        writes = not (self.read_only or connection.get_execution_options().get(_READING))
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    def _server(self) -> Engine:
        extra = _DRIVERS[self.url.get_backend_name()][1]
        try:
            return create_engine(
                self.url, pool_pre_ping=True, connect_args=self._connect_arguments(), **_ANY_NUMBER
            )
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"catalog.url: expected the driver of {extra}, got: {error}. Install it with: "
                f"pip install 'ipp-mirror[{extra}]'"
            ) from None

    def _connect_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
        own = Path("~/.my.cnf").expanduser()
        if self.url.get_backend_name() == "mysql" and own.is_file():
            arguments["read_default_file"] = str(own)
        return arguments


def _cause(error: SQLAlchemyError) -> str:
    """Return the words of the database, in one line."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    words = original.args[-1] if original.args else original
    return " ".join(str(words).split()).rstrip(".")


def _is_conflict(error: BaseException | None) -> bool:
    original = error.orig if isinstance(error, DBAPIError) else None
    number = getattr(original, "sqlstate", None) or (original.args[:1] if original else (None,))[0]
    return number in _CONFLICTS
