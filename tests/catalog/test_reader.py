"""Queries that only read, of SQLite files and of a server."""

import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.command import REPOSITORY
from support.databases import mariadb, postgresql
from support.image_rows import image_file, image_row, write_images

from pipeline.catalog.database import Database, database_url
from pipeline.catalog.reader import ServerReader, SqliteReader
from pipeline.errors import MachineFault, SettingsError

ROWS = [image_row(f"data/{number}.fits", 10, 10) for number in range(3)]
NUMBER = "SELECT count(*) FROM image"


@pytest.fixture(scope="module")
def server_url():
    with postgresql() as url:
        write_images(Database(database_url(url)), ROWS)
        yield url


@pytest.fixture
def sqlite(tmp_path):
    with closing(SqliteReader(image_file(tmp_path / "catalog" / "c.sqlite", ROWS))) as reader:
        yield reader


@pytest.fixture
def server(server_url):
    with closing(ServerReader(Database(database_url(server_url), read_only=True))) as reader:
        yield reader


@pytest.fixture(params=["sqlite", "server"])
def reader(request):
    return request.getfixturevalue(request.param)


def answer(reader, sql):
    names, rows = reader.answer(sql)
    return names, list(rows)


def test_the_answer_to_a_query(reader):
    sql = "SELECT path, kind AS k, ra FROM image WHERE path LIKE '%2.fits' AND note IS NULL"
    assert answer(reader, sql) == (["path", "k", "ra"], [("data/2.fits", "image", 10.0)])
    assert answer(reader, "SELECT path FROM image WHERE path LIKE 'DATA%'") == (["path"], [])
    assert answer(reader, "SELECT ':p0 %s %(x)s 10:30'")[1] == [(":p0 %s %(x)s 10:30",)]
    assert answer(reader, f"WITH t AS ({NUMBER}) SELECT * FROM t;")[1] == [(3,)]


WRITING = [
    "DELETE FROM image",
    "UPDATE image SET ra = 1",
    "INSERT INTO product VALUES (9, 'x')",
    "DROP TABLE image",
    "CREATE TABLE mine (x INTEGER)",
    "CREATE TEMPORARY TABLE mine (x INTEGER)",
    "WITH t AS (SELECT 1) DELETE FROM image",
    "VACUUM",
    "BEGIN",
    "COMMIT",
]
OF_SQLITE = [
    "ATTACH DATABASE '{folder}/new.sqlite' AS new",
    "VACUUM INTO '{folder}/new.sqlite'",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 3",
    "SELECT load_extension('{folder}/new')",
    "REINDEX",
    "ANALYZE",
]
OF_POSTGRESQL = [
    "SET TRANSACTION READ WRITE",
    "WITH gone AS (DELETE FROM image RETURNING path) SELECT * FROM gone",
    "SELECT * INTO mine FROM image",
    "SELECT setval('product_product_id_seq', 100)",
    "COPY image TO '/tmp/never.csv'",
    "DO $$ BEGIN DELETE FROM image; END $$",
]
OF_MARIADB = [
    "SELECT * FROM image INTO OUTFILE '/tmp/never.csv'",
    "SELECT 1 INTO/**/DumpFile '/tmp/never.csv'",
    "SET GLOBAL max_connections = 5",
    "SET SESSION TRANSACTION READ WRITE",
    "LOCK TABLES image WRITE",
    "TRUNCATE TABLE image",
]
SEVERAL = [
    f"{NUMBER}; DELETE FROM image",
    f"{NUMBER}; COMMIT; DELETE FROM image",
    f"{NUMBER}; {NUMBER}",
]


def is_refused(reader, sql):
    with pytest.raises(
        SettingsError, match="expected one SQL query that reads the catalog, such as SELECT: "
    ):
        answer(reader, sql)
    assert answer(reader, NUMBER)[1] == [(3,)]


