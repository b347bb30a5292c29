"""A relay on loopback that makes a near server a far one: delay, a window per connection, one line for all.

The model is a line of ``rate`` bytes per second towards the client, with half a round trip of delay each
way, and senders that never have more than ``window`` bytes out that were not acknowledged. One connection
so carries at most ``window`` per ``round_trip``, all together at most ``rate``. Setting up a
connection costs a round trip before the first request leaves. Slow start and losses are not modelled:
everything that opens new connections would look worse with them.

``python -m bench.relay --to PORT`` runs one until SIGTERM; ``relayed`` runs one in a thread, for tests.
"""

import argparse
import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

HOST = "127.0.0.1"
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Link:
    """``round_trip`` in seconds, ``window`` in bytes, ``rate`` in bytes per second."""

    round_trip: float = 0.12
    window: int = 1 << 20
    rate: float = 100e6

    @property
    def connection_rate(self) -> float:
        """What one connection carries at most, in bytes per second."""
        return min(self.rate, self.window / self.round_trip)


class Line:
    """What all connections share: bytes leave one after another. Used by one event loop."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def departure(self, count: int, now: float) -> float:
        """When ``count`` bytes that are here ``now`` have left."""
        self._free_at = max(self._free_at, now) + count / self._rate
        return self._free_at


class Window:
    """The bytes of one connection that are out and not acknowledged. Used by one event loop."""

    def __init__(self, size: int) -> None:
        self._room = size
        self._changed = asyncio.Event()

    async def room(self) -> int:
        """How many bytes may be sent; waits until there are some."""
        while self._room <= 0:
            self._changed.clear()
            await self._changed.wait()
        return self._room

    def send(self, count: int) -> None:
        """``count`` bytes are out."""
        self._room -= count

    def acknowledge(self, count: int) -> None:
        """``count`` bytes have arrived, and their sender knows."""
        self._room += count
        self._changed.set()


class Relay:
    """Relays from a port of its own to another port of 127.0.0.1."""

    def __init__(self, to_port: int, link: Link) -> None:
        self._to_port = to_port
        self._link = link
        self._line = Line(link.rate)
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> int:
        """Begin to listen; the port."""
        self._server = await asyncio.start_server(
            self._connection, HOST, port, limit=_CHUNK_BYTES, backlog=256
        )
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.current_task())
        set_up = asyncio.get_running_loop().time() + self._link.round_trip
        try:
            server, to_server = await asyncio.open_connection(HOST, self._to_port, limit=_CHUNK_BYTES)
            with contextlib.closing(to_server):
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._carry(server, to_client, self._line))
                    pumps.create_task(self._carry(client, to_server, None, not_before=set_up))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            to_client.close()
            self._connections.discard(asyncio.current_task())

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: Line | None,
        not_before: float = 0.0,
    ) -> None:
        """Carry one direction of a connection to its end: limited by ``line``, or only late without one."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        window = Window(self._link.window)
        now = asyncio.get_running_loop().time
        delivery = asyncio.create_task(self._deliver(under_way, writer, window))
        try:
            while data := await reader.read(min(_CHUNK_BYTES, await window.room())):
                window.send(len(data))
                sent = max(now(), not_before)
                left = line.departure(len(data), sent) if line else sent
                under_way.put_nowait((left + self._link.round_trip / 2, data))
            under_way.put_nowait((now() + self._link.round_trip / 2, b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, window: Window
    ) -> None:
        """Hand over what has arrived, up to the empty chunk that stands for the end."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await under_way.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            loop.call_later(self._link.round_trip / 2, window.acknowledge, len(data))


@contextlib.contextmanager
def relayed(to_port: int, link: Link) -> Iterator[int]:
    """A relay in a thread of this process; gives its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relay")
    thread.start()
    relay = Relay(to_port, link)
    try:
        yield asyncio.run_coroutine_threadsafe(relay.start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(relay.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(to_port: int, port: int, link: Link) -> None:
    relay = Relay(to_port, link)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print(f"Relaying at http://{HOST}:{await relay.start(port)}", flush=True)
    await stopped.wait()
    await relay.stop()


def main() -> None:
    """Relay until SIGTERM or SIGINT."""
    near = Link()
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description="make a near server a far one")
    parser.add_argument("--to", type=int, required=True, metavar="PORT", help="port of the near server")
    parser.add_argument("--port", type=int, default=0, help="0: a free one (default)")
    parser.add_argument("--round-trip", type=float, default=near.round_trip, metavar="SECONDS")
    parser.add_argument("--window", type=int, default=near.window, metavar="BYTES")
    parser.add_argument("--rate", type=float, default=near.rate, metavar="BYTES_PER_SECOND")
    asked = parser.parse_args()
    asyncio.run(_serve(asked.to, asked.port, Link(asked.round_trip, asked.window, asked.rate)))


if __name__ == "__main__":
    main()
