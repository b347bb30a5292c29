"""Simulator: a Data Store with a record of requests and faults on demand, for the demo and the tests.

``simulate`` runs a simulator in a thread, ``python -m pipeline.sample.simulator`` in a process. A request
passes the recorder, the faults that match it, and the application of ``pipeline.datastore.server``.

>>> import tempfile, urllib.request
>>> from pipeline.sample import faults
>>> with tempfile.TemporaryDirectory() as folder:
...     with simulate(Path(folder), faults=[faults.empty_body()]) as server:
...         urllib.request.urlopen(f"{server.url}/index.txt").read()
...         [(request.target, request.status) for request in server.requests]
b''
[('/ds/index.txt', 200)]
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.datastore.server import DataStoreApp, PublishedTree, RunningServer, run
from pipeline.datastore.server.__main__ import build_parser, serve_or_complain
from pipeline.datastore.server.connection import StoreConnection
from pipeline.datastore.server.responses import wait_for_disconnect
from pipeline.sample.faults import NAMED, TRANSPORT, ClientGone, Fault, named


@dataclass
class RecordedRequest:
    """Request to the simulator.

    ``target`` is the path with its query as sent, ``range`` the header field; ``status`` is None until the
    response starts; ``bytes_sent`` counts the bytes of the body handed to the connection.
    """

    method: str
    target: str
    range: str | None
    status: int | None = None
    bytes_sent: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.range or '-'} {self.status or '-'} {self.bytes_sent}"


class Recorder:
    """Record of all requests in the order of arrival, and counts of connections and requests in progress.

    At its end, each request is appended to the file ``log`` as one line.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._log = log
        self.open_connections = 0
        self.in_progress = 0
        self.clear()

    def clear(self) -> None:
        """Remove the recorded requests, and restart all counts and peaks from the open connections."""
        self.requests: list[RecordedRequest] = []
        self.connections_made = 0
        self.peak_connections = self.open_connections
        self.peak_in_progress = self.in_progress

    def add_connection(self) -> None:
        """Count a connection that was made."""
        self.connections_made += 1
        self.open_connections += 1
        self.peak_connections = max(self.peak_connections, self.open_connections)

    def remove_connection(self) -> None:
        """Count a connection that was lost."""
        self.open_connections -= 1

    @contextlib.contextmanager
    def record(self, scope: Scope) -> Iterator[RecordedRequest]:
        """Record a request that is in progress for the length of a ``with`` block."""
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        target = scope["raw_path"].decode("latin-1") + query
        request = RecordedRequest(scope["method"], target, Headers(scope=scope).get("range"))
        self.requests.append(request)
        self.in_progress += 1
        self.peak_in_progress = max(self.peak_in_progress, self.in_progress)
        try:
            yield request
        finally:
            self.in_progress -= 1
            if self._log:
                with open(self._log, "a", encoding="utf-8") as log:
                    log.write(f"{request}\n")


class SimulatorApp(DataStoreApp):
    """Application of a Data Store with a recorder and faults. ``faults`` may be changed at any time.

    Faults apply in their order, the first one to the correct response.
    """

    def __init__(
        self,
        store: Path,
        *,
        hidden: Iterable[str] = (),
        faults: Iterable[Fault] = (),
        request_log: Path | None = None,
    ) -> None:
        super().__init__(PublishedTree(store, hidden))
        self.faults = list(faults)
        self.recorder = Recorder(request_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        with self.recorder.record(scope) as request:
            try:
                await self._with_faults(scope)(scope, receive, _recording(request, scope, send))
            except ClientGone:
                await wait_for_disconnect(receive)

    def _with_faults(self, scope: Scope) -> ASGIApp:
        path = "/".join(self.path_segments(scope) or [])
        matching = [fault for fault in self.faults if fault.matches(path)]
        app: ASGIApp = super().__call__
        for fault in matching:
            app = fault.around(app)
        return app


class Simulator(RunningServer):
    """Simulator served by a thread of this process until the end of a ``with`` block."""

    def __init__(self, app: SimulatorApp) -> None:
        self._simulator = app
        super().__init__(app, connection=_recording_connection(app.recorder))

    @property
    def faults(self) -> list[Fault]:
        """Faults in force; append to the list, or clear it."""
        return self._simulator.faults

    @property
    def requests(self) -> list[RecordedRequest]:
        """Requests since the last ``clear``, oldest first."""
        return self._simulator.recorder.requests

    @property
    def in_progress(self) -> int:
        """Number of requests in progress."""
        return self._simulator.recorder.in_progress

    @property
    def peak_in_progress(self) -> int:
        """Highest number of requests in progress since the last ``clear``."""
        return self._simulator.recorder.peak_in_progress

    @property
    def open_connections(self) -> int:
        """Number of open connections."""
        return self._simulator.recorder.open_connections

    @property
    def connections_made(self) -> int:
        """Number of connections made since the last ``clear``."""
        return self._simulator.recorder.connections_made

    @property
    def peak_connections(self) -> int:
        """Highest number of open connections since the last ``clear``."""
        return self._simulator.recorder.peak_connections

    def clear(self) -> None:
        """Remove the recorded requests, and restart counts and peaks."""
        self._simulator.recorder.clear()


def simulate(
    store: Path,
    *,
    hidden: Iterable[str] = (),
    faults: Iterable[Fault] = (),
    request_log: Path | None = None,
) -> Simulator:
    """Serve a publisher's folder in a thread of this process, on a free port of 127.0.0.1.

    ``hidden`` products are absent from the root listing; a line for each request is appended to
    ``request_log``.
    """
    return Simulator(SimulatorApp(store, hidden=hidden, faults=faults, request_log=request_log))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code."""
    parser = build_parser("pipeline.sample.simulator", "serve a folder as a Data Store with faults")
    parser.add_argument("--request-log", type=Path, metavar="FILE", help="append a line for each request")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[=TARGET]",
        help="add a fault; repeatable; TARGET is listings, files, everything or a pattern as '*/index.txt'; "
        f"NAME is one of {', '.join(NAMED)}",
    )
    options = parser.parse_args(arguments)

    def serve() -> None:
        faults = [named(fault) for fault in options.fault]
        app = SimulatorApp(
            options.store, hidden=options.hidden, faults=faults, request_log=options.request_log
        )
        run(app, host=options.host, port=options.port, connection=_recording_connection(app.recorder))

    return serve_or_complain(options, serve)


def _recording_connection(recorder: Recorder) -> type[StoreConnection]:
    """Return a class of connections that counts them and gives the application their transports."""

    class RecordingConnection(StoreConnection):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            recorder.add_connection()
            app = self.app

            async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
                await app({**scope, "extensions": {TRANSPORT: transport}}, receive, send)

            self.app = with_transport

        def connection_lost(self, exc: Exception | None) -> None:
            recorder.remove_connection()
            super().connection_lost(exc)

    return RecordingConnection


def _recording(request: RecordedRequest, scope: Scope, send: Send) -> Send:
    """Return ``send`` that completes the record, and raises ClientGone once the connection is closed."""
    transport = scope["extensions"][TRANSPORT]

    async def record(message: Message) -> None:
        if transport.is_closing():
            raise ClientGone
        if message["type"] == "http.response.start":
            request.status = message["status"]
        else:
            request.bytes_sent += len(message.get("body", b""))
        await send(message)

    return record


if __name__ == "__main__":
    sys.exit(main())
