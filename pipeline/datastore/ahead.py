"""Connections on which the next request goes out before the answer to the one before is all here.

A server far away stands idle for a round trip between two answers, unless it has the next request by then
(HTTP/1.1 pipelining, RFC 9112 section 9.3.2). urllib3 never sends one early; these are its own connections
and pools with that one ability more.

A request that was sent ahead is made again, in the usual way and by the same thread: the connection then
finds it sent, and reads the answer. Any other request on such a connection opens it anew, and so
does one that was sent ahead and got no answer, so that nobody can be given an answer to something else.
"""

import io
import queue
import threading
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
_Request = tuple[str, str, dict[str, str]]
# As requests has a body that is read bit by bit.
_STREAMED = {"preload_content": False, "decode_content": False}


class _Reader(io.BufferedReader):
    """What comes in on a socket; kept open for the next answer, of which it may hold the start."""

    kept = False

    def close(self) -> None:
        if not self.kept:
            super().close()


class _Opened:
    """As much of a socket as the answer to one request wants of it."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def makefile(self, *_: Any) -> _Reader:
        return self._reader


class Ahead:
    """A connection that may be one request ahead of the answers. In use by one thread at a time."""

    # The thread that sent a request ahead and has not come for the answer.
    asked_by: int | None = None
    # Whether a request was ever sent ahead in vain.
    was_refused = False
    _asked: _Request | None = None
    _awaited: _Request | None = None
    _reader: _Reader | None = None

    @property
    def may_go_ahead(self) -> bool:
        """Whether the server keeps the connection, and has only the request that it is answering."""
        return not self.is_closed and self._asked is None

    def send_ahead(self, url: str, headers: Mapping[str, str]) -> None:
        """Send a GET while an answer is being read. What goes wrong shows when its answer is wanted."""
        self._asked = ("GET", url, dict(headers))
        self.asked_by = threading.get_ident()
        self._reader.kept = True
        with suppress(OSError):
            super().request("GET", url, headers=headers, **_STREAMED)

    @property
    def is_connected(self) -> bool:
        """As urllib3 asks it: bytes that wait to be read are a good sign only when they were asked for."""
        return self._asked is not None or super().is_connected

    def request(self, method: str, url: str, **more: Any) -> None:
        """Send a request, unless that was done ahead."""
        request = (method, url, dict(more["headers"]))
        asked, self._asked, self.asked_by = self._asked, None, None
        if asked == request:
            self._awaited = request
            return
        if asked is not None:
            self.was_refused = True
            self.close()
        super().request(method, url, **more)

    def getresponse(self) -> Any:
        """The answer; a request that was sent ahead for nothing is sent again on a new connection."""
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            return super().getresponse()
        timeout, sock = self.timeout, self.sock
        self.timeout = min(timeout, ANSWER_SECONDS)
        try:
            response = super().getresponse()
            sock.settimeout(timeout)
        except (ConnectionError, TimeoutError):
            response = None
        finally:
            self.timeout = timeout
        return self._asked_again(*awaited) if response is None else response

    def _asked_again(self, method: str, url: str, headers: dict[str, str]) -> Any:
        self.was_refused = True
        self.close()
        super().request(method, url, headers=headers, **_STREAMED)
        return super().getresponse()

    def response_class(self, sock: Any, *args: Any, **more: Any) -> HTTPResponse:
        """The answer that comes next on the socket (called by http.client)."""
        if self._reader is None or not self._reader.kept:
            self._reader = _Reader(sock.makefile("rb", buffering=0))
        self._reader.kept = False
        return HTTPResponse(_Opened(self._reader), *args, **more)

    def forget(self, by: int) -> None:
        """Hang up if that thread still awaits an answer: after a failure others may have the connection."""
        if self.asked_by == by:
            self.close()

    def close(self) -> None:
        """Hang up."""
        self._asked = None
        super().close()
        if self._reader is not None and self._reader.kept:
            self._reader.kept = False
            self._reader.close()
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
