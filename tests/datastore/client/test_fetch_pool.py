"""Order of tasks: submitted ones as they come, idle tasks while no submitted one waits."""

import threading
from collections.abc import Iterator

import pytest

from pipeline.datastore.client.fetch_pool import FetchPool

TIMEOUT_SECONDS = 60


@pytest.fixture
def one() -> Iterator[FetchPool]:
    pool = FetchPool(1)
    yield pool
    pool.close()


class Log:
    """Log of tasks in the order in which they ran, and a gate before the first."""

    def __init__(self, pool: FetchPool) -> None:
        self.done: list[str] = []
        self.opened = threading.Event()
        self.all_done = threading.Semaphore(0)
        self._started = threading.Event()
        self._gate = pool.submit(self._wait)
        assert self._started.wait(TIMEOUT_SECONDS)

    def _wait(self) -> None:
        self._started.set()
        assert self.opened.wait(TIMEOUT_SECONDS)

    def note(self, what: str) -> None:
        self.done.append(what)
        self.all_done.release()

    def idle_task(self, what: str, times: int):
        """Idle task that runs so many times."""
        left = [times]

        def work() -> bool:
            left[0] -= 1
            self.note(what)
            return left[0] > 0

        return work

    def wait_for(self, count: int) -> list[str]:
        self.opened.set()
        self._gate.result(TIMEOUT_SECONDS)
        for _ in range(count):
            assert self.all_done.acquire(timeout=TIMEOUT_SECONDS)
        return self.done


def test_idle_tasks_run_behind_all_submitted_ones(one):
    log = Log(one)
    one.add_idle_task(log.idle_task("a", 3))
    one.add_idle_task(log.idle_task("b", 1))
    for number in range(3):
        one.submit(log.note, f"file {number}")
    assert log.wait_for(7) == ["file 0", "file 1", "file 2", "a", "a", "a", "b"]


def test_a_task_submitted_meanwhile_goes_first(one):
    log = Log(one)

    def submits() -> bool:
        log.note("piece")
        if log.done.count("piece") == 1:
            one.submit(log.note, "file")
        return log.done.count("piece") < 3

    one.add_idle_task(submits)
    assert log.wait_for(4) == ["piece", "file", "piece", "piece"]


def test_results_and_errors_arrive(one):
    assert one.submit(divmod, 7, 2).result(TIMEOUT_SECONDS) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        one.submit(divmod, 7, 0).result(TIMEOUT_SECONDS)
    assert one.submit(int, "ff", 16).result(TIMEOUT_SECONDS) == 255


def test_how_many_are_idle():
    pool = FetchPool(3)
    assert pool.idle == 3
    first = Log(pool)
    assert pool.idle == 2
    second = Log(pool)
    pool.add_idle_task(lambda: (third.wait(TIMEOUT_SECONDS), False)[1])
    third = threading.Event()
    waiting = [pool.submit(int) for _ in range(2)]
    third.set()
    for log in (first, second):
        log.wait_for(0)
    for future in waiting:
        future.result(TIMEOUT_SECONDS)
    pool.close()
    assert pool.idle == 3


def test_nothing_is_idle_while_files_wait(one):
    log = Log(one)
    files = [one.submit(log.note, "file") for _ in range(3)]
    assert one.idle == 0
    log.wait_for(3)
    assert [file.result(TIMEOUT_SECONDS) for file in files] == [None] * 3


def test_nothing_waits_that_was_cancelled(one):
    log = Log(one)
    files = [one.submit(log.note, "file") for _ in range(3)]
    one.add_idle_task(log.idle_task("piece", 1))
    assert all(file.cancel() for file in files)
    assert log.wait_for(1) == ["piece"]
    one.close()
    assert one.idle == 1


def test_no_work_is_taken_after_closing(one):
    one.close()
    with pytest.raises(RuntimeError):
        one.submit(int)


def test_closing_forgets_what_waits():
    pool = FetchPool(1)
    log = Log(pool)
    pool.add_idle_task(log.idle_task("piece", 5))
    file = pool.submit(log.note, "file")
    closing = threading.Thread(target=pool.close)
    closing.start()
    while not file.cancelled():
        pass
    log.opened.set()
    closing.join()
    assert log.done == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_never_more_at_once_than_there_are_connections(count):
    pool = FetchPool(count)
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
        pool.add_idle_task(work)
    for _ in range(100):
        pool.submit(work)
    assert finished.wait(TIMEOUT_SECONDS)
    pool.close()
    assert most == count
