"""Health of the catalog: databases that are damaged, locked, gone, or do not answer."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest
from support.running import TIMEOUT_SECONDS, free_port

from pipeline.catalog.generations import current_file
from pipeline.catalog.health import catalog_fault
from pipeline.catalog.reconcile import reconcile
from pipeline.config import Catalog, Settings
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker

UNCONCERNED = "The files of the mirror are not concerned; "
AGAIN = f"{UNCONCERNED}the next update tries again."


def settings_of(layout: Layout, **catalog: object) -> Settings:
    return Settings(
        source={"url": "http://127.0.0.1:1/ds"},
        mirror={"root": str(layout.root)},
        catalog=Catalog(**({"enabled": True} | catalog)),
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "state").mkdir()
    return Layout(tmp_path)


@pytest.fixture
def file(layout: Layout) -> Path:
    """The file of a new catalog."""
    reconcile(settings_of(layout), layout)
    return current_file(layout)


def fault(
    layout: Layout, is_working: bool = False, seconds: float = TIMEOUT_SECONDS, **catalog: object
) -> str | None:
    return catalog_fault(settings_of(layout, **catalog), layout, is_working=is_working, seconds=seconds)


def test_a_sound_one_and_one_that_is_not_made_yet(layout: Layout):
    assert fault(layout) is None
    assert fault(layout, url=f"sqlite:///{layout.root}/c.sqlite") is None
    reconcile(settings_of(layout), layout)
    assert fault(layout) is None


def test_a_damaged_one(layout: Layout, file: Path):
    file.write_bytes(b"no database" * 100)
    advice = "the next update makes the catalog anew; to do so now: ipp-mirror catalog rebuild"
    assert fault(layout) == f"catalog {file}: file is not a database. {UNCONCERNED}{advice}"
    assert fault(layout, enabled=False) is None


def test_a_damaged_one_that_the_settings_name(layout: Layout, tmp_path: Path):
    named = tmp_path / "c.sqlite"
    named.write_bytes(b"no database" * 100)
    advice = "make the catalog anew with: ipp-mirror catalog rebuild"
    said = f"catalog {named}: file is not a database. {UNCONCERNED}{advice}"
    assert fault(layout, url=f"sqlite:///{named}") == said


def test_one_that_is_gone(layout: Layout, file: Path):
    file.unlink()
    assert fault(layout) is None
    write_marker(layout.marker(MarkerKind.CATALOGED, "P", "f1"), {})
    assert fault(layout) == f"catalog {file}: the file is gone. The next update makes it anew."


@pytest.mark.parametrize(("begin", "in_a_run"), [("BEGIN EXCLUSIVE", True), ("BEGIN IMMEDIATE", False)])
def test_a_locked_one(begin, in_a_run, layout: Layout, file: Path):
    """A run that works has the lock of the writer by right, none keeps readers out."""
    said = f"catalog {file}: database is locked. {AGAIN}"
    with closing(sqlite3.connect(file, isolation_level=None)) as locked:
        if begin == "BEGIN EXCLUSIVE":
            locked.execute("PRAGMA locking_mode = EXCLUSIVE")
        locked.execute(begin)
        assert fault(layout, seconds=0.1) == said
        assert fault(layout, is_working=True, seconds=0.1) == (said if in_a_run else None)
    assert fault(layout) is None


def test_a_lock_of_a_moment_is_waited_for(layout: Layout, file: Path):
    """As that of an update on a slow disk that begins while ``status`` is asked."""
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as locked:
        locked.execute("BEGIN IMMEDIATE")
        unlocking = Timer(0.5, locked.execute, ["ROLLBACK"])
        unlocking.start()
        assert catalog_fault(settings_of(layout), layout, is_working=False) is None
        unlocking.join()


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which connections are made and never answered."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        yield silent.getsockname()[1]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_that_does_not_answer(kind, layout: Layout, port: int):
    said = fault(layout, seconds=0.1, url=f"{kind}://mirror:secret@127.0.0.1:{port}/catalog")
    assert said.startswith(f"catalog {kind}+")
    assert said.endswith(f": no answer within 0.1 s. {AGAIN}")
    assert "secret" not in said


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_that_refuses(kind, layout: Layout):
    said = fault(layout, url=f"{kind}://mirror:secret@127.0.0.1:{free_port()}/catalog")
    assert "refused" in said
    assert said.endswith(f"{UNCONCERNED}the next run tries again.")
    assert "secret" not in said
