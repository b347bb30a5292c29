"""A Data Store: the ASGI application that serves a folder tree, and the server that runs it.

``create_app`` serves a publisher's tree or a mirror; ``serve`` runs an application in a thread, which is what
tests do; ``run`` serves until SIGTERM or SIGINT, which is what ``python -m pipeline.sample.simulator`` does.

How a request is answered, from the outside in: ``Traffic`` writes it down, the faults that match it
misbehave, the listing, page or file is sent.
"""

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import uvicorn
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.datastore.server.pages import Place, page
from pipeline.datastore.server.responses import (
    TRANSPORT,
    ClientGone,
    answer_error,
    answer_file,
    answer_listing,
    answer_page,
    disconnected,
)
from pipeline.datastore.server.tree import MirrorStore, Store
from pipeline.sample.faults import Fault

_KEEP_ALIVE_SECONDS = 15
_DRAIN_SECONDS = 1


@dataclass
class RecordedRequest:
    """One request: ``target`` is the path with its query as sent, ``status`` None until the answer begins.

    ``bytes_sent`` counts the body handed to the connection.
    """

    method: str
    target: str
    range: str | None
    status: int | None = None
    bytes_sent: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.range or '-'} {self.status or '-'} {self.bytes_sent}"


class Traffic:
    """What came in: every request in the order of its arrival, and how much at once at most."""

    def __init__(self, log: Path | None = None) -> None:
        self._log = log
        self.transports: set[asyncio.Transport] = set()
        self.in_progress = 0
        self.clear()

    def clear(self) -> None:
        """Forget the requests; the peaks start again from what is open now."""
        self.requests: list[RecordedRequest] = []
        self.peak_connections = len(self.transports)
        self.peak_in_progress = self.in_progress

    def connected(self, transport: asyncio.Transport) -> None:
        """Count a connection that was made."""
        self.transports.add(transport)
        self.peak_connections = max(self.peak_connections, len(self.transports))

    def disconnected(self, transport: asyncio.Transport) -> None:
        """Count a connection that was lost."""
        self.transports.discard(transport)

    @contextlib.contextmanager
    def request(self, scope: Scope) -> Iterator[RecordedRequest]:
        """The entry of a request that lasts as long as the block; written to the log file at its end."""
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        target = scope["raw_path"].decode("latin-1") + query
        entry = RecordedRequest(scope["method"], target, Headers(scope=scope).get("range"))
        self.requests.append(entry)
        self.in_progress += 1
        self.peak_in_progress = max(self.peak_in_progress, self.in_progress)
        try:
            yield entry
        finally:
            self.in_progress -= 1
            if self._log:
                with open(self._log, "a", encoding="utf-8") as log:
                    log.write(f"{entry}\n")


