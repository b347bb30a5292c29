"""The next request goes out before the answer to the one before has ended: what that may never lead to."""

import hashlib
import math
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scripted_server import Answers, Asked, Scripted, Stalled, Withheld, answer, scripted

from pipeline.datastore import ahead, client, split, transfer
from pipeline.datastore.client import DataStore, Patience
from pipeline.datastore.connections import Ask, Connections
from pipeline.datastore.listing import FileRow
from pipeline.datastore.transfer import Transfer
from pipeline.errors import ContentMismatch, MirrorError, ServerUnavailable

PATIENCE_SECONDS = 60
# From here on the client takes the server for a far one.
FAR_SECONDS = 3 * client.FAR_SECONDS
NAMES = [f"o5 +%7e;{number}.tgz" for number in range(3)]
SMALL_NAMES = [f"o5.{number}.mdc" for number in range(5)]
CONTENT = {name: random.Random(name).randbytes(700_000) for name in NAMES}
SMALL = {name: random.Random(name).randbytes(20_000) for name in SMALL_NAMES}


def name_of(asked: Asked) -> str:
    return unquote(asked.target).rsplit("/", 1)[1]


def wants(asked: Asked, number: int) -> bool:
    return name_of(asked) == NAMES[number]


def content_of(asked: Asked) -> bytes:
    return (CONTENT | SMALL)[name_of(asked)]


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
        self.known = CONTENT | SMALL
        self._folder = folder

    def url(self, name: str) -> str:
        return self.store.file_url("p", "f", name)

    def ask(self, name: str) -> Ask:
        return Ask(self.url(name), len(self.known[name]))

    def fetch(self, name: str, md5: bool = True) -> bytes:
        transfer = self._transfer(name, md5)
        with self.store.letting_go():
            transfer.fetch()
        return transfer.partial.read_bytes()

    def fetch_large(self, name: str) -> bytes:
        transfer = self._transfer(name)
        with self.store.letting_go():
            split.fetch(transfer, self.connections)
        return transfer.partial.read_bytes()

    def _transfer(self, name: str, md5: bool = True) -> Transfer:
        content = self.known[name]
        row = FileRow(name, len(content), hashlib.md5(content).hexdigest() if md5 else None, "tgz", {})
        partial = self._folder / f"{name}.part"
        return Transfer(self.store, self.url(name), row, partial, lambda _: None, self.connections)

    def fetch_all(
        self, names: Sequence[str] = NAMES, or_none: tuple[type[MirrorError], ...] = ()
    ) -> list[bytes | None]:
        """All files, handed in while none is begun; None for one that fails with such an error."""
        with self.held():
            files = [self.connections.submit(self.fetch, name, asks=self.ask(name)) for name in names]
        wait(files)
        return [None if isinstance(file.exception(), or_none) else file.result() for file in files]

    @contextmanager
    def held(self, connections: int | None = None) -> Iterator[None]:
        """What is handed in inside is begun afterwards, when so many connections (all) are let go."""
        opened = threading.Event()
        gates = [
            self.connections.submit(opened.wait, PATIENCE_SECONDS)
            for _ in range(connections or self.connections.count)
        ]
        yield
        opened.set()
        assert all(gate.result(PATIENCE_SECONDS) for gate in gates)

    def get(self, name: str) -> bytes:
        with self.store.get(self.url(name)) as response:
            return response.raw.read()

    def get_and_ask(self, name: str, *following: str) -> bytes:
        with self.store.get(self.url(name)) as response:
            assert self.store.can_ask_ahead(response)
            self.store.ask_ahead(response, [self.url(name) for name in following])
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


@pytest.fixture(autouse=True)
def early(monkeypatch) -> None:
    """The next request goes out with the first bytes, however slowly they come on this machine."""
    monkeypatch.setattr(transfer, "EARLY_ROUND_TRIPS", 1e6)


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


def test_small_files_are_asked_for_together(site):
    """All of them are with the server before the first has ended, and the first is small itself."""

    def answers(asked: Asked) -> bytes | Withheld:
        whole = far(asked)
        first = name_of(asked) == SMALL_NAMES[0]
        return Withheld(whole[:1000], whole[1000:], requests=4) if first else whole

    there = site(answers)
    there.get(NAMES[0])  # only then it is known how far away the server is
    assert there.fetch_all(SMALL_NAMES) == list(SMALL.values())
    assert [name_of(asked) for asked in there.server.asked] == [NAMES[0], *SMALL_NAMES]
    assert there.server.connections == 1
    assert there.pauses == []


