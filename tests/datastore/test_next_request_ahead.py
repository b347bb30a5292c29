"""The next request goes out before the answer to the one before has ended: what that may never lead to."""

import hashlib
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_server import Answers, Asked, Scripted, Stalled, Withheld, answer, scripted

from pipeline.datastore import ahead, client
from pipeline.datastore.client import DataStore, Patience
from pipeline.datastore.connections import Connections
from pipeline.datastore.listing import FileRow
from pipeline.datastore.transfer import Transfer
from pipeline.errors import ContentMismatch, MirrorError, ServerUnavailable

PATIENCE_SECONDS = 60
# From here on the client takes the server for a far one.
FAR_SECONDS = 3 * client.FAR_SECONDS
NAMES = [f"o5 +%7e;{number}.tgz" for number in range(3)]
CONTENT = {name: random.Random(name).randbytes(700_000) for name in NAMES}


def wants(asked: Asked, number: int) -> bool:
    return unquote(asked.target).endswith(f"/{NAMES[number]}")


def content_of(asked: Asked) -> bytes:
    (content,) = (CONTENT[name] for number, name in enumerate(NAMES) if wants(asked, number))
    return content


def far(asked: Asked) -> bytes:
    sleep(FAR_SECONDS)
    return answer(body=content_of(asked))


def withholding(asked: Asked) -> bytes | Withheld:
    """All but the last file end when the next is asked for."""
    whole = far(asked)
    return whole if wants(asked, 2) else Withheld(whole[:-100_000], whole[-100_000:])


def damaging_first(times: int) -> Answers:
    """The first file comes with another last byte, so many times."""
    left = threading.Semaphore(times)

    def answers(asked: Asked) -> bytes:
        whole = far(asked)
        damaged = wants(asked, 0) and left.acquire(blocking=False)
        return whole[:-1] + bytes([whole[-1] ^ 1]) if damaged else whole

    return answers


class Site:
    """A client of a scripted server, and the threads that fetch."""

    def __init__(self, server: Scripted, folder: Path, connections: int, timeout: float) -> None:
        self.server = server
        self.pauses: list[float] = []
        patience = Patience(attempts=3, sleep=self.pauses.append)
        self.store = DataStore(server.url, connections=connections, timeout=timeout, patience=patience)
        self.connections = Connections(connections)
        self._folder = folder

    def url(self, name: str) -> str:
        return self.store.file_url("p", "f", name)

    def fetch(self, name: str, md5: bool = True) -> bytes:
        listed = hashlib.md5(CONTENT[name]).hexdigest() if md5 else None
        row = FileRow(name, len(CONTENT[name]), listed, "tgz", {})
        partial = self._folder / f"{NAMES.index(name)}.part"
        with self.store.letting_go():
            Transfer(self.store, self.url(name), row, partial, lambda _: None, self.connections).fetch()
        return partial.read_bytes()

    def fetch_all(self, or_none: tuple[type[MirrorError], ...] = ()) -> list[bytes | None]:
        """All files, handed in while none is begun; None for one that fails with such an error."""
        opened = threading.Event()
        gates = [
            self.connections.submit(opened.wait, PATIENCE_SECONDS) for _ in range(self.connections.count)
        ]
        files = [self.connections.submit(self.fetch, name, asks=self.url(name)) for name in NAMES]
        opened.set()
        assert all(gate.result(PATIENCE_SECONDS) for gate in gates)
        wait(files)
        return [None if isinstance(file.exception(), or_none) else file.result() for file in files]

    def get(self, name: str) -> bytes:
        with self.store.get(self.url(name)) as response:
            return response.raw.read()

    def get_and_ask(self, name: str, following: str) -> bytes:
        with self.store.get(self.url(name)) as response:
            self.store.ask_ahead(response, self.url(following))
            return response.raw.read()


@contextmanager
def started(
    answers: Answers,
    folder: Path,
    connections: int = 1,
    timeout: float = 20,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Site]:
    with scripted(answers, tls=tls) as server:
        site = Site(server, folder, connections, timeout)
        try:
            yield site
        finally:
            site.connections.close()
            site.store.close()


@pytest.fixture
def site(tmp_path) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:
        yield lambda answers, **more: stack.enter_context(started(answers, tmp_path, **more))


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_far_server_has_the_next_request_before_the_file_ends(secure, site, request, monkeypatch):
    tls = None
    if secure:
        certificate = request.getfixturevalue("certificate")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    there = site(withholding, tls=tls)
    assert there.fetch_all() == list(CONTENT.values())
    assert [asked.connection for asked in there.server.asked] == [1, 1, 1]
    assert there.pauses == []


def test_a_near_server_is_asked_when_the_file_has_ended(site, monkeypatch):
    monkeypatch.setattr(client, "FAR_SECONDS", PATIENCE_SECONDS)
    there = site(far)
    assert there.fetch_all() == list(CONTENT.values())
    assert there.store.far_seconds == 0
    assert there.server.connections == 1


