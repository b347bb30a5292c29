"""HTTP connection of a server that does not wait for its client without end."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pipeline.datastore.server.app import ServerLimits

_MOST_PIPELINED = 64
_BODY_FIELDS = {b"content-length", b"transfer-encoding"}


class StoreConnection(HttpToolsProtocol):
    """HTTP connection that is closed when a request does not come whole within the limits.

    ``on_lost`` is called when the connection is closed, by either side.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        limits: ServerLimits,
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._limits = limits
        self._on_lost = on_lost
        self._deadline: asyncio.TimerHandle | None = None
        self._received = 0
        self._cycles: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        self._request_is_whole()
        super().connection_lost(exc)
        for cycle in self._cycles:
            # The base class ends the latest request only, which with pipelining is not the one in progress.
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sent; abort the connection when the request is too large."""
        self._await_request()
        self._received += len(data)
        super().data_received(data)
        if self._received > self._limits.request_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request; abort the connection when too many wait for their responses."""
        if len(self.pipeline) > _MOST_PIPELINED:
            self.transport.abort()
        self._await_request()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin the response."""
        super().on_headers_complete()
        if any(name in _BODY_FIELDS for name, _ in self.headers):
            # The rest of a body that is not read must not pass for the next request.
            self.cycle.keep_alive = False
        self._cycles = [*(cycle for cycle in self._cycles if not cycle.response_complete), self.cycle]

    def on_message_complete(self) -> None:
        """End the wait for the request."""
        self._request_is_whole()
        super().on_message_complete()

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.request_seconds, self._request_is_late)

    def _request_is_whole(self) -> None:
        self._received = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _request_is_late(self) -> None:
        self._deadline = None
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self._await_request()
        else:
            self.transport.abort()