@pytest.mark.parametrize(
    ("kind", "host", "port"),
    [
        (ahead._Connection, "example.org", 80),
        (ahead._Connection, "example.org", 8080),
        (ahead._SecureConnection, "example.org", 443),
        (ahead._SecureConnection, "example.org", 80),
        (ahead._Connection, "::1", 8080),
    ],
)
def test_the_same_is_sent_ahead_as_in_turn(kind, host, port, monkeypatch):
    sent: list[bytes] = []
    monkeypatch.setattr(HTTPConnection, "send", lambda _, data: sent.append(bytes(data)))
    address, fields = "/ds/p/f%20g/a.tgz", {"Range": "bytes=0-9", "User-Agent": "ipp-mirror"}
    connection = kind(host, port)
    connection.request("GET", address, headers=fields, preload_content=False, decode_content=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answering = connection.response_class(ours)
        connection.send_ahead(address, fields)
        connection.close()
        answering.close()
    in_turn, early = sent
    assert early == in_turn
    assert in_turn.startswith(b"GET /ds/p/f%20g/a.tgz HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "size", [1, 130_000, 131_072, 262_143, 262_144, 262_145, 500_000, 524_288, 1_500_000]
)
def test_whatever_its_size_the_next_is_asked_for_before_the_last_byte_is_here(size, site, monkeypatch):
    monkeypatch.setattr(DataStore, "far_seconds", 0.1)
    monkeypatch.setattr(transfer, "EARLY_ROUND_TRIPS", 0)

    def answers(asked: Asked) -> bytes | Withheld:
        whole = answer(body=b"x" * size)
        return whole if wants(asked, 2) else Withheld(whole[:-1], whole[-1:])

    there = site(answers)
    there.known |= dict.fromkeys(NAMES, b"x" * size)
    assert there.fetch_all() == [b"x" * size] * 3
    assert there.server.connections == 1
    assert there.pauses == []


def test_what_is_large_enough_to_fill_the_line_has_only_one_other_behind_it(site, monkeypatch):
    monkeypatch.setattr(transfer, "EARLY_ROUND_TRIPS", 0)
    found = []

    def answers(asked: Asked) -> bytes:
        found.append(there.connections.files_wait)
        return far(asked)

    there = site(answers)
    there.get(NAMES[0])
    found.clear()
    assert there.fetch_all() == list(CONTENT.values())
    # When the second is asked for, ahead of its turn, the third is nobody's yet.
    assert found == [True, True, False]


def test_no_more_than_some_requests_are_ahead(site):
    there = site(far)
    with there.store.get(there.url(NAMES[0])) as response, there.store.letting_go():
        connection = response.raw.connection
        there.store.ask_ahead(response, [there.url(NAMES[1])] * (ahead.MOST_AHEAD + 3))
        assert connection.requests_ahead == ahead.MOST_AHEAD
        there.store.ask_ahead(response, [there.url(NAMES[1])] * (ahead.MOST_AHEAD + 3))
        assert connection.requests_ahead == ahead.MOST_AHEAD
        assert response.raw.read() == CONTENT[NAMES[0]]
    for _ in range(ahead.MOST_AHEAD):
        assert there.get(NAMES[1]) == CONTENT[NAMES[1]]
    assert there.server.connections == 1


@pytest.mark.parametrize("lost", range(4))
def test_what_is_lost_with_a_connection_is_asked_for_again(lost, site):
    """A server that hangs up when it is to answer the one or the other of the requests that it has."""
    order = [NAMES[0], *SMALL_NAMES[:3]]

    def answers(asked: Asked) -> bytes | Withheld:
        whole = far(asked)
        if asked.connection > 1:
            return whole
        if name_of(asked) == NAMES[0]:
            return Withheld(whole[:-100_000], whole[-100_000:] if lost else b"", requests=3)
        return b"" if name_of(asked) == order[lost] else whole

    there = site(answers)
    assert there.fetch_all(order) == [(CONTENT | SMALL)[name] for name in order]
    assert there.store.far_seconds == 0
    assert len(there.pauses) == (lost == 0)  # the file that was cut is a failure, what was not begun is none
    again = [name_of(asked) for asked in there.server.asked if asked.connection > 1]
    assert again == order[lost:]


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
    """It is asked again on a new connection, which is no failure; for a while it is asked nothing ahead."""
    there = site(lambda asked: b"" if asked.connection == 1 and wants(asked, 1) else far(asked))
    assert there.get_and_ask(NAMES[0], NAMES[1]) == CONTENT[NAMES[0]]
    assert there.get(NAMES[1]) == CONTENT[NAMES[1]]
    assert there.pauses == []
    assert [asked.connection for asked in there.server.asked] == [1, 1, 2]
    assert there.store.far_seconds == 0


def test_a_server_that_hung_up_is_asked_ahead_again_later(site, monkeypatch):
    """It may have been the line."""
    monkeypatch.setattr(client, "NOTHING_AHEAD_SECONDS", 0)
    there = site(lambda asked: b"" if asked.connection == 1 and wants(asked, 1) else far(asked))
    assert there.get_and_ask(NAMES[0], NAMES[1]) == CONTENT[NAMES[0]]
    assert there.get(NAMES[1]) == CONTENT[NAMES[1]]
    monkeypatch.setattr(client, "NOTHING_AHEAD_SECONDS", PATIENCE_SECONDS)
    assert there.fetch_all() == list(CONTENT.values())
    assert [asked.connection for asked in there.server.asked] == [1, 1, 2, 2, 2, 2]
    assert there.store.far_seconds > 0


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
    there = site(lambda asked: Stalled(far(asked), lambda: sleep(0.5)) if wants(asked, 1) else far(asked))
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


def test_who_waits_for_a_connection_gets_it_before_all_files_are_here(site, monkeypatch):
    """Files of which each is asked for during the one before would keep it to the end."""
    monkeypatch.setattr(client, "KEPT_SECONDS", 0)
    names = [f"{number}.mdc" for number in range(6 * ahead.MOST_AHEAD)]
    small = {name: name.encode() * 1000 for name in names}
    waits = threading.Event()

    def answers(asked: Asked) -> bytes:
        if name_of(asked) == names[ahead.MOST_AHEAD]:
            other.start()
            until = monotonic() + PATIENCE_SECONDS
            while not there.store._permits.are_wanted and monotonic() < until:
                sleep(0.001)
            waits.set()
        sleep(FAR_SECONDS)
        return answer(body=there.known[name_of(asked)])

    there = site(answers)
    there.known |= small
    there.get(NAMES[0])
    other = threading.Thread(target=there.get, args=(NAMES[1],))
    assert there.fetch_all(names) == list(small.values())
    assert waits.is_set()
    other.join()
    order = [name_of(asked) for asked in there.server.asked]
    assert order.index(NAMES[1]) < 5 * ahead.MOST_AHEAD


def test_who_waits_for_a_connection_gets_it_before_a_large_file_is_here(site, monkeypatch):
    """Each piece of which is asked for during the one before."""
    monkeypatch.setattr(client, "KEPT_SECONDS", 0)
    monkeypatch.setattr(split, "_MOST_AHEAD_BYTES", 1 << 20)
    monkeypatch.setattr(DataStore, "far_seconds", 10.0)
    large = random.Random(3).randbytes(24 << 20)
    once = threading.Lock()

    def answers(asked: Asked) -> bytes:
        if "range" not in asked.fields:
            return answer(body=CONTENT[NAMES[0]])
        first, last = map(int, asked.fields["range"].removeprefix("bytes=").split("-"))
        if first >= 4 << 20 and once.acquire(blocking=False):  # both connections may come here together
            other.start()
            until = monotonic() + PATIENCE_SECONDS
            while not there.store._permits.are_wanted and monotonic() < until:
                sleep(0.001)
        where = f"bytes {first}-{last}/{len(large)}"
        return answer("206 Partial Content", large[first : last + 1], ETag='"1"', Content_Range=where)

    there = site(answers, connections=2)
    there.known["large.tgz"] = large
    other = threading.Thread(target=there.get, args=(NAMES[0],))
    assert there.connections.submit(there.fetch_large, "large.tgz").result(PATIENCE_SECONDS) == large
    other.join()
    ranges = ["range" in asked.fields for asked in there.server.asked]
    assert len(ranges) >= 24
    assert ranges.index(False) < 16


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
    turns = [there.connections.submit(there.fetch, name, asks=there.ask(name)) for name in NAMES[:2]]
    assert turns[0].result(PATIENCE_SECONDS) == CONTENT[NAMES[0]]
    assert fetched == [CONTENT[NAMES[1]]]
    assert gate.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("ends", [False, True], ids=["hangs up", "ends the connection"])
def test_what_was_asked_for_in_vain_is_for_any_connection_again(ends, site):
    """A server that hangs up on the first of those behind a file, or answers it last; and is slow with it."""
    order = [NAMES[0], *SMALL_NAMES[:3]]
    others = threading.Event()

    def answers(asked: Asked) -> bytes | Withheld | Stalled:
        whole = far(asked)
        if name_of(asked) == NAMES[0]:
            return Withheld(whole[:-100_000], whole[-100_000:], requests=3)
        if name_of(asked) == SMALL_NAMES[0]:
            if ends:
                return Stalled(BAD["ends"](whole, asked), lambda: others.wait(PATIENCE_SECONDS))
            if asked.connection == 1:
                return b""
            others.wait(PATIENCE_SECONDS)
        elif name_of(asked) == SMALL_NAMES[2]:
            others.set()
        return whole

    there = site(answers, connections=2)
    busy = threading.Event()
    gate = there.connections.submit(busy.wait, PATIENCE_SECONDS)
    with there.held(connections=1):
        files = [there.connections.submit(there.fetch, name, asks=there.ask(name)) for name in order]
    assert files[0].result(PATIENCE_SECONDS) == CONTENT[NAMES[0]]
    busy.set()
    assert gate.result(PATIENCE_SECONDS)
    assert [file.result(PATIENCE_SECONDS) for file in files[1:]] == [SMALL[name] for name in order[1:]]
    assert there.pauses == []


def test_a_large_file_that_comes_whole_and_damaged_holds_up_nothing_behind_it(site, monkeypatch):
    monkeypatch.setattr(split, "WORTH_SPLITTING_BYTES", 100_000)
    monkeypatch.setattr(DataStore, "far_seconds", 0.1)
    there = site(damaging_first(times=1), connections=2)
    opened = threading.Event()
    gate = there.connections.submit(opened.wait, PATIENCE_SECONDS)
    fetched = []

    def pause(_: float) -> None:
        opened.set()
        fetched.extend(file.result(PATIENCE_SECONDS) for file in files)

    there.store.patience = Patience(attempts=2, sleep=pause)
    large = there.connections.submit(there.fetch_large, NAMES[0])
    files = [there.connections.submit(there.fetch, name, asks=there.ask(name)) for name in SMALL_NAMES[:2]]
    assert large.result(PATIENCE_SECONDS) == CONTENT[NAMES[0]]
    assert fetched == [SMALL[name] for name in SMALL_NAMES[:2]]
    assert gate.result(PATIENCE_SECONDS)


def test_a_server_that_redirects_is_asked_for_little_in_vain(site):
    """What was asked for behind a redirect is lost, as the connection goes on with where it leads."""
    names = [f"{number}.mdc" for number in range(50)]
    small = {name: name.encode() * 100 for name in names}

    def answers(asked: Asked) -> bytes:
        sleep(FAR_SECONDS)
        if asked.target.startswith("/ds/p/"):
            return answer("302 Found", Location=asked.target.replace("/ds/p/", "/ds/moved/"))
        return answer(body=small[name_of(asked)])

    there = site(answers)
    there.known |= small
    assert there.fetch_all(names) == list(small.values())
    assert there.store.far_seconds == 0
    assert len(there.server.asked) <= 2 * len(names) + ahead.MOST_AHEAD
    assert there.server.connections <= 3
    assert there.pauses == []


def test_a_redirect_to_https_leaves_no_second_connection_in_use(site, request, monkeypatch):
    """What was asked for behind the redirect is hung up on before its target is asked."""
    certificate = request.getfixturevalue("certificate")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    order = [NAMES[0], *SMALL_NAMES[:3]]
    open_beside: list[int] = []

    def moved(asked: Asked) -> bytes:
        if not open_beside:
            until = monotonic() + PATIENCE_SECONDS
            while there.server.open and monotonic() < until:
                sleep(0.001)
            open_beside.append(there.server.open)
        return answer(body=SMALL[name_of(asked)])

    def answers(asked: Asked) -> bytes | Withheld:
        whole = far(asked)
        if name_of(asked) == NAMES[0]:
            return Withheld(whole[:-100_000], whole[-100_000:], requests=3)
        if name_of(asked) == SMALL_NAMES[0]:
            return answer("302 Found", Location=secure.url + asked.target.removeprefix("/ds"))
        return whole

    with scripted(moved, tls=tls) as secure:
        there = site(answers)
        assert there.fetch_all(order) == [there.known[name] for name in order]
        assert open_beside == [0]
        assert there.pauses == []
        # What comes next is not there but here.
        with there.store.get(there.url(SMALL_NAMES[0])) as response:
            assert not there.store.can_ask_ahead(response)


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
            there.store.ask_ahead(response, [there.url(NAMES[1])])
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
    turns = [there.connections.submit(there.fetch, name, False, asks=there.ask(name)) for name in NAMES[:2]]
    with pytest.raises((ContentMismatch, ServerUnavailable)):
        turns[0].result(PATIENCE_SECONDS)
    assert turns[1].result(PATIENCE_SECONDS) == CONTENT[NAMES[1]]


def test_nothing_is_asked_behind_a_file_without_md5(site):
    """Also when it was asked for ahead itself."""
    unlisted, last = SMALL_NAMES[:2]

    def answers(asked: Asked) -> bytes | Withheld:
        whole = far(asked)
        if name_of(asked) == NAMES[0]:
            return Withheld(whole[:-100_000], whole[-100_000:])
        return whole[:-1000] if name_of(asked) == unlisted else whole

    there = site(answers, timeout=0.5)
    with there.held():
        turns = [
            there.connections.submit(there.fetch, NAMES[0], asks=there.ask(NAMES[0])),
            there.connections.submit(there.fetch, unlisted, False, asks=Ask(there.url(unlisted), math.inf)),
            there.connections.submit(there.fetch, last, asks=there.ask(last)),
        ]
    assert turns[0].result(PATIENCE_SECONDS) == CONTENT[NAMES[0]]
    with pytest.raises((ContentMismatch, ServerUnavailable)):
        turns[1].result(PATIENCE_SECONDS)
    assert turns[2].result(PATIENCE_SECONDS) == SMALL[last]


def test_a_server_that_ends_the_connection_is_asked_nothing_ahead(site):
    there = site(lambda asked: answer(body=(sleep(FAR_SECONDS), content_of(asked))[1], Connection="close"))
    assert there.fetch_all() == list(CONTENT.values())
    assert there.server.connections == len(there.server.asked) == len(NAMES)
    assert there.pauses == []


BAD: dict[str, Callable[[bytes, Asked], bytes]] = {
    "flipped": lambda whole, _: whole[:-1] + bytes([whole[-1] ^ 1]),
    "none": lambda whole, _: b"",
    "rubbish": lambda whole, _: b"HTTP/1.1 ???\r\n\r\n",
    "404": lambda whole, _: answer("404 Not Found"),
    "503": lambda whole, _: answer("503 Service Unavailable"),
    "ends": lambda whole, _: whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1),
    "too long": lambda whole, _: whole + answer(body=b"an answer to nothing"),
    "too short": lambda whole, _: whole[:-10],
    "moved": lambda _, asked: answer("302 Found", Location=asked.target),
    "another's": lambda whole, _: answer(body=random.Random(1).randbytes(len(whole))),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(st.sampled_from([None, None, *BAD]), max_size=15),
    names=st.permutations([*NAMES, *SMALL_NAMES]),
    connections=st.integers(1, 3),
)
def test_whatever_comes_each_file_is_the_listed_one_or_fails(
    script, names, connections, tmp_path, monkeypatch
):
    monkeypatch.setattr(DataStore, "far_seconds", 10.0)
    lock = threading.Lock()
    together = threading.Barrier(connections)

    def answers(asked: Asked) -> bytes:
        with lock:
            bad = script.pop() if script else None
        whole = answer(body=content_of(asked))
        return BAD[bad](whole, asked) if bad else whole

    def use_one() -> bytes:
        with there.store.get(there.url(NAMES[0])) as response:
            together.wait(PATIENCE_SECONDS)
            return response.raw.read()

    # Nothing else ends an answer that is too short, on a connection that is kept.
    with started(answers, tmp_path, connections, timeout=0.3) as there:
        there.store.patience = Patience(attempts=2, sleep=lambda _: None)
        found = there.fetch_all(names, or_none=(ContentMismatch, ServerUnavailable))
        listed = [(CONTENT | SMALL)[name] for name in names]
        assert all(content in {None, whole} for content, whole in zip(found, listed, strict=True))
        script.clear()
        there.store.timeout = PATIENCE_SECONDS
        turns = [there.connections.submit(use_one) for _ in range(connections)]
        assert [turn.result(PATIENCE_SECONDS) for turn in turns] == [CONTENT[NAMES[0]]] * connections
