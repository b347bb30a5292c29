"""Whose turn it is: whole files in the order they come, and what can wait when nothing else does."""

import threading
from collections.abc import Iterator

import pytest

from pipeline.datastore.client.fetch_pool import Connections

PATIENCE_SECONDS = 60


@pytest.fixture
def one() -> Iterator[Connections]:
    connections = Connections(1)
    yield connections
    connections.close()


class Log:
    """What was done in which order, and a gate before it."""

    def __init__(self, connections: Connections) -> None:
        self.done: list[str] = []
        self.opened = threading.Event()
        self.all_done = threading.Semaphore(0)
        self._begun = threading.Event()
        self._gate = connections.submit(self._wait)
        assert self._begun.wait(PATIENCE_SECONDS)

    def _wait(self) -> None:
        self._begun.set()
        assert self.opened.wait(PATIENCE_SECONDS)

    def note(self, what: str) -> None:
        self.done.append(what)
        self.all_done.release()

    def spare(self, what: str, times: int):
        """Work that wants to be done so often."""
        left = [times]

        def work() -> bool:
            left[0] -= 1
            self.note(what)
            return left[0] > 0

        return work

    def wait_for(self, count: int) -> list[str]:
        self.opened.set()
        self._gate.result(PATIENCE_SECONDS)
        for _ in range(count):
            assert self.all_done.acquire(timeout=PATIENCE_SECONDS)
        return self.done


def test_what_can_wait_comes_behind_all_files(one):
    log = Log(one)
    one.when_idle(log.spare("a", 3))
    one.when_idle(log.spare("b", 1))
    for number in range(3):
        one.submit(log.note, f"file {number}")
    assert log.wait_for(7) == ["file 0", "file 1", "file 2", "a", "a", "a", "b"]


def test_a_file_that_comes_meanwhile_goes_first(one):
    log = Log(one)

    def hands_in() -> bool:
        log.note("piece")
        if log.done.count("piece") == 1:
            one.submit(log.note, "file")
        return log.done.count("piece") < 3

    one.when_idle(hands_in)
    assert log.wait_for(4) == ["piece", "file", "piece", "piece"]


def test_results_and_errors_arrive(one):
    assert one.submit(divmod, 7, 2).result(PATIENCE_SECONDS) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        one.submit(divmod, 7, 0).result(PATIENCE_SECONDS)
    assert one.submit(int, "ff", 16).result(PATIENCE_SECONDS) == 255


def test_how_many_are_idle():
    connections = Connections(3)
    assert connections.idle == 3
    first = Log(connections)
    assert connections.idle == 2
    second = Log(connections)
    connections.when_idle(lambda: (third.wait(PATIENCE_SECONDS), False)[1])
    third = threading.Event()
    waiting = [connections.submit(int) for _ in range(2)]
    third.set()
    for log in (first, second):
        log.wait_for(0)
    for future in waiting:
        future.result(PATIENCE_SECONDS)
    connections.close()
    assert connections.idle == 3


def test_nothing_is_idle_while_files_wait(one):
    log = Log(one)
    files = [one.submit(log.note, "file") for _ in range(3)]
    assert one.idle == 0
    log.wait_for(3)
    assert [file.result(PATIENCE_SECONDS) for file in files] == [None] * 3


def test_nothing_waits_that_was_cancelled(one):
    log = Log(one)
    files = [one.submit(log.note, "file") for _ in range(3)]
    one.when_idle(log.spare("piece", 1))
    assert all(file.cancel() for file in files)
    assert log.wait_for(1) == ["piece"]
    one.close()
    assert one.idle == 1


def test_no_work_is_taken_after_closing(one):
    one.close()
    with pytest.raises(RuntimeError):
        one.submit(int)


def test_closing_forgets_what_waits():
    connections = Connections(1)
    log = Log(connections)
    connections.when_idle(log.spare("piece", 5))
    file = connections.submit(log.note, "file")
    closing = threading.Thread(target=connections.close)
    closing.start()
    while not file.cancelled():
        pass
    log.opened.set()
    closing.join()
    assert log.done == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_never_more_at_once_than_there_are_connections(count):
    connections = Connections(count)
    lock = threading.Lock()
    at_once, most, left = 0, 0, 200
    finished = threading.Event()

    def work() -> bool:
        nonlocal at_once, most, left
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.001)
        with lock:
            at_once -= 1
            left -= 1
            if left == 0:
                finished.set()
            return left >= 10

    for _ in range(10):
        connections.when_idle(work)
    for _ in range(100):
        connections.submit(work)
    assert finished.wait(PATIENCE_SECONDS)
    connections.close()
    assert most == count
