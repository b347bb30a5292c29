"""Survey in PostgreSQL: a server of its own in a temporary folder, filled from the SQLite catalog."""

import os
import pwd
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy import Connection, text

from pipeline.catalog.database import Database, database_url
from pipeline.catalog.tables import image, metadata

_YEAR = 365
_START_SECONDS = 60.0


@contextmanager
def postgresql(folder: Path) -> Iterator[Database]:
    """Run PostgreSQL (the Debian package) with its files in ``folder``, and yield an empty database.

    Raises RuntimeError if it is not installed.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not installed:
        raise RuntimeError("--postgresql needs the server of PostgreSQL (Debian package postgresql)")
    programs = installed[-1]
    home = Path(mkdtemp(prefix="pg-", dir=folder))
    user: list[str] = []
    if os.getuid() == 0:
        # The server refuses root.
        account = pwd.getpwnam("postgres")
        os.chown(home, account.pw_uid, account.pw_gid)
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = str(home / "data")
    init = [*user, str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "mirror", "-N"]
    subprocess.run(init, cwd="/", check=True, capture_output=True)
    memory = ["-c", "shared_buffers=1GB", "-c", "maintenance_work_mem=1GB", "-c", "max_wal_size=8GB"]
    serve = [*user, str(programs / "postgres"), "-D", data, "-k", str(home)]
    serve += ["-c", "listen_addresses=", "-c", "fsync=off", *memory]
    with open(folder / "postgresql.log", "wb") as log:
        process = subprocess.Popen(serve, cwd="/", stdout=log, stderr=log)
    database = Database(database_url(f"postgresql://mirror@/postgres?host={home}"))
    try:
        _wait([str(programs / "pg_isready"), "-h", str(home)], process)
        yield database
    finally:
        database.close()
        process.terminate()
        process.wait()
        shutil.rmtree(home)


def copy_survey(file: Path, database: Database, times: int) -> None:
    """Copy filesets and images of an SQLite catalog, the images so many times: each a year after the last."""
    with closing(sqlite3.connect(file)) as survey:
        database.transact(lambda connection: _copy(survey, connection, times))
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def _copy(survey: sqlite3.Connection, connection: Connection, times: int) -> None:
    metadata.create_all(connection)
    indexes = list(image.indexes)
    for index in indexes:
        index.drop(connection)
    driver = connection.connection.driver_connection
    assert driver is not None
    for table in ("product", "fileset", "image"):
        cursor = survey.execute(f"SELECT * FROM {table}")
        names = ", ".join(column[0] for column in cursor.description)
        with driver.cursor() as server, server.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in cursor:
                copy.write_row(row)
    names = [column.name for column in image.columns]
    later = [f"{name} + :days" if name in ("t_min", "t_max") else name for name in names[1:]]
    first = connection.execute(text("SELECT max(image_id) FROM image")).scalar_one()
    repeat = text(
        f"INSERT INTO image ({', '.join(names)}) "
        f"SELECT image_id + :more, {', '.join(later)} FROM image WHERE image_id <= :first"
    )
    for year in range(1, times):
        connection.execute(repeat, {"more": year * first, "days": year * _YEAR, "first": first})
    for index in indexes:
        index.create(connection)


def _wait(ready: list[str], process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers. Raises RuntimeError if it does not begin to."""
    end = time.monotonic() + _START_SECONDS
    while subprocess.run(ready, check=False, capture_output=True).returncode:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r}: expected it to answer within {_START_SECONDS:g} s")
        time.sleep(0.1)
