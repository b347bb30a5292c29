"""The relay: how far, how wide, how fast. Times are compared with each other or bounded from below only."""

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.relay import HOST, Line, Link, relayed

FAST = 1e12
WIDE = 1 << 30


class Sender:
    """A server that answers each request ``N\\n`` with N bytes, as often as asked on one connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests, contextlib.suppress(OSError):
            for request in requests:
                connection.sendall(content(int(request)))


def content(size: int) -> bytes:
    return (hashlib.sha256(b"%d" % size).digest() * (size // 32 + 1))[:size]


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.close()


def fetch(port: int, *sizes: int) -> list[float]:
    """The seconds that each request takes on one connection; the first with its set-up."""
    times = []
    began = time.monotonic()
    with socket.create_connection((HOST, port)) as connection, connection.makefile("rb") as answers:
        for size in sizes:
            connection.sendall(b"%d\n" % size)
            assert answers.read(size) == content(size)
            times.append(time.monotonic() - began)
            began = time.monotonic()
    return times


def seconds(sender: Sender, link: Link, *sizes: int, connections: int = 1) -> float:
    """From the first request until all connections have all their answers, without the set-up."""
    with relayed(sender.port, link) as port, ThreadPoolExecutor(connections) as clients:
        times = list(clients.map(lambda _: fetch(port, 1, *sizes)[1:], range(connections)))
    return max(sum(each) for each in times)


def test_a_request_takes_a_round_trip_and_a_new_connection_one_more(sender: Sender):
    with relayed(sender.port, Link(round_trip=0.2, window=WIDE, rate=FAST)) as port:
        first, second, third = fetch(port, 10, 10, 10)
    assert first >= 0.4
    assert second >= 0.2
    assert third >= 0.2
    assert min(second, third) < 0.75 * first


def test_half_the_distance_takes_half_the_time(sender: Sender):
    far = seconds(sender, Link(round_trip=0.2, window=WIDE, rate=FAST), 10, 10, 10)
    near = seconds(sender, Link(round_trip=0.1, window=WIDE, rate=FAST), 10, 10, 10)
    assert 0.3 < near / far < 0.8


def test_one_connection_carries_a_window_each_round_trip(sender: Sender):
    size = 1_000_000
    narrow = Link(round_trip=0.1, window=100_000, rate=FAST)
    took = seconds(sender, narrow, size)
    carried = size / took / narrow.connection_rate
    # The first window needs no acknowledgement: ten windows take nine round trips and the request's own.
    assert 0.5 < carried < 1.05
    wider = seconds(sender, Link(round_trip=0.1, window=200_000, rate=FAST), size)
    assert 0.4 < wider / took < 0.8


def test_the_line_limits_all_connections_together(sender: Sender):
    link = Link(round_trip=0.02, window=WIDE, rate=4e6)
    size = 500_000
    alone = seconds(sender, link, size)
    together = seconds(sender, link, size, connections=4)
    assert together >= 4 * size / link.rate
    assert 2 < together / alone < 6


def test_connections_share_windows_but_not_one_window(sender: Sender):
    link = Link(round_trip=0.1, window=100_000, rate=FAST)
    alone = seconds(sender, link, 500_000)
    together = seconds(sender, link, 500_000, connections=4)
    assert together / alone < 1.8


def test_bytes_leave_one_after_another():
    line = Line(rate=100.0)
    assert line.departure(50, now=10.0) == pytest.approx(10.5)
    assert line.departure(50, now=10.0) == pytest.approx(11.0)
    assert line.departure(10, now=20.0) == pytest.approx(20.1)


def test_the_end_of_a_connection_arrives_after_its_last_byte():
    with (
        socket.create_server((HOST, 0)) as listener,
        relayed(listener.getsockname()[1], Link(0.05, 1 << 16, FAST)) as port,
        socket.create_connection((HOST, port), timeout=30) as client,
        client.makefile("rb") as answer,
    ):
        server, _ = listener.accept()
        with server:
            server.sendall(content(300_000))
        assert answer.read() == content(300_000)


def test_nothing_behind_the_relay_closes_the_connection():
    with socket.create_server((HOST, 0)) as listener:
        unused = listener.getsockname()[1]
    with relayed(unused, Link(0.01)) as port, socket.create_connection((HOST, port), timeout=30) as client:
        assert client.recv(1) == b""
