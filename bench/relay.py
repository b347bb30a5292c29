"""Relay on loopback that emulates a distant server: delay, a window per connection, one line for all.

The model is a line of ``rate`` bytes per second towards the client, with half a round trip of delay each way,
and senders with at most ``window`` unacknowledged bytes. One connection carries at most ``window`` per
``round_trip``, all connections together at most ``rate``. Setting up a connection takes one round trip before
the first request is sent. Slow start and losses are not modelled; with them, programs that open many new
connections would be slower.

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
    """Emulated link: ``round_trip`` in seconds, ``window`` in bytes, ``rate`` in bytes per second."""

    round_trip: float = 0.12
    window: int = 1 << 20
    rate: float = 100e6

    @property
    def connection_rate(self) -> float:
        """Greatest rate of one connection, in bytes per second."""
        return min(self.rate, self.window / self.round_trip)


class Line:
    """Line that all connections share. For use by one event loop."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def departure(self, count: int, now: float) -> float:
        """Return the time at which ``count`` bytes that arrive ``now`` have been sent."""
        self._free_at = max(self._free_at, now) + count / self._rate
        return self._free_at


class Window:
    """Window of one connection, for unacknowledged bytes. For use by one event loop."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = asyncio.Event()

    async def free(self) -> int:
        """Return the number of bytes that may be sent; wait while there are none."""
        while self._free <= 0:
            self._changed.clear()
            await self._changed.wait()
        return self._free

    def send(self, count: int) -> None:
        """Count bytes as sent."""
        self._free -= count

    def acknowledge(self, count: int) -> None:
        """Count bytes as acknowledged."""
        self._free += count
        self._changed.set()


class Relay:
    """Relay between a port of 127.0.0.1 and another one."""

    def __init__(self, to_port: int, link: Link) -> None:
        self._to_port = to_port
        self._link = link
        self._line = Line(link.rate)
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> int:
        """Listen on ``port``, 0 for a free one; return the port."""
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
        """Relay one direction of a connection to its end: delayed, and with ``line`` limited in rate."""
        in_flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        window = Window(self._link.window)
        now = asyncio.get_running_loop().time
        delivery = asyncio.create_task(self._deliver(in_flight, writer, window))
        try:
            while data := await reader.read(min(_CHUNK_BYTES, await window.free())):
                window.send(len(data))
                sent = max(now(), not_before)
                left = line.departure(len(data), sent) if line else sent
                in_flight.put_nowait((left + self._link.round_trip / 2, data))
            in_flight.put_nowait((now() + self._link.round_trip / 2, b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(
        self, in_flight: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, window: Window
    ) -> None:
        """Write the chunks that have arrived, until the empty one that stands for the end."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await in_flight.get()
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
    """Run a relay in a thread of this process, and yield its port."""
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
    defaults = Link()
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description="emulate a distant server")
    parser.add_argument("--to", type=int, required=True, metavar="PORT", help="port of the server")
    parser.add_argument("--port", type=int, default=0, help="0: a free one (default)")
    parser.add_argument("--round-trip", type=float, default=defaults.round_trip, metavar="SECONDS")
    parser.add_argument("--window", type=int, default=defaults.window, metavar="BYTES")
    parser.add_argument("--rate", type=float, default=defaults.rate, metavar="BYTES_PER_SECOND")
    options = parser.parse_args()
    asyncio.run(_serve(options.to, options.port, Link(options.round_trip, options.window, options.rate)))


if __name__ == "__main__":
    main()