class DataStore:
    """The ASGI application. ``traffic`` tells what was asked of it; ``faults`` may be changed at any time."""

    def __init__(self, store: Store, prefix: str, faults: Iterable[Fault], traffic: Traffic) -> None:
        self.prefix = prefix
        self.faults = list(faults)
        self.traffic = traffic
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with self.traffic.request(scope) as entry:
            try:
                await self._with_faults(scope)(scope, receive, _recording(entry, scope, send))
            except ClientGone:
                await disconnected(receive)

    def _with_faults(self, scope: Scope) -> ASGIApp:
        path = "/".join(_segments(scope["raw_path"], self.prefix) or [])
        matching = [fault for fault in self.faults if fault.matches(path)]
        return functools.reduce(lambda app, fault: fault.around(app), matching, self._answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        segments = _segments(scope["raw_path"], self.prefix)
        if scope["method"] not in {"GET", "HEAD"}:
            await answer_error(scope, send, HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET, HEAD")])
        elif segments is None:
            await answer_error(scope, send, HTTPStatus.NOT_FOUND)
        elif segments[-1:] == ["index.txt"]:
            await self._answer_listing(scope, send, segments[:-1])
        elif len(segments) == 3:
            await self._answer_file(scope, send, segments)
        else:
            await self._answer_page(scope, send, segments)

    async def _answer_page(self, scope: Scope, send: Send, names: list[str]) -> None:
        last = scope["raw_path"].decode("latin-1").rpartition("/")[2]
        number = QueryParams(scope["query_string"]).get("page", "")
        text = await asyncio.to_thread(self._page, Place(tuple(names), last), number)
        if text is None:
            await answer_error(scope, send, HTTPStatus.NOT_FOUND)
        else:
            await answer_page(scope, send, text)

    def _page(self, place: Place, number: str) -> str | None:
        listing = self._listing(list(place.names), "")
        if listing is None:
            return None
        return page(place, listing, int(number) if number.isdecimal() and len(number) < 10 else 1)

    async def _answer_listing(self, scope: Scope, send: Send, names: list[str]) -> None:
        body = await asyncio.to_thread(self._listing, names, unquote(scope["query_string"].decode("latin-1")))
        if body is None:
            await answer_error(scope, send, HTTPStatus.NOT_FOUND)
        else:
            await answer_listing(scope, send, body)

    def _listing(self, names: list[str], query: str) -> bytes | None:
        match names:
            case []:
                return self._store.root_listing()
            case [product]:
                return self._store.product_listing(product, query or None)
            case [product, fileset]:
                return self._store.fileset_listing(product, fileset)
        return None

    async def _answer_file(self, scope: Scope, send: Send, names: list[str]) -> None:
        try:
            path = self._store.file(*names)
            if path is None:
                await answer_error(scope, send, HTTPStatus.NOT_FOUND)
            else:
                await answer_file(scope, send, path)
        except FileNotFoundError:
            await answer_error(scope, send, HTTPStatus.NOT_FOUND)
        except PermissionError:
            await answer_error(scope, send, HTTPStatus.FORBIDDEN)


def create_app(
    store: Path | None = None,
    *,
    mirror: Path | None = None,
    hidden: Iterable[str] = (),
    prefix: str = "/ds",
    faults: Iterable[Fault] = (),
    request_log: Path | None = None,
) -> DataStore:
    """The application that serves a publisher's tree, or a mirror by its root folder, below ``prefix``.

    ``hidden`` products are absent from the root listing. ``faults`` are applied in their order, the first one
    nearest to the true answer. ``request_log`` gets one line for each request.
    """
    if (store is None) == (mirror is None):
        raise ValueError("expected a store or a mirror to serve, and only one of them")
    tree = Store(store, hidden) if store is not None else MirrorStore(mirror, hidden)
    return DataStore(tree, prefix.rstrip("/"), faults, Traffic(request_log))


class RunningServer:
    """An application being served by a thread; stopped at the end of a ``with`` block."""

    def __init__(self, app: DataStore, host: str, port: int) -> None:
        self.app = app
        self._address = (host, port)
        self.start()

    def __enter__(self) -> "RunningServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL of the Data Store, with its prefix and without a slash at the end."""
        return _url(self._address, self.app)

    @property
    def faults(self) -> list[Fault]:
        """The faults in force; append to the list, or clear it."""
        return self.app.faults

    @property
    def requests(self) -> list[RecordedRequest]:
        """What was asked since the last ``clear``, oldest first."""
        return self.app.traffic.requests

    @property
    def peak_connections(self) -> int:
        """The most connections that were open at once since the last ``clear``."""
        return self.app.traffic.peak_connections

    @property
    def peak_in_progress(self) -> int:
        """The most requests that were being answered at once since the last ``clear``."""
        return self.app.traffic.peak_in_progress

    def clear(self) -> None:
        """Forget what was asked so far."""
        self.app.traffic.clear()

    def start(self) -> None:
        """Serve again after ``stop``, on the same port."""
        listener = _listener(*self._address)
        self._address = listener.getsockname()[:2]
        self._server = _Server(self.app)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name=f"serving {self.url}"
        )
        self._thread.start()

    def stop(self) -> None:
        """Close every connection, whatever is being sent on it, and stop serving."""
        self._server.should_exit = True
        self._thread.join()


def serve(app: DataStore, *, host: str = "127.0.0.1", port: int = 0) -> RunningServer:
    """Serve in a thread of this process; a ``port`` of 0 takes a free one, as ``.url`` tells."""
    return RunningServer(app, host, port)


def run(app: DataStore, *, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve in this thread until SIGTERM or SIGINT, and say where."""
    listener = _listener(host, port)
    print(f"Serving at {_url(listener.getsockname()[:2], app)}", flush=True)
    _Server(app).run([listener])


class _Server(uvicorn.Server):
    """Stops at once, and as if it had been asked politely: the signal is not raised again afterwards.

    Whoever is being sent something loses the connection.
    """

    def __init__(self, app: DataStore) -> None:
        super().__init__(_config(app))
        self._traffic = app.traffic

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for transport in list(self._traffic.transports):
            transport.abort()
        await super().shutdown(sockets)


class _Connection(HttpToolsProtocol):
    """A connection that is counted and whose transport the application can reach."""

    def __init__(self, *args: Any, traffic: Traffic, **named: Any) -> None:
        super().__init__(*args, **named)
        self._traffic = traffic

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._traffic.connected(transport)
        self.app = functools.partial(_with_transport, self.app, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._traffic.disconnected(self.transport)
        super().connection_lost(exc)


async def _with_transport(
    app: ASGIApp, transport: asyncio.Transport, scope: Scope, receive: Receive, send: Send
) -> None:
    scope["extensions"] = {TRANSPORT: transport}
    await app(scope, receive, send)


def _config(app: DataStore) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=functools.partial(_Connection, traffic=app.traffic),
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=1024)
    # Connections inherit it. Without it a small answer, head and body, waits 40 ms for the client's
    # delayed acknowledgement; asyncio sets it only on sockets made with an explicit protocol number.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(address: tuple[str, int], app: DataStore) -> str:
    return f"http://{address[0]}:{address[1]}{app.prefix}"


def _recording(entry: RecordedRequest, scope: Scope, send: Send) -> Send:
    """``send`` that keeps the entry up to date, and raises ClientGone once the connection is closed."""
    transport = scope.get("extensions", {}).get(TRANSPORT)

    async def record(message: Message) -> None:
        if transport is not None and transport.is_closing():
            raise ClientGone
        if message["type"] == "http.response.start":
            entry.status = message["status"]
        else:
            entry.bytes_sent += len(message.get("body", b""))
        await send(message)

    return record


def _segments(raw_path: bytes, prefix: str) -> list[str] | None:
    """The names between the slashes below the prefix, decoded; None for a path that is not below it."""
    path = raw_path.decode("latin-1")
    below = path.removeprefix(prefix)
    if not path.startswith(prefix) or below[:1] not in {"", "/"}:
        return None
    names = [unquote_to_bytes(name).decode("utf-8", "surrogateescape") for name in below.split("/")[1:]]
    return names[:-1] if names[-1:] == [""] and len(names) <= 3 else names
