"""Whose turn it is: whole files in the order they come, and what can wait when nothing else does."""

import threading
from collections.abc import Iterator

import pytest

from pipeline.datastore.connections import Ask, Connections, InTurn

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


def test_the_files_that_were_taken_charge_of_are_next():
    two = Connections(2)
    log, other = Log(two), Log(two)

    def takes_two() -> list[Ask]:
        assert two.take_next()
        log.note("first")
        assert two.take_next()
        return two.taken

    taken = two.submit(takes_two)
    files = [two.submit(log.note, name, asks=Ask(name, 1)) for name in ("a", "b", "c")]
    log.opened.set()
    assert taken.result(PATIENCE_SECONDS) == [Ask("a", 1), Ask("b", 1)]
    assert log.wait_for(4) == ["first", "a", "b", "c"]
    assert not any(file.cancel() for file in files)
    other.wait_for(0)
    two.close()


def test_what_is_cancelled_or_asks_for_nothing_known_is_not_taken_charge_of(one):
    log = Log(one)
    taken = one.submit(lambda: (one.take_next(), one.taken))
    assert one.submit(log.note, "cancelled", asks=Ask("cancelled", 1)).cancel()
    first = one.submit(lambda: (one.take_next(), one.taken), asks=Ask("first", 1))
    one.submit(log.note, "piece")
    one.submit(log.note, "last", asks=Ask("last", 1))
    log.opened.set()
    assert taken.result(PATIENCE_SECONDS) == (True, [Ask("first", 1)])
    assert first.result(PATIENCE_SECONDS) == (False, [])
    assert log.wait_for(2) == ["piece", "last"]


def test_what_is_given_back_is_for_any_thread_in_its_order():
    two = Connections(2)
    log, other = Log(two), Log(two)
    begun, done = threading.Event(), threading.Event()

    def slow() -> bool:
        assert two.take_next()
        assert two.take_next()
        two.give_back()
        assert two.taken == []
        begun.set()
        return done.wait(PATIENCE_SECONDS)

    taken = two.submit(slow)
    for name in ("a", "b", "c"):
        two.submit(log.note, name, asks=Ask(name, 1))
    log.opened.set()
    assert begun.wait(PATIENCE_SECONDS)
    other.wait_for(0)
    assert log.wait_for(3) == ["a", "b", "c"]
    done.set()
    assert taken.result(PATIENCE_SECONDS)
    two.close()


def test_what_an_idle_connection_can_begin_is_not_taken_charge_of():
    two = Connections(2)
    both = threading.Barrier(2)
    for started in [two.submit(both.wait) for _ in range(2)]:
        started.result(PATIENCE_SECONDS)

    def takes() -> bool:
        files.append(two.submit(int, asks=Ask("file", 1)))
        return two.take_next()

    files = []
    # Often: whether the idle one is awake yet is a matter of moments.
    assert not any(two.submit(takes).result(PATIENCE_SECONDS) for _ in range(50))
    assert [file.result(PATIENCE_SECONDS) for file in files] == [0] * 50
    two.close()


def test_what_is_to_be_first_goes_before_all_that_waits(one):
    log = Log(one)
    for name in ("a", "b"):
        one.submit(log.note, name)
    for name in ("listing 1", "listing 2"):
        one.submit(log.note, name, first=True)
    assert log.wait_for(4) == ["listing 1", "listing 2", "a", "b"]


def test_one_that_does_all_by_itself():
    asks = [Ask(name, 1) for name in ("a", "b", "c")]
    upcoming = InTurn([*asks, None, Ask("e", 1)])
    upcoming.go_on()
    assert upcoming.taken == []
    assert upcoming.take_next()
    assert upcoming.take_next()
    assert not upcoming.take_next()  # nobody knows what is asked for then
    assert upcoming.taken == asks[1:]
    upcoming.go_on()
    assert upcoming.taken == asks[2:]
    upcoming.give_back()
    assert upcoming.taken == []
    upcoming.go_on()
    assert not upcoming.take_next()
    upcoming.go_on()
    assert upcoming.take_next()
    upcoming.go_on()
    assert not upcoming.take_next()
    assert upcoming.taken == []


def test_only_a_connection_takes_charge_of_what_is_next(one):
    log = Log(one)
    file = one.submit(log.note, "file", asks=Ask("file", 1))
    assert not one.take_next()
    log.wait_for(1)
    assert file.result(PATIENCE_SECONDS) is None


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
