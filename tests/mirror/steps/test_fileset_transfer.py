"""Transfers of one fileset: over how many connections, and what becomes of errors."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from time import sleep

import pytest

from pipeline.datastore.client import FetchPool
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch
from pipeline.mirror.resources.connection_quota import ConnectionQuota
from pipeline.mirror.steps.fileset_transfer import TransferProgress, Transfers

CONNECTIONS = 4
TIMEOUT_SECONDS = 60


def row(number: int) -> FileRow:
    return FileRow(f"{number}.fits", 10, None, "fits", {})


ROWS = [row(number) for number in range(10)]


@pytest.fixture
def pool() -> Iterator[FetchPool]:
    pool = FetchPool(CONNECTIONS)
    yield pool
    pool.close()


@pytest.fixture
def quota() -> ConnectionQuota:
    return ConnectionQuota(CONNECTIONS)


def progress() -> TransferProgress:
    return TransferProgress(lambda *_: None, count=len(ROWS), total=100, files=0, bytes=0)


class Fetches:
    """Fetches that are counted; the first ones wait until so many run at once, or for ``timeout`` seconds."""

    def __init__(self, meeting: int = 1, timeout: float = TIMEOUT_SECONDS) -> None:
        self.names: list[str] = []
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(meeting, timeout=timeout)

    def __call__(self, row: FileRow) -> None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
            self.names.append(row.name)
            is_first = len(self.names) <= self._barrier.parties
        if is_first:
            with suppress(threading.BrokenBarrierError):
                self._barrier.wait()
        with self._lock:
            self._running -= 1


def test_a_lone_fileset_uses_all_connections(pool, quota):
    fetches = Fetches(meeting=CONNECTIONS)
    transfers = Transfers(pool, quota, fetches, progress())
    transfers.run(ROWS)
    assert fetches.most == CONNECTIONS
    assert sorted(fetches.names) == sorted(row.name for row in ROWS)
    assert (transfers.errors, transfers.progress.files) == ({}, len(ROWS))
    assert quota.is_kept


def test_a_fileset_keeps_to_one_connection_while_they_are_shared(pool, quota):
    quota.share(True)
    fetches = Fetches(meeting=2, timeout=0.3)
    Transfers(pool, quota, fetches, progress()).run(ROWS)
    assert fetches.most == 1
    assert [row.name for row in ROWS] == fetches.names


def test_files_in_turn_are_fetched_in_the_order_of_the_listing(pool, quota):
    fetches = Fetches(meeting=2, timeout=0.3)
    transfers = Transfers(pool, quota, fetches, progress())
    transfers.run_in_turn(ROWS)
    assert [row.name for row in ROWS] == fetches.names
    assert (fetches.most, transfers.progress.files) == (1, len(ROWS))
    assert quota.is_kept


@pytest.mark.parametrize("way", ["run", "run_in_turn"])
def test_one_file_that_fails_keeps_no_other_from_being_fetched(way, pool, quota):
    error = ContentMismatch("3.fits: md5")

    def fetch(row: FileRow) -> None:
        if row.name == "3.fits":
            raise error

    transfers = Transfers(pool, quota, fetch, progress())
    getattr(transfers, way)(ROWS)
    assert transfers.errors == {"3.fits": error}
    assert transfers.progress.files == len(ROWS) - 1


@pytest.mark.parametrize("way", ["run", "run_in_turn"])
def test_a_bug_is_not_taken_for_a_failed_file(way, pool, quota):
    def fetch(row: FileRow) -> None:
        raise KeyError(row.name)

    transfers = Transfers(pool, quota, fetch, progress())
    with pytest.raises(KeyError):
        getattr(transfers, way)(ROWS)
    assert quota.is_kept


def test_the_first_numbers_are_reported_soon_and_others_once_a_second():
    reported = []
    transfer = TransferProgress(reported.append, count=1, total=100, files=0, bytes=0)
    pauses = [transfer.pause]
    transfer.bytes = 30
    while len(reported) < 2:
        sleep(0.01)
        transfer.update()
    pauses.append(transfer.pause)
    assert [each.bytes for each in reported] == [0, 30]
    assert pauses == [0.2, 0.4]
