"""Connections to the database of the catalog."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.catalog.database import Database, database_url, sqlite_url
from pipeline.catalog.schema import create_schema


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "catalog.sqlite"
    path.touch()
    database = Database(sqlite_url(path))
    create_schema(database, {"id": "1"})
    yield database
    database.close()


def test_many_threads_at_once(database: Database):
    answers = []

    def ask() -> None:
        for _ in range(20):
            answers.append(database.setting("id"))
            answers.append(database.transact(lambda c: c.exec_driver_sql("SELECT 1").scalar()))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers.count("1"), answers.count(1)) == (320, 320)


def test_reading_does_not_wait_for_a_writer(database: Database):
    with closing(sqlite3.connect(database.url.database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        answers = []
        reader = threading.Thread(target=lambda: answers.append(database.setting("id")), daemon=True)
        reader.start()
        reader.join(20)
        assert answers == ["1"]
        writer.execute("ROLLBACK")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna:secret@host/db",
        "postgresql://anna@host/db?password=secret&sslmode=require",
        "mysql://anna:se/cret@host/db",
        "mysql://anna@host/db?passwd=secret",
    ],
)
def test_messages_show_no_password(url):
    shown = str(Database(database_url(url)))
    assert "cret" not in shown
    assert "anna:***@host/db" in shown
    assert str(database_url(url).password).endswith("cret")
