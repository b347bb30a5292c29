"""The relay: how far, how wide, how fast; in virtual time, which no other work on the machine can change."""

import asyncio
import contextlib
import hashlib
import selectors
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from bench.relay import HOST, Line, Link, Relay, relayed

FAST = 1e12
WIDE = 1 << 30
# Real seconds in which loopback carries whatever was sent, before virtual time goes on.
SETTLED_SECONDS = 0.002
T = TypeVar("T")


class VirtualTime(asyncio.SelectorEventLoop):
    """Event loop whose clock jumps to the next deadline when no socket is ready."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        settled = None if timeout is None else min(timeout, SETTLED_SECONDS)
        ready = super().select(settled)
        if not ready and timeout:
            self._loop.now += timeout
        return ready


def content(size: int) -> bytes:
    return (hashlib.sha256(b"%d" % size).digest() * (size // 32 + 1))[:size]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request ``N\\n`` with N bytes, as often as asked on one connection."""
    with contextlib.closing(writer):
        while request := await reader.readline():
            writer.write(content(int(request)))
            await writer.drain()


@contextlib.asynccontextmanager
async def behind(link: Link) -> AsyncIterator[int]:
    """A server behind a relay: the port of the relay."""
    server = await asyncio.start_server(answer, HOST, 0)
    relay = Relay(server.sockets[0].getsockname()[1], link)
    yield await relay.start()
    await relay.stop()
    server.close()


async def fetch(port: int, *sizes: int) -> list[float]:
    """The seconds that each request takes on one connection; the first with its set-up."""
    times = []
    now = asyncio.get_running_loop().time
    began = now()
    reader, writer = await asyncio.open_connection(HOST, port)
    with contextlib.closing(writer):
        for size in sizes:
            writer.write(b"%d\n" % size)
            assert await reader.readexactly(size) == content(size)
            times.append(now() - began)
            began = now()
    return times


def in_virtual_time(work: Callable[[], Awaitable[T]]) -> T:
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(work())


def times(link: Link, *sizes: int) -> list[float]:
    """The seconds that each request takes on one connection."""

    async def work() -> list[float]:
        async with behind(link) as port:
            return await fetch(port, *sizes)

    return in_virtual_time(work)


def seconds(link: Link, size: int, connections: int = 1) -> float:
    """From the first request until all connections have their answer, without the set-up."""

    async def work() -> float:
        async with behind(link) as port:
            each = await asyncio.gather(*(fetch(port, 1, size) for _ in range(connections)))
        return max(last for _, last in each)

    return in_virtual_time(work)


def test_a_request_takes_a_round_trip_and_a_new_connection_one_more():
    link = Link(round_trip=0.2, window=WIDE, rate=FAST)
    assert times(link, 10, 10, 10) == pytest.approx([0.4, 0.2, 0.2])


def test_half_the_distance_takes_half_the_time():
    assert times(Link(round_trip=0.1, window=WIDE, rate=FAST), 10, 10) == pytest.approx([0.2, 0.1])


def test_one_connection_carries_a_window_each_round_trip():
    narrow = Link(round_trip=0.1, window=100_000, rate=FAST)
    # The first window needs no acknowledgement: ten windows take nine round trips and the request's own.
    assert seconds(narrow, 1_000_000) == pytest.approx(1.0)
    assert seconds(Link(round_trip=0.1, window=200_000, rate=FAST), 1_000_000) == pytest.approx(0.5)


@pytest.mark.parametrize("connections", [1, 4])
def test_the_line_limits_all_connections_together(connections):
    link = Link(round_trip=0.02, window=WIDE, rate=4e6)
    took = seconds(link, 500_000, connections)
    assert took == pytest.approx(connections * 500_000 / link.rate + link.round_trip, rel=1e-3)


def test_connections_share_no_window():
    link = Link(round_trip=0.1, window=100_000, rate=FAST)
    assert seconds(link, 500_000, connections=4) == pytest.approx(seconds(link, 500_000))


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