def test_all_connections_are_used_and_no_more(site):
    there = site(far, connections=2)
    for _ in range(4):
        assert there.fetch_all() == list(CONTENT.values())
    assert there.server.most_open == there.server.connections == 2
    assert len(there.server.asked) == 4 * len(NAMES)


def test_a_server_that_hangs_up_on_what_it_was_asked_ahead(site):
    """It is asked again on a new connection, which is no failure; from then on it is asked nothing ahead."""
    there = site(lambda asked: b"" if asked.connection == 1 and wants(asked, 1) else far(asked))
    assert there.get_and_ask(NAMES[0], NAMES[1]) == CONTENT[NAMES[0]]
    assert there.get(NAMES[1]) == CONTENT[NAMES[1]]
    assert there.pauses == []
    assert [asked.connection for asked in there.server.asked] == [1, 1, 2]
    assert there.store.far_seconds == 0


def test_a_server_that_keeps_silent_about_what_it_was_asked_ahead(site, monkeypatch):
    """It is not waited for as long as usual: the same, as if it had hung up."""
    monkeypatch.setattr(ahead, "ANSWER_SECONDS", 0.5)
    ended = threading.Event()

    def answers(asked: Asked) -> bytes:
        if asked.connection == 1 and wants(asked, 1):
            ended.wait(PATIENCE_SECONDS)
        return far(asked)

    there = site(answers)
    assert there.fetch_all() == list(CONTENT.values())
    ended.set()
    assert there.pauses == []
    assert there.store.far_seconds == 0
    assert [asked.connection for asked in there.server.asked] == [1, 1, 2, 2]


def test_an_answer_to_what_was_asked_ahead_may_stall_as_long_as_any(site, monkeypatch):
    monkeypatch.setattr(ahead, "ANSWER_SECONDS", 0.2)
    there = site(lambda asked: Stalled(far(asked), 0.5) if wants(asked, 1) else far(asked))
    assert there.fetch_all() == list(CONTENT.values())
    assert there.pauses == []
    assert there.server.connections == 1


def test_what_was_asked_ahead_is_no_answer_to_anything_else(site):
    there = site(far)
    assert there.get_and_ask(NAMES[0], NAMES[1]) == CONTENT[NAMES[0]]
    assert there.get(NAMES[2]) == CONTENT[NAMES[2]]
    assert there.get(NAMES[1]) == CONTENT[NAMES[1]]
    assert there.server.connections == 2
    assert there.store.far_seconds == 0


def test_nobody_else_gets_a_connection_that_is_ahead(site):
    there = site(far, connections=2)
    assert there.get_and_ask(NAMES[0], NAMES[1]) == CONTENT[NAMES[0]]
    found = []
    other = threading.Thread(target=lambda: found.extend(there.get(name) for name in NAMES))
    other.start()
    other.join()
    assert found == list(CONTENT.values())
    assert there.get(NAMES[1]) == CONTENT[NAMES[1]]
    assert [asked.connection for asked in there.server.asked] == [1, 1, 2, 2, 2]


def test_a_file_that_comes_damaged_is_tried_again_and_the_next_is_asked_for_again(site):
    there = site(damaging_first(times=1))
    assert there.fetch_all() == list(CONTENT.values())
    assert len(there.pauses) == 1
    assert there.store.far_seconds > 0  # which says nothing about asking ahead


def test_while_a_file_waits_to_be_tried_again_another_connection_has_the_next(site):
    there = site(damaging_first(times=1), connections=2)
    opened, fetched = threading.Event(), []

    def pause(_: float) -> None:
        opened.set()
        fetched.append(turns[1].result(PATIENCE_SECONDS))

    there.store.patience = Patience(attempts=2, sleep=pause)
    gate = there.connections.submit(opened.wait, PATIENCE_SECONDS)
    turns = [there.connections.submit(there.fetch, name, asks=there.url(name)) for name in NAMES[:2]]
    assert turns[0].result(PATIENCE_SECONDS) == CONTENT[NAMES[0]]
    assert fetched == [CONTENT[NAMES[1]]]
    assert gate.result(PATIENCE_SECONDS)


def test_a_connection_that_is_ahead_is_free_again_when_the_file_fails(site):
    there = site(damaging_first(times=9))
    with pytest.raises(ContentMismatch):
        there.fetch_all()
    found = []
    other = threading.Thread(target=lambda: found.append(there.get(NAMES[2])), daemon=True)
    other.start()
    other.join(PATIENCE_SECONDS)
    assert found == [CONTENT[NAMES[2]]]


def test_no_connection_is_lost_when_what_was_asked_ahead_is_never_wanted(site):
    there = site(far)
    with pytest.raises(OSError, match="disk"), there.store.letting_go():
        there.get_and_ask(NAMES[0], NAMES[1])
        raise OSError("the disk is full")
    found = []
    other = threading.Thread(target=lambda: found.append(there.get(NAMES[2])), daemon=True)
    other.start()
    other.join(PATIENCE_SECONDS)
    assert found == [CONTENT[NAMES[2]]]
    assert there.server.connections == 2


