"""Faults of servers, emulated by the simulator on the wire (protocol notes, "Answers").

A fault is a small ASGI middleware for the requests that it matches; it ends after a given number of these.
Faults that HTTP has no message for (a reset, a body that is cut off or exceeds its length) act on the
connection itself, which the simulator puts into the ASGI scope.

The target of a fault is ``listings`` (every ``index.txt``), ``files``, ``everything``, or a shell pattern for
the path below the prefix, segment by segment: ``*/index.txt`` is the listing of every product.
"""

import asyncio
import functools
import gzip
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import NoReturn

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.datastore.server.responses import send_error, send_response, wait_for_disconnect
from pipeline.datastore.server.tree import BROKEN_INCLUDE
from pipeline.errors import SettingsError

LISTINGS = "listings"
FILES = "files"
EVERYTHING = "everything"

TRANSPORT = "pipeline.transport"
"""ASGI extension with the ``asyncio.Transport`` of the connection."""

_PRODUCT_LISTINGS = "*/index.txt"
_FILESET_LISTINGS = "*/*/index.txt"
_FILLER = bytes(1 << 16)
_DATABASE_DOWN = (
    b"DBI connect('host=127.0.0.1;database=datastore','dsuser',...) failed: Can't connect to server on "
    b"'127.0.0.1' (115) at /srv/ipp/ds-cgi/dsdbh.pm line 15.\nCannot connect to server\n\n"
)
_LOGIN_PAGE = b"<!DOCTYPE html><title>Log in</title><form><input name=user><input name=password></form>\n"

Act = Callable[[Scope, Receive, Send, ASGIApp], Awaitable[None]]
"""Handler of a request on which a fault acts; the last argument is the application without the fault."""


class ClientGone(Exception):
    """Connection closed by the client: nothing more can be sent."""


@dataclass
class Fault:
    """Fault of the first ``times`` requests that match its target (None: all of them).

    ``used`` counts the requests on which the fault acted.
    """

    act: Act
    target: str
    times: int | None = None
    used: int = 0

    def matches(self, path: str) -> bool:
        """Return True, and count, if the fault acts on a request with this path below the prefix."""
        acts = (self.times is None or self.used < self.times) and _matches(path, self.target)
        self.used += acts
        return acts

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application with this fault."""

        async def misbehave(scope: Scope, receive: Receive, send: Send) -> None:
            await self.act(scope, receive, send, app)

        return misbehave


def named(text: str) -> Fault:
    """Return the fault of the form ``NAME`` or ``NAME=TARGET``. Raises SettingsError for an unknown name."""
    name, _, target = text.partition("=")
    if name not in NAMED:
        raise SettingsError(f"expected one of the faults {', '.join(sorted(NAMED))}, got {name!r}")
    return NAMED[name](target=target) if target else NAMED[name]()


# Other responses in place of the correct one.


def says(
    body: bytes, *, media_type: str = "text/plain", target: str = LISTINGS, times: int | None = None
) -> Fault:
    """Respond with 200 and this body, chunked."""

    async def act(_scope: Scope, _receive: Receive, send: Send, _app: ASGIApp) -> None:
        await send_response(send, HTTPStatus.OK, [("Content-Type", media_type)], body)

    return Fault(act, target, times)


def database_down(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Respond to listings with the error message of a database and status 200; files are still served."""
    return says(_DATABASE_DOWN, target=target, times=times)


