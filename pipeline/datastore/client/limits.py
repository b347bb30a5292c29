"""Limits of the use of one server, and responses that are read within them.

Speed and sizes are limited where bytes arrive, below HTTP: the limits hold for heads, 1xx responses, bodies,
chunks and trailers alike.
"""

import http.client
import io
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# Seconds after which a waiting thread looks whether the run stops.
_SLICE_SECONDS = 0.25


@dataclass(frozen=True)
class Limits:
    """Limits of the use of one server.

    ``connections`` are open at once at most. A request is aborted after ``timeout`` seconds without a byte,
    and after as many seconds of waiting that bring less than ``least_speed`` bytes per second. While the run
    stops, ``stopping_timeout`` takes the place of ``timeout``.

    All heads of a response, and whatever surrounds each chunk of its body, have ``head_bytes`` at most; a
    listing has ``listing_bytes`` and takes ``listing_seconds`` at most. ``redirects`` is the greatest number
    of redirects of one request.
    """

    connections: int
    timeout: float
    least_speed: float = 1000.0
    stopping_timeout: float = 5.0
    head_bytes: int = 1 << 16
    listing_bytes: int = 1 << 30
    listing_seconds: float = 1800.0
    redirects: int = 5


class ResponseAborted(http.client.HTTPException):
    """Response beyond a limit, or against the rules of HTTP; the text is the cause."""


class LimitedResponse(http.client.HTTPResponse):
    """Response that is read within limits. Once ``stopping`` is set, only a fast one is read further."""

    def __init__(
        self, limits: Limits, stopping: threading.Event, sock: socket.socket, *args: Any, **more: Any
    ) -> None:
        super().__init__(sock, *args, **more)
        self._incoming = _Incoming(sock, self.fp.detach(), limits, stopping)
        self.fp = io.BufferedReader(self._incoming)

    def begin(self) -> None:
        """Read the heads of all 1xx responses, and that of the response itself."""
        super().begin()
        while 100 <= self.status < 200:
            # http.client knows 100 alone, and would take the next head for that of the next response.
            self.headers = None  # type: ignore[assignment]
            super().begin()

    def read1(self, n: int = -1) -> bytes:
        """Return up to ``n`` bytes of the body, as soon as there are some; b"" at its end."""
        self._incoming.allow(max(n, 0))
        try:
            body = super().read1(n)
        except (ValueError, OverflowError):
            raise ResponseAborted("a chunk without a valid size") from None
        if self.chunked and (self.chunk_left or 0) < 0:
            raise ResponseAborted("a chunk of negative size")
        return body


class _Incoming(io.RawIOBase):
    """Raw stream of one response, from a socket that ``stream`` holds open.

    Raises ResponseAborted beyond a limit, TimeoutError after ``timeout`` seconds without a byte.
    """

    def __init__(
        self, sock: socket.socket, stream: io.RawIOBase, limits: Limits, stopping: threading.Event
    ) -> None:
        self._sock = sock
        self._stream = stream
        self._limits = limits
        self._stopping = stopping
        self._timeout = sock.gettimeout()
        self._allowed = limits.head_bytes
        self._started = False
        self._silent = self._waited = 0.0
        self._came = 0
        sock.settimeout(min(_SLICE_SECONDS, limits.timeout))

    def readable(self) -> bool:
        """Return True."""
        return True

    def allow(self, size: int) -> None:
        """Allow as many bytes of a body to come, with what surrounds them."""
        self._allowed = size + self._limits.head_bytes

    def readinto(self, buffer: Any) -> int:
        """Receive some bytes; return their number, 0 at the end of the stream."""
        if self._allowed <= 0:
            raise ResponseAborted(f"more than {self._limits.head_bytes} bytes beside the body")
        while (count := self._receive(buffer)) is None:
            pass
        self._allowed -= count
        return count

    def _receive(self, buffer: Any) -> int | None:
        """Return the number of bytes received; None when none came for a while."""
        began = time.monotonic()
        try:
            count = self._sock.recv_into(buffer)
        except TimeoutError:
            count = None
        waited = time.monotonic() - began
        self._silent = 0.0 if count else self._silent + waited
        if count is None and self._silent >= self._limits.timeout:
            raise TimeoutError
        self._check_speed(waited, count or 0)
        return count

    def _check_speed(self, waited: float, came: int) -> None:
        """Count the bytes of one call and the seconds that it waited. Time between calls is our own."""
        limits, stopping = self._limits, self._stopping.is_set()
        self._started |= came > 0
        if not (self._started or stopping):
            return  # a server may take long for the first byte
        self._waited += waited
        self._came += came
        if self._waited < (min(limits.timeout, limits.stopping_timeout) if stopping else limits.timeout):
            return
        if self._came < limits.least_speed * self._waited:
            raise ResponseAborted(
                f"{self._came} bytes in {self._waited:.3g} s, expected {limits.least_speed:g} bytes/s"
            )
        self._waited, self._came = 0.0, 0

    def close(self) -> None:
        """Close the stream. The connection may be used again, with its own timeout."""
        if not self.closed:
            with suppress(OSError):
                self._sock.settimeout(self._timeout)
            self._stream.close()
        super().close()


def limited_pools(limits: Limits, stopping: threading.Event) -> dict[str, Any]:
    """Return the classes of urllib3's pools, by scheme, whose responses are read within the limits."""
    # A bare ``partial`` in a class is to become a method with Python 3.14, and 3.13 warns of it.
    response_class = {"response_class": staticmethod(partial(LimitedResponse, limits, stopping))}
    plain = type("LimitedConnection", (HTTPConnection,), response_class)
    tls = type("LimitedTlsConnection", (HTTPSConnection,), response_class)
    return {
        "http": type("LimitedPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("LimitedTlsPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }
