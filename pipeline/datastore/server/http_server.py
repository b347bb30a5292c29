"""HTTP server that runs the application of a Data Store.

``run`` serves until SIGTERM or SIGINT, ``serve`` in a thread of this process.
"""

import socket
import threading
from types import FrameType
from typing import Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.datastore.server.app import DataStoreApp


class RunningServer:
    """Application served by a thread of this process until the end of a ``with`` block.

    A ``port`` of 0 is any free one; ``url`` has the one that was taken. ``protocol`` handles the connections.
    """

    def __init__(
        self,
        app: DataStoreApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        protocol: type[HttpToolsProtocol] = HttpToolsProtocol,
    ) -> None:
        self._app = app
        self._address = (host, port)
        self._protocol = protocol
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
        listener = listen(*self._address, backlog=self._app.limits.backlog)
        self._address = listener.getsockname()[:2]
        self._server = _HttpServer(self._app, self._protocol)
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
    protocol: type[HttpToolsProtocol] = HttpToolsProtocol,
) -> None:
    """Serve in this thread until SIGTERM or SIGINT; prints the URL first.

    Raises OSError when the address cannot be listened on.
    """
    listener = listen(host, port, backlog=app.limits.backlog)
    print(f"Serving at {_url(listener.getsockname()[:2], app)}", flush=True)
    _HttpServer(app, protocol).run([listener])


def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """Return a listening socket. Raises OSError when the address is taken or not of this machine."""
    listener = socket.create_server((host, port), backlog=backlog)
    # Connections inherit the option. Without it a small response, head and body, waits 40 ms for the
    # client's delayed acknowledgement; asyncio sets it only on sockets with an explicit protocol number.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _HttpServer(uvicorn.Server):
    """HTTP server that stops at once: it aborts all connections, and does not raise the signal again."""

    def __init__(self, app: DataStoreApp, protocol: type[HttpToolsProtocol]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=app.limits.keep_alive_seconds,
                timeout_graceful_shutdown=app.limits.shutdown_seconds,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _url(address: tuple[str, int], app: DataStoreApp) -> str:
    return f"http://{address[0]}:{address[1]}{app.prefix}"
