"""HTTP server that runs the application of a Data Store.

``run`` serves until SIGTERM or SIGINT, ``serve`` in a thread of this process.
"""

import asyncio
import logging
import resource
import socket
import threading
from types import FrameType
from typing import Self

import uvicorn

from pipeline.datastore.server.app import DataStoreApp, ServerLimits
from pipeline.datastore.server.connection import StoreConnection

_logger = logging.getLogger(__name__)

_OTHER_FILES = 64
"""Files of the process besides connections and what is sent on them: listings being read, the log."""

_ACCEPT_PAUSE_SECONDS = 1.0


class RunningServer:
    """Application served by a thread of this process until the end of a ``with`` block.

    A ``port`` of 0 is any free one; ``url`` has the one that was taken. ``connection`` is the class of the
    connections.
    """

    def __init__(
        self,
        app: DataStoreApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        connection: type[StoreConnection] = StoreConnection,
    ) -> None:
        self._app = app
        self._address = (host, port)
        self._connection = connection
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL of the Data Store, with the prefix and without a slash at the end."""
        return _url(self._address, self._app)

    def start(self) -> None:
        """Serve again after ``stop``, on the same port."""
        listener = listen(*self._address, self._app.limits)
        self._address = listener.getsockname()[:2]
        self._server = _HttpServer(self._app, self._connection)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name=f"serving {self.url}"
        )
        self._thread.start()

    def stop(self) -> None:
        """Abort every connection, whatever is being sent on it, and stop serving."""
        self._server.should_exit = True
        self._thread.join()


def serve(app: DataStoreApp, *, host: str = "127.0.0.1", port: int = 0) -> RunningServer:
    """Serve in a thread of this process; a ``port`` of 0 is any free one."""
    return RunningServer(app, host=host, port=port)


def run(
    app: DataStoreApp,
    *,
    host: str,
    port: int,
    connection: type[StoreConnection] = StoreConnection,
) -> None:
    """Serve in this thread until SIGTERM or SIGINT; prints the URL first.

    Raises OSError when the address cannot be listened on.
    """
    listener = listen(host, port, app.limits)
    print(f"Serving at {_url(listener.getsockname()[:2], app)}", flush=True)
    _HttpServer(app, connection).run([listener])


def listen(host: str, port: int, limits: ServerLimits) -> socket.socket:
    """Return a listening socket. Raises OSError when the address is taken or not of this machine."""
    listener = socket.create_server((host, port), backlog=limits.backlog)
    # Connections inherit the options. Without the first a small response, head and body, waits 40 ms for the
    # client's delayed acknowledgement; asyncio sets it only on sockets with an explicit protocol number.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.stall_seconds * 1000))
    listener.setblocking(False)
    return listener


def most_connections(limits: ServerLimits) -> int:
    """Return how many connections the process can have open, with a file to send on each."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.connections if files < 0 else max(1, min(limits.connections, (files - _OTHER_FILES) // 2))


class _HttpServer(uvicorn.Server):
    """HTTP server with a bounded number of connections.

    It stops at once: it aborts all connections, and does not raise the signal again.
    """

    def __init__(self, app: DataStoreApp, connection: type[StoreConnection]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=connection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=app.limits.keep_alive_seconds,
                timeout_graceful_shutdown=app.limits.shutdown_seconds,
            )
        )
        self._limits = app.limits
        self._connection = connection
        self._free = asyncio.Semaphore(most_connections(app.limits))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in sockets or []]
        self.started = True

    async def _accept(self, listener: socket.socket) -> None:
        """Accept connections while there are fewer than the limit; the others wait in the backlog.

        The server of asyncio accepts all, and at the limit of open files logs a traceback for each attempt.
        """
        loop = asyncio.get_running_loop()
        failed = False
        while True:
            await self._free.acquire()
            try:
                accepted, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(self._connect, accepted)
                failed = False
            except OSError as error:
                self._free.release()
                if not failed:
                    _logger.error("cannot accept connections: %s. Tried again until it works.", error)
                failed = True
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)

    def _connect(self) -> StoreConnection:
        return self._connection(
            self.config, self.server_state, {}, limits=self._limits, on_lost=self._free.release
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for accepting in self._accepting:
            accepting.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _url(address: tuple[str, int], app: DataStoreApp) -> str:
    return f"http://{address[0]}:{address[1]}{app.prefix}"