@pytest.mark.parametrize("sql", [*WRITING, *SEVERAL])
def test_a_statement_that_writes_is_refused(reader, sql):
    is_refused(reader, sql)


@pytest.mark.parametrize("sql", OF_SQLITE)
def test_sqlite_touches_no_other_file_and_no_setting(sqlite, sql, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    is_refused(sqlite, sql.format(folder=tmp_path))
    assert {path.name for path in set(tmp_path.rglob("*")) - set(before)} <= {"c.sqlite-shm", "c.sqlite-wal"}


@pytest.mark.parametrize("sql", OF_POSTGRESQL)
def test_postgresql_writes_nothing(server, sql):
    is_refused(server, sql)


def test_mariadb_writes_nothing():
    with mariadb() as url:
        write_images(Database(database_url(url)), ROWS)
        with closing(ServerReader(Database(database_url(url), read_only=True))) as reader:
            assert answer(reader, "SELECT path, ':p0 %s' AS t FROM image WHERE path LIKE '%2.fits'") == (
                ["path", "t"],
                [("data/2.fits", ":p0 %s")],
            )
            for sql in [*WRITING, *SEVERAL, *OF_MARIADB]:
                is_refused(reader, sql)
            assert_names_are_explained(reader)


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing(1) FROM image", "", "-- none", "'"])
def test_a_wrong_query_is_refused_in_the_words_of_the_database(reader, sql):
    is_refused(reader, sql)


WRONG_NAMES = {
    "SELECT footprnt FROM image": "expected a column of image, got 'footprnt'. Did you mean 'footprint'?",
    "SELECT i.PATHS FROM image AS i": "expected a column of image, got 'PATHS'. Did you mean 'path'?",
    "SELECT zzz FROM image, fileset": "expected a column of fileset or image, got 'zzz'. `SELECT * "
    "FROM fileset, image LIMIT 1` shows those that there are.",
    "SELECT footprint FROM product": "expected a column of product, got 'footprint'. There is one in image.",
    "SELECT path FROM imag": "a table or a view of the catalog, got 'imag'. Did you mean 'image'?",
    "SELECT 1 FROM zzz": "expected a table or a view of the catalog, got 'zzz'. It has catalog_setting, ",
    "DELETE FROM image": ": got DELETE, and the catalog is read-only for queries. Nothing was changed.",
    " insert into product values (9, 'x')": ": got INSERT, and the catalog is read-only for queries.",
    "": "expected one SQL query that reads the catalog, such as SELECT: got none.",
}


def assert_names_are_explained(reader):
    for sql, said in WRONG_NAMES.items():
        with pytest.raises(SettingsError) as raised:
            answer(reader, sql)
        assert said in str(raised.value).replace("'paths'", "'PATHS'"), sql


def test_what_the_catalog_does_not_have_is_answered_with_the_nearest(reader):
    assert_names_are_explained(reader)


def test_an_error_behind_the_first_rows(sqlite):
    is_refused(
        sqlite, "SELECT abs(CASE path WHEN 'data/2.fits' THEN -9223372036854775808 ELSE 1 END) FROM image"
    )


def test_columns_and_indexes_of_sqlite_can_be_asked_for(sqlite):
    assert len(answer(sqlite, "PRAGMA table_info(image)")[1]) > 20
    assert answer(sqlite, "SELECT name FROM sqlite_master WHERE name = 'image'")[1] == [("image",)]
    assert answer(sqlite, f"EXPLAIN QUERY PLAN {NUMBER}")[1]


def test_mariadb_does_nothing_but_queries():
    statements = ["DROP TABLE image", "SET GLOBAL max_connections = 7", "CREATE TABLE more (a int)", "COMMIT"]
    statements += ["/*! DROP TABLE image */", "SELECT 1; DROP TABLE image", "SELECT 1 INTO OUTFILE '/tmp/x'"]
    with mariadb() as url:
        database = Database(database_url(url))
        write_images(database, ROWS)
        database.close()
        with closing(ServerReader(Database(database_url(url), read_only=True))) as reader:
            for sql in statements:
                is_refused(reader, sql)
            assert answer(reader, f" ({NUMBER})")[1] == [(3,)]
            assert ("image",) in answer(reader, "show tables")[1]


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 100])
def test_a_file_that_is_no_catalog_is_a_fault_of_the_machine(tmp_path, content):
    path = tmp_path / "c.sqlite"
    if content is not None:
        path.write_bytes(content)
    with closing(SqliteReader(path)) as reader, pytest.raises(MachineFault, match=f"catalog {path}: "):
        list(reader.rows(NUMBER, {}))
    assert path.exists() == (content is not None)


