"""Rebuild of the catalog: stopped, with a process that is killed, and beside another writer."""

import json
import multiprocessing
import signal
import sys
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import Connection
from support.catalog import PRODUCT, add_chips, catalog_of, rows
from support.command import ended
from support.follower import Follower
from support.running import started, until
from support.upstream import Upstream

from pipeline.catalog.database import Database, database_url
from pipeline.catalog.fileset_rows import delete_fileset
from pipeline.catalog.pipeline_tables import PipelineTables
from pipeline.catalog.rebuild import Rebuilt, rebuild
from pipeline.config import read_settings
from pipeline.cores import CORES
from pipeline.errors import MachineFault
from pipeline.mirror.state.layout import Layout

COMMAND = str(Path(sys.executable).with_name("ipp-mirror"))
NAMES = "SELECT name FROM fileset ORDER BY name"
STOPPED = "the rebuild was stopped on request. The catalog is as it was; begin it again at any time."
KINDS = ("downloaded", "extracted")


@pytest.fixture
def follower(follower: Follower, upstream: Upstream) -> Follower:
    """A mirror of 24 filesets, all cataloged: three for a process at once."""
    follower.catalog |= {"enabled": True, "coverage": False}
    for number in range(24):
        add_chips(upstream, f"chip.{number}", number, {f"{number}.cmf": b"x"}, component=f"XY{number}")
    result = follower.update()
    assert result.code == 0, result.output
    return follower


def test_every_way_to_end_a_rebuild_leaves_the_catalog_as_it_was(follower: Follower):
    layout, settings = Layout(follower.root), read_settings(follower.config)
    before = sorted(path.name for path in layout.catalog.iterdir())
    pointer, held = layout.catalog_pointer.read_bytes(), rows(catalog_of(follower.root), NAMES)
    stopping = Event()
    outcome = rebuild(settings, layout, KINDS, lambda _done, _all: stopping.set(), stopping)
    assert outcome == Rebuilt(0, {}, stopped=True)

    def kill() -> None:
        # One for each core, and at most for each eight filesets.
        most = min(3, CORES)
        until(lambda: len(multiprocessing.active_children()) == most, "the processes of the rebuild")
        for process in multiprocessing.active_children():
            process.kill()

    # At their beginning: at the first result, they may have done all.
    killing = Thread(target=kill)
    killing.start()
    with pytest.raises(MachineFault, match="one of its processes was killed"):
        rebuild(settings, layout, KINDS, lambda _done, _all: None, Event())
    killing.join()
    after = sorted(path.name for path in layout.catalog.iterdir())
    assert [name for name in after if not name.endswith(("-wal", "-shm"))] == [
        name for name in before if not name.endswith(("-wal", "-shm"))
    ]
    assert (layout.catalog_pointer.read_bytes(), rows(catalog_of(follower.root), NAMES)) == (pointer, held)


def test_a_signal_ends_the_command_with_one_sentence(follower: Follower):
    command = [COMMAND, "catalog", "rebuild", "--config", str(follower.config)]
    # The database of the next generation is made first: the processes then load their libraries.
    made = Layout(follower.root).catalog / "000002.sqlite"
    with started(command, follower.folder / "output") as running:
        until(made.exists, "the next generation")
        running.send_group(signal.SIGINT)
        stopped = running.wait()
    assert stopped.code == 25, stopped.output
    assert stopped.output.splitlines()[-1] == f"ipp-mirror: {STOPPED}"
    assert not made.exists()
    logged = Layout(follower.root).log_file.read_text()
    assert "rebuilding the catalog: 24 filesets" in logged


def test_beside_another_writer_no_marker_is_left_without_its_rows(follower: Follower):
    """The database that the settings name is rebuilt in place; another process deletes a row."""
    url = f"sqlite:///{follower.folder}/named.sqlite"
    follower.catalog["url"] = url
    assert follower.update().code == 0
    settings, layout = read_settings(follower.config), Layout(follower.root)

    def interfere(done: int, _all: int) -> None:
        if done < 24:
            return
        with closing(Database(database_url(url))) as database:
            database.transact(_delete_first)

    outcome = rebuild(settings, layout, KINDS, interfere, Event())
    assert (outcome.filesets, outcome.stopped) == (24, False)
    held = {name for (name,) in rows(Database(database_url(url)), NAMES)}
    assert follower.marked("cataloged", PRODUCT) == held
    assert len(held) == 23
    assert json.loads(layout.catalog_record.read_text())["state"]
    assert follower.update().code == 0
    assert len(follower.marked("cataloged", PRODUCT)) == 24


def _delete_first(connection: Connection) -> None:
    delete_fileset(connection, PipelineTables(connection), 1)


def test_rows_of_nothing_are_found_by_verify_and_deleted_by_the_next_update(follower: Follower):
    layout = Layout(follower.root)
    for kind in (*KINDS, "cataloged"):
        layout.marker(kind, PRODUCT, "chip.3").unlink()
    verified = ended([COMMAND, "verify", "--config", str(follower.config)])
    problem = (
        f"catalog: {PRODUCT}/chip.3: extra: the mirror does not hold it; the next update deletes its rows"
    )
    assert problem in verified.output
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"filesetID": "chip.1"}}]
    assert follower.update().code == 0
    assert ("chip.3",) not in rows(catalog_of(follower.root), NAMES)
    layout.marker("cataloged", PRODUCT, "chip.4").unlink()
    waiting = ended([COMMAND, "verify", "--config", str(follower.config)])
    assert "catalog: 1 fileset not cataloged yet; the next update does it" in waiting.output