def test_a_connection_that_failed_is_not_taken_from_who_has_it_now(site):
    there = site(far, connections=2)
    taken, failed = threading.Event(), threading.Event()
    found = []

    def other() -> None:
        with there.store.get(there.url(NAMES[2])) as response:
            taken.set()
            assert failed.wait(PATIENCE_SECONDS)
            found.append(response.raw.read())

    with pytest.raises(OSError, match="disk"), there.store.letting_go():
        with there.store.get(there.url(NAMES[0])) as response, suppress(OSError):
            there.store.ask_ahead(response, there.url(NAMES[1]))
        thread = threading.Thread(target=other)
        thread.start()
        assert taken.wait(PATIENCE_SECONDS)
        raise OSError("the disk is full")
    failed.set()
    thread.join()
    assert found == [CONTENT[NAMES[2]]]


def test_a_server_that_cuts_a_file_when_it_is_asked_for_the_next(site):
    """It closes without having said so, which loses what it had not sent yet; asked in turn it does not."""

    def answers(asked: Asked) -> bytes | Withheld:
        whole = far(asked)
        return Withheld(whole[:-100_000], b"") if asked.connection == 1 else whole

    there = site(lambda asked: b"" if asked.connection == 1 and wants(asked, 1) else answers(asked))
    assert there.fetch_all() == list(CONTENT.values())
    assert len(there.pauses) == 1
    assert there.store.far_seconds == 0
    assert [asked.connection for asked in there.server.asked] == [1, 1, 2, 2, 2]


def test_a_server_that_refuses_what_it_was_asked_ahead(site):
    def answers(asked: Asked) -> bytes:
        early = asked.connection == 1 and wants(asked, 1) and not refused
        refused.extend([asked] * early)
        return answer("400 Bad Request") if early else far(asked)

    refused: list[Asked] = []
    there = site(answers)
    assert there.fetch_all() == list(CONTENT.values())
    assert len(refused) == 1
    assert there.pauses == []
    assert there.store.far_seconds == 0


def test_a_file_that_is_not_there_says_nothing_about_asking_ahead(site):
    there = site(lambda asked: (far(asked), answer("404 Not Found"))[wants(asked, 1)])
    found = there.fetch_all(or_none=(ContentMismatch,))
    assert found == [CONTENT[NAMES[0]], None, CONTENT[NAMES[2]]]
    assert there.store.far_seconds > 0


def test_a_file_without_md5_never_ends_with_the_start_of_the_next(site):
    """One that is too short, on a connection that stays."""

    def answers(asked: Asked) -> bytes:
        whole = far(asked)
        return whole[:-1000] if wants(asked, 0) else whole

    there = site(answers, timeout=0.5)
    turns = [there.connections.submit(there.fetch, name, False, asks=there.url(name)) for name in NAMES[:2]]
    with pytest.raises((ContentMismatch, ServerUnavailable)):
        turns[0].result(PATIENCE_SECONDS)
    assert turns[1].result(PATIENCE_SECONDS) == CONTENT[NAMES[1]]


def test_a_server_that_ends_the_connection_is_asked_nothing_ahead(site):
    there = site(lambda asked: answer(body=(sleep(FAR_SECONDS), content_of(asked))[1], Connection="close"))
    assert there.fetch_all() == list(CONTENT.values())
    assert there.server.connections == len(there.server.asked) == len(NAMES)
    assert there.pauses == []


BAD: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "none": lambda whole: b"",
    "rubbish": lambda whole: b"HTTP/1.1 ???\r\n\r\n",
    "503": lambda whole: answer("503 Service Unavailable"),
    "ends": lambda whole: whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1),
    "too long": lambda whole: whole + answer(body=b"an answer to nothing"),
    "another's": lambda whole: answer(body=random.Random(1).randbytes(700_000)),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(st.sampled_from([None, None, *BAD]), max_size=9), connections=st.integers(1, 3))
def test_whatever_comes_each_file_is_the_listed_one_or_fails(script, connections, tmp_path, monkeypatch):
    monkeypatch.setattr(DataStore, "far_seconds", 10.0)
    lock = threading.Lock()
    together = threading.Barrier(connections)

    def answers(asked: Asked) -> bytes:
        with lock:
            bad = script.pop() if script else None
        whole = answer(body=content_of(asked))
        return BAD[bad](whole) if bad else whole

    def use_one() -> bytes:
        with there.store.get(there.url(NAMES[0])) as response:
            together.wait(PATIENCE_SECONDS)
            return response.raw.read()

    with started(answers, tmp_path, connections) as there:
        there.store.patience = Patience(attempts=2, sleep=lambda _: None)
        found = there.fetch_all(or_none=(ContentMismatch, ServerUnavailable))
        assert all(content in {None, CONTENT[name]} for name, content in zip(NAMES, found, strict=True))
        script.clear()
        turns = [there.connections.submit(use_one) for _ in range(connections)]
        assert [turn.result(PATIENCE_SECONDS) for turn in turns] == [CONTENT[NAMES[0]]] * connections