def broken_include(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Respond to listings with the include filter's error text and status 200."""
    return says(BROKEN_INCLUDE, target=target, times=times)


def empty_body(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Respond with 200 and an empty body."""
    return says(b"", target=target, times=times)


def login_page(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Respond with 200 and the login page of a proxy."""
    return says(_LOGIN_PAGE, media_type="text/html", target=target, times=times)


def fails(
    status: int, *, retry_after: str | None = None, target: str = LISTINGS, times: int | None = None
) -> Fault:
    """Respond with an error; ``retry_after`` is in seconds or an HTTP date."""
    fields = [("Retry-After", retry_after)] if retry_after is not None else []

    async def act(scope: Scope, _receive: Receive, send: Send, _app: ASGIApp) -> None:
        await send_error(scope, send, HTTPStatus(status), fields)

    return Fault(act, target, times)


def redirects(to: str | None = None, *, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Respond with 302 to the URL ``to``; None is the URL of the request itself: a loop."""

    async def act(scope: Scope, _receive: Receive, send: Send, _app: ASGIApp) -> None:
        location = to if to is not None else scope["raw_path"].decode("latin-1")
        await send_error(scope, send, HTTPStatus.FOUND, [("Location", location)])

    return Fault(act, target, times)


# The correct response, its body changed as a whole.


def edits(
    edit: Callable[[bytes], bytes],
    *,
    fields: dict[str, str] | None = None,
    target: str = LISTINGS,
    times: int | None = None,
) -> Fault:
    """Replace the body by ``edit`` of it, set ``fields``, and correct a Content-Length."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        start: list[Message] = []
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
            else:
                body.extend(message.get("body", b""))

        await app(scope, receive, collect)
        edited = edit(bytes(body)) if body else b""
        headers = MutableHeaders(raw=start[0]["headers"])
        headers.update(fields or {})
        if body and "content-length" in headers:
            headers["content-length"] = str(len(edited))
        await send(start[0])
        await send({"type": "http.response.body", "body": edited})

    return Fault(act, target, times)


def hides_newest(*, target: str = _PRODUCT_LISTINGS, times: int | None = None) -> Fault:
    """Omit the last row of a product's listing; the root listing still names it."""
    return edits(_without_last_row, target=target, times=times)


def cuts_row(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """End a listing in the middle of its last row, in a response that is complete for HTTP."""
    return edits(_within_last_row, target=target, times=times)


def flips_byte(*, target: str = FILES, times: int | None = None) -> Fault:
    """Invert all bits of the byte in the middle of the body."""
    return edits(_with_flipped_byte, target=target, times=times)


def compresses(*, target: str = FILES, times: int | None = None) -> Fault:
    """Send the body gzip-compressed, with a Content-Encoding."""
    return edits(gzip.compress, fields={"Content-Encoding": "gzip"}, target=target, times=times)


# The correct response with another head.


def changes_etag(*, target: str = FILES, times: int | None = None) -> Fault:
    """Send another ETag with each response."""
    serial = itertools.count(1)
    return _heads(lambda headers: headers.update({"etag": f'"{next(serial):x}"'}), target, times)


def shifts_content_range(by: int = 1, *, target: str = FILES, times: int | None = None) -> Fault:
    """Send a Content-Range that begins ``by`` bytes after the body."""

    def shift(headers: MutableHeaders) -> None:
        if "content-range" in headers:
            first, _, rest = headers["content-range"].removeprefix("bytes ").partition("-")
            if first.isdigit():
                headers["content-range"] = f"bytes {int(first) + by}-{rest}"

    return _heads(shift, target, times)


def ignores_range(*, target: str = FILES, times: int | None = None) -> Fault:
    """Respond to a range request with 200 and the whole file."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        headers = [field for field in scope["headers"] if field[0] != b"range"]
        await app({**scope, "headers": headers}, receive, send)

    return Fault(act, target, times)


# Time.


def delays(seconds: float = 1, *, target: str = EVERYTHING, times: int | None = None) -> Fault:
    """Delay the response."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        await _pause(seconds, receive)
        await app(scope, receive, send)

    return Fault(act, target, times)


def throttles(bytes_per_second: int = 100_000, *, target: str = FILES, times: int | None = None) -> Fault:
    """Limit the rate of each connection; the body is sent in twenty chunks a second."""
    size = max(bytes_per_second // 20, 1)

    def wrap(_scope: Scope, receive: Receive, send: Send) -> Send:
        async def slowly(message: Message) -> None:
            body = message.get("body", b"")
            while len(body) > size:
                await send({"type": "http.response.body", "body": body[:size], "more_body": True})
                await _pause(size / bytes_per_second, receive)
                body = body[size:]
            await send({**message, "body": body} if body else message)
            if message.get("more_body"):
                await _pause(len(body) / bytes_per_second, receive)

        return slowly

    return _sends(wrap, target, times)


def sends_interim(
    seconds: float = 1, *, status: str = "100 Continue", target: str = EVERYTHING, times: int | None = None
) -> Fault:
    """Send an interim response, such as 100, every so many seconds for ever; the response never begins."""

    async def act(scope: Scope, _receive: Receive, _send: Send, _app: ASGIApp) -> None:
        transport = scope["extensions"][TRANSPORT]
        await _repeat(f"HTTP/1.1 {status}\r\nX: y\r\n\r\n".encode(), seconds, transport)

    return Fault(act, target, times)


def sends_trailers(seconds: float = 1, *, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Send the body, chunked, and after it a trailer every so many seconds for ever."""

    def wrap(scope: Scope, _receive: Receive, send: Send) -> Send:
        async def go_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(raw=message["headers"])["content-length"]
            ends = message["type"] == "http.response.body" and not message.get("more_body")
            await send({**message, "more_body": True} if ends else message)
            if ends:
                transport = scope["extensions"][TRANSPORT]
                transport.write(b"0\r\n")
                await _repeat(b"X: y\r\n", seconds, transport)

        return go_on

    return _sends(wrap, target, times)


def stalls(
    seconds: float | None = None,
    *,
    after: int | None = None,
    target: str = FILES,
    times: int | None = None,
) -> Fault:
    """Send ``after`` bytes of the body, nothing for some seconds (None: for ever), then the rest.

    ``after`` None is half of the first chunk, here and in ``hangs_up`` and ``resets``.
    """

    async def wait(_scope: Scope, receive: Receive) -> None:
        await _pause(seconds, receive)

    return _interrupts(wait, after, target, times)


# The connection, broken.


def hangs_up(*, after: int | None = None, target: str = FILES, times: int | None = None) -> Fault:
    """Close the connection after ``after`` bytes of the body, before its length or its last chunk."""

    async def close(scope: Scope, _receive: Receive) -> None:
        scope["extensions"][TRANSPORT].close()
        raise ClientGone

    return _interrupts(close, after, target, times)


def resets(*, after: int | None = None, target: str = FILES, times: int | None = None) -> Fault:
    """Reset the connection after ``after`` bytes of the body."""

    async def reset(scope: Scope, _receive: Receive) -> None:
        transport = scope["extensions"][TRANSPORT]
        at_once = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        transport.abort()
        raise ClientGone

    return _interrupts(reset, after, target, times)


def misstates_length(by: int = -1, *, target: str = FILES, times: int | None = None) -> Fault:
    """Add ``by`` to the Content-Length; the whole body is sent, then the connection is closed.

    A response without a Content-Length stays as it is, here and in ``runs_over``.
    """

    def wrap(scope: Scope, _receive: Receive, send: Send) -> Send:
        return _Overrunning(by, b"", send, scope["extensions"][TRANSPORT])

    return _sends(wrap, target, times)


def runs_over(extra: bytes = _FILLER, *, target: str = FILES, times: int | None = None) -> Fault:
    """Send ``extra`` after the body, then close the connection."""

    def wrap(scope: Scope, _receive: Receive, send: Send) -> Send:
        return _Overrunning(0, extra, send, scope["extensions"][TRANSPORT])

    return _sends(wrap, target, times)


def never_ends(*, target: str = FILES, times: int | None = None) -> Fault:
    """Send the body without a Content-Length, then zeros until the client closes the connection."""

    def wrap(_scope: Scope, _receive: Receive, send: Send) -> Send:
        async def go_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(raw=message["headers"])["content-length"]
            ends = message["type"] == "http.response.body" and not message.get("more_body")
            await send({**message, "more_body": True} if ends else message)
            while ends:
                await send({"type": "http.response.body", "body": _FILLER, "more_body": True})

        return go_on

    return _sends(wrap, target, times)


NAMED: dict[str, Callable[..., Fault]] = {
    "broken-include": broken_include,
    "changes-etag": changes_etag,
    "compresses": compresses,
    "cuts-row": cuts_row,
    "database-down": database_down,
    "delays": delays,
    "empty-body": empty_body,
    "error": lambda target=LISTINGS: fails(500, target=target),
    "file-forbidden": lambda target=FILES: fails(403, target=target),
    "fileset-gone": lambda target=_FILESET_LISTINGS: fails(404, target=target),
    "flips-byte": flips_byte,
    "hangs-up": hangs_up,
    "hides-newest": hides_newest,
    "ignores-range": ignores_range,
    "login-page": login_page,
    "misstates-length": misstates_length,
    "never-ends": never_ends,
    "not-found": lambda target=LISTINGS: fails(404, target=target),
    "redirects": redirects,
    "resets": resets,
    "runs-over": runs_over,
    "sends-interim": sends_interim,
    "sends-trailers": sends_trailers,
    "shifts-content-range": shifts_content_range,
    "stalls": stalls,
    "throttles": throttles,
    "too-many-requests": lambda target=EVERYTHING: fails(429, retry_after="1", target=target),
    "trickles": lambda target=EVERYTHING: throttles(100, target=target),
    "unavailable": lambda target=EVERYTHING: fails(503, retry_after="1", target=target),
}
"""Faults by name, with their usual targets and measures."""


class _Overrunning:
    """``send`` with ``by`` added to the Content-Length, for the whole body and ``extra`` after it.

    Bytes beyond the announced length are written to the transport, past the HTTP layer, which would refuse
    them. The end of the body is not sent to the HTTP layer, which would close a connection without
    keep-alive.
    """

    def __init__(self, by: int, extra: bytes, send: Send, transport: asyncio.Transport) -> None:
        self._by = by
        self._extra = extra
        self._send = send
        self._transport = transport
        self._left: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._set_length(MutableHeaders(raw=message["headers"]))
            await self._send(message)
        elif self._left is None:
            await self._send(message)
        else:
            await self._overrun(message.get("body", b""), self._left, message.get("more_body", False))

    def _set_length(self, headers: MutableHeaders) -> None:
        if "content-length" in headers:
            self._left = max(int(headers["content-length"]) + self._by, 0)
            headers["content-length"] = str(self._left)

    async def _overrun(self, body: bytes, left: int, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body[:left], "more_body": True})
        self._transport.write(body[left:])
        self._left = max(left - len(body), 0)
        if not more:
            self._transport.write(self._extra)
            self._transport.close()
            raise ClientGone


class _Interrupted:
    """``send`` that awaits ``then`` once, after some bytes of the body."""

    def __init__(self, after: int | None, then: Callable[[], Awaitable[None]], send: Send) -> None:
        self._after = after
        self._then = then
        self._send = send
        self._sent = 0

    async def __call__(self, message: Message) -> None:
        body = message.get("body", b"")
        if self._after is None and body:
            self._after = len(body) // 2
        first = -1 if self._after is None else self._after - self._sent
        self._sent += len(body)
        if not 0 <= first < len(body):
            await self._send(message)
            return
        await self._send({"type": "http.response.body", "body": body[:first], "more_body": True})
        await self._then()
        await self._send({**message, "body": body[first:]})


def _sends(wrap: Callable[[Scope, Receive, Send], Send], target: str, times: int | None) -> Fault:
    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        await app(scope, receive, wrap(scope, receive, send))

    return Fault(act, target, times)


def _heads(change: Callable[[MutableHeaders], None], target: str, times: int | None) -> Fault:
    def wrap(_scope: Scope, _receive: Receive, send: Send) -> Send:
        async def with_change(message: Message) -> None:
            if message["type"] == "http.response.start":
                change(MutableHeaders(raw=message["headers"]))
            await send(message)

        return with_change

    return _sends(wrap, target, times)


def _interrupts(
    then: Callable[[Scope, Receive], Awaitable[None]], after: int | None, target: str, times: int | None
) -> Fault:
    def wrap(scope: Scope, receive: Receive, send: Send) -> Send:
        return _Interrupted(after, functools.partial(then, scope, receive), send)

    return _sends(wrap, target, times)


async def _repeat(piece: bytes, seconds: float, transport: asyncio.Transport) -> NoReturn:
    """Write the bytes past the HTTP layer, again and again. Raises ClientGone when the connection ends."""
    while not transport.is_closing():
        transport.write(piece)
        await asyncio.sleep(seconds)
    raise ClientGone


async def _pause(seconds: float | None, receive: Receive) -> None:
    """Wait, for ever if None. Raises ClientGone when the client closes the connection."""
    try:
        async with asyncio.timeout(seconds):
            await wait_for_disconnect(receive)
    except TimeoutError:
        return
    raise ClientGone


def _matches(path: str, target: str) -> bool:
    names = path.split("/")
    if target == EVERYTHING:
        return True
    if target in {LISTINGS, FILES}:
        is_listing = names[-1] == "index.txt"
        return is_listing if target == LISTINGS else len(names) == 3 and not is_listing
    patterns = target.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def _without_last_row(listing: bytes) -> bytes:
    lines = listing.rstrip(b"\n").split(b"\n")
    return b"\n".join(lines[:-1] if not lines[-1].startswith(b"#") else lines) + b"\n\n"


def _within_last_row(listing: bytes) -> bytes:
    whole = listing.rstrip(b"\n")
    return whole[: (whole.rfind(b"\n") + 1 + len(whole)) // 2]


def _with_flipped_byte(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