def test_a_damaged_file_is_a_fault_of_the_machine(tmp_path):
    path = image_file(tmp_path / "c.sqlite", [image_row(f"data/{n}.fits", 10, 10) for n in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with closing(SqliteReader(path)) as reader, pytest.raises(MachineFault, match="malformed"):
        answer(reader, "SELECT path FROM image ORDER BY note")


def test_a_server_that_is_gone_is_a_fault_of_the_machine(tmp_path):
    url = database_url(f"postgresql://mirror:secret@/catalog?host={tmp_path}")
    with closing(ServerReader(Database(url, read_only=True))) as reader:
        for ask in (lambda: answer(reader, NUMBER), lambda: list(reader.rows(NUMBER, {}))):
            with pytest.raises(MachineFault, match="catalog postgresql") as caught:
                ask()
            assert "secret" not in str(caught.value)


# The modules are read before the change of user: the interpreter may lie in the home of this one.
READS = """
import os, sys
from pathlib import Path
from pipeline.catalog.reader import SqliteReader
from pipeline.errors import MachineFault
if os.getuid() == 0:
    os.setgroups([])
    os.setuid(65534)
reader = SqliteReader(Path(sys.argv[1]))
try:
    for row in reader.rows("SELECT path FROM image ORDER BY path", {}):
        print(row[0], flush=True)
        input()
except MachineFault as fault:
    print(fault)
"""


@pytest.fixture
def not_ours():
    """A catalog with its write-ahead log in a folder that the user of ``READS`` must not write to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = image_file(Path(folder) / "c.sqlite", ROWS)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        Path(folder).chmod(0o555)
        yield path
        Path(folder).chmod(0o755)


@contextmanager
def reading(path):
    command = [sys.executable, "-c", READS, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes) as process:
        yield process
        process.kill()


def test_a_user_who_must_not_write_reads_a_catalog_that_nobody_has_open(not_ours):
    with reading(not_ours) as process:
        assert process.communicate("\n" * 9, timeout=60)[0].split() == [row["path"] for row in ROWS]
    assert [path.name for path in not_ours.parent.iterdir()] == ["c.sqlite"]


def test_a_change_during_such_a_query_is_noticed(not_ours):
    with reading(not_ours) as process:
        assert process.stdout.readline() == "data/0.fits\n"
        not_ours.parent.chmod(0o755)
        with closing(sqlite3.connect(not_ours)) as connection:
            connection.execute("DELETE FROM image")
            connection.commit()
        output = process.communicate("\n" * 9, timeout=60)[0]
    assert output.splitlines()[-1] == (
        f"catalog {not_ours}: an update wrote to it during the query: this user must not lock it. "
        "The answer may be wrong; ask again."
    )


def test_a_user_who_must_not_write_reads_what_an_open_writer_has_committed(not_ours):
    not_ours.parent.chmod(0o755)
    with closing(sqlite3.connect(not_ours)) as connection:
        connection.execute("DELETE FROM image WHERE path = 'data/0.fits'")
        connection.commit()
        not_ours.parent.chmod(0o555)
        with reading(not_ours) as process:
            assert process.communicate("\n" * 9, timeout=60)[0].split() == ["data/1.fits", "data/2.fits"]
