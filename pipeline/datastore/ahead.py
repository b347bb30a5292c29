"""Connections on which the next requests go out before the answer to the one before is all here.

A server far away stands idle for a round trip between two answers, unless it has the next request by then
(HTTP/1.1 pipelining, RFC 9112 section 9.3.2). urllib3 never sends one early; these are its own connections
and pools with that one ability more.

Requests that were sent ahead are made again in the order of their sending, in the usual way and by the same
thread: the connection then finds them sent, and reads the answer. Any other request on such a connection
opens it anew, so that nobody can be given an answer to something else.
"""

import io
import queue
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# How long the answer to a request that was sent ahead is waited for, from when the one before has ended: it
# should be here by then, and a server or a box on the way that cannot take two at once may keep silent.
ANSWER_SECONDS = 5.0
# Requests that a server has at once beside the one that it is answering, at most.
MOST_AHEAD = 8
_Request = tuple[str, str, dict[str, str]]
# As requests has a body that is read bit by bit.
_STREAMED = {"preload_content": False, "decode_content": False}


class _Reader(io.BufferedReader):
    """What comes in on a socket; ``kept`` open for the next answer, of which it may hold the start."""

    kept = False
    _is_read = False

    def begin(self, kept: bool) -> None:
        """An answer is read from here now."""
        self.kept, self._is_read = kept, True

    def close(self) -> None:
        """The answer has ended (called by http.client)."""
        self._is_read = False
        if not self.kept:
            super().close()

    def let_go(self) -> None:
        """No other answer is wanted: close, or have the answer that is being read do so."""
        self.kept = False
        if not self._is_read:
            super().close()


class _Opened:
    """As much of a socket as the answer to one request wants of it."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def makefile(self, *_: Any) -> _Reader:
        return self._reader


class _Writer(HTTPConnection):
    """Writes requests as urllib3 does, to no server."""

    def __init__(self, host: str, port: int | None, default_port: int) -> None:
        super().__init__(host, port)
        self.default_port = default_port
        self.written = b""

    def connect(self) -> None:
        """There is nobody to connect to."""

    def send(self, data: bytes) -> None:
        """Keep what would be sent (called by http.client)."""
        self.written += data


class Ahead:
    """A connection that may be some requests ahead of the answers. In use by one thread at a time."""

    # The thread that sent requests ahead and has not come for all answers.
    asked_by: int | None = None
    # Whether something else was asked for than what was sent ahead last.
    was_in_vain = False
    # Whether the answer that comes next is to a request that was sent ahead.
    _is_awaited = False
    _reader: _Reader | None = None

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._asked: deque[_Request] = deque()

    @property
    def requests_ahead(self) -> int:
        """How many requests the server has beside the one that it is answering."""
        return len(self._asked)

    def send_ahead(self, url: str, headers: Mapping[str, str]) -> None:
        """Send a GET while an answer is being read. What goes wrong shows when its answer is wanted."""
        writer = _Writer(self.host, self.port, self.default_port)
        writer.request("GET", url, headers=headers, **_STREAMED)
        self._asked.append(("GET", url, dict(headers)))
        self.asked_by, self.was_in_vain = threading.get_ident(), False
        self._reader.kept = True
        with suppress(OSError):
            self.send(writer.written)

    @property
    def is_connected(self) -> bool:
        """As urllib3 asks it: bytes that wait to be read are a good sign only when they were asked for."""
        return bool(self._asked) or super().is_connected

    def request(self, method: str, url: str, **more: Any) -> None:
        """Send a request, unless that was done ahead."""
        request = (method, url, dict(more["headers"]))
        if self._asked and self._asked[0] == request:
            self._asked.popleft()
            self._is_awaited = True
            self.asked_by = self.asked_by if self._asked else None
        elif self._asked:
            self.was_in_vain = True
            self.close()
        # http.client is to know of each request in its turn.
        super().request(method, url, **more)

    def send(self, data: Any) -> None:
        """Send what the server does not have (called by http.client)."""
        if not self._is_awaited:
            super().send(data)

    def getresponse(self) -> Any:
        """The answer. To a request that was sent ahead it should be here, and is not waited for as long."""
        awaited, self._is_awaited = self._is_awaited, False
        if not awaited:
            return super().getresponse()
        timeout, sock = self.timeout, self.sock
        self.timeout = min(timeout, ANSWER_SECONDS)
        try:
            response = super().getresponse()
        finally:
            self.timeout = timeout
        sock.settimeout(timeout)
        return response

    def response_class(self, sock: Any, *args: Any, **more: Any) -> HTTPResponse:
        """The answer that comes next on the socket (called by http.client)."""
        if self._reader is None or not self._reader.kept:
            self._reader = _Reader(sock.makefile("rb", buffering=0))
        self._reader.begin(kept=bool(self._asked))
        return HTTPResponse(_Opened(self._reader), *args, **more)

    def forget(self, by: int) -> None:
        """Hang up if that thread still awaits answers: after a failure others may have the connection."""
        if self.asked_by == by:
            self.close()

    def close(self) -> None:
        """Hang up."""
        self._asked.clear()
        self._is_awaited = False
        super().close()
        if self._reader is not None and self._reader.kept:
            self._reader.let_go()
        # Last: from here on any thread may have the connection.
        self.asked_by = None


class _Connection(Ahead, HTTPConnection):
    pass


class _SecureConnection(Ahead, HTTPSConnection):
    pass


class _Places(queue.LifoQueue):
    """The connections of a pool that are not in use, None where there is none yet.

    One that is ahead is for the thread that will come for the answer.
    """

    def _get(self) -> Ahead | None:
        me = threading.get_ident()
        asked_by = [connection.asked_by if connection else None for connection in self.queue]
        for whose in (me, None):
            if whose in asked_by:
                last = len(asked_by) - 1 - asked_by[::-1].index(whose)
                return self.queue.pop(last)
        return self.queue.pop()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection
    QueueCls = _Places


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
    QueueCls = _Places


class AheadAdapter(HTTPAdapter):
    """How requests gets connections of this kind; through a proxy it gets ordinary ones."""

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        """Make the pools (called by requests)."""
        super().init_poolmanager(*args, **settings)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
