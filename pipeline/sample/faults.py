"""Bad faults of servers, on request, for the tests of whoever must bear them (protocol notes, "Answers").

A fault is a small ASGI middleware for the requests that it matches, and stops after as many of them as it
was told to. What HTTP has no words for (a reset, a body that is cut off or runs over its length) is done to
the connection itself, so it happens on the wire as it does in life; ``server.serve`` provides for that.

The target of a fault is ``listings`` (every ``index.txt``), ``files``, ``everything``, or a shell pattern for
the path below the prefix, name by name: ``*/index.txt`` is the listing of every product and of nothing else.
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

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.datastore.server.responses import TRANSPORT, ClientGone, answer, answer_error, disconnected
from pipeline.datastore.server.tree import BROKEN_INCLUDE
from pipeline.errors import SettingsError

LISTINGS = "listings"
FILES = "files"
EVERYTHING = "everything"

_PRODUCT_LISTINGS = "*/index.txt"
_FILESET_LISTINGS = "*/*/index.txt"
_FILLER = bytes(1 << 16)
_DATABASE_DOWN = (
    b"DBI connect('host=127.0.0.1;database=datastore','dsuser',...) failed: Can't connect to server on "
    b"'127.0.0.1' (115) at /srv/ipp/ds-cgi/dsdbh.pm line 15.\nCannot connect to server\n\n"
)
_LOGIN_PAGE = b"<!DOCTYPE html><title>Log in</title><form><input name=user><input name=password></form>\n"

Act = Callable[[Scope, Receive, Send, ASGIApp], Awaitable[None]]


@dataclass
class Fault:
    """One way to misbehave, for the first ``times`` requests that match (None: all of them).

    ``used`` counts the requests it was applied to.
    """

    act: Act
    target: str
    times: int | None = None
    used: int = 0

    def matches(self, path: str) -> bool:
        """Whether this request, with its path below the prefix, is one to misbehave on; counts it if so."""
        matching = (self.times is None or self.used < self.times) and _matches(path, self.target)
        self.used += matching
        return matching

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with this fault."""

        async def misbehave(scope: Scope, receive: Receive, send: Send) -> None:
            await self.act(scope, receive, send, app)

        return misbehave


def named(text: str) -> Fault:
    """The fault of the form ``NAME`` or ``NAME=TARGET``. Raises SettingsError when no fault has that name."""
    name, _, target = text.partition("=")
    if name not in NAMED:
        raise SettingsError(f"expected a fault out of {', '.join(sorted(NAMED))}, got {name!r}")
    return NAMED[name](target=target) if target else NAMED[name]()


# Answers in place of the true one.


def says(
    body: bytes, *, media_type: str = "text/plain", target: str = LISTINGS, times: int | None = None
) -> Fault:
    """Answers 200, chunked, with this body."""

    async def act(_scope: Scope, _receive: Receive, send: Send, _app: ASGIApp) -> None:
        await answer(send, HTTPStatus.OK, [("Content-Type", media_type)], body)

    return Fault(act, target, times)


def database_down(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Listings are an error message with status 200; files are still served."""
    return says(_DATABASE_DOWN, target=target, times=times)


def broken_include(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Listings are the include filter's error text with status 200."""
    return says(BROKEN_INCLUDE, target=target, times=times)


def empty_body(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Answers 200 with nothing."""
    return says(b"", target=target, times=times)


def login_page(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Answers 200 with the page of a proxy that wants a password."""
    return says(_LOGIN_PAGE, media_type="text/html", target=target, times=times)


def fails(
    status: int, *, retry_after: str | None = None, target: str = LISTINGS, times: int | None = None
) -> Fault:
    """Answers with an error; ``retry_after`` is in seconds or an HTTP date."""
    fields = [("Retry-After", retry_after)] if retry_after is not None else []

    async def act(scope: Scope, _receive: Receive, send: Send, _app: ASGIApp) -> None:
        await answer_error(scope, send, HTTPStatus(status), fields)

    return Fault(act, target, times)


def redirects(to: str | None = None, *, target: str = LISTINGS, times: int | None = None) -> Fault:
    """Answers 302; ``to`` is a URL (of another host or scheme, say), None the request's own: a loop."""

    async def act(scope: Scope, _receive: Receive, send: Send, _app: ASGIApp) -> None:
        location = to if to is not None else scope["raw_path"].decode("latin-1")
        await answer_error(scope, send, HTTPStatus.FOUND, [("Location", location)])

    return Fault(act, target, times)


# The true answer, changed as a whole.


def edits(
    edit: Callable[[bytes], bytes],
    *,
    fields: dict[str, str] | None = None,
    target: str = LISTINGS,
    times: int | None = None,
) -> Fault:
    """The whole body goes through ``edit``, and ``fields`` are set; a Content-Length is made to agree."""

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
    """The last row is missing from the product's listing; the root still names it."""
    return edits(_without_last_row, target=target, times=times)


def cuts_row(*, target: str = LISTINGS, times: int | None = None) -> Fault:
    """The listing ends properly as HTTP has it, but in the middle of its last row."""
    return edits(_within_last_row, target=target, times=times)


def flips_byte(*, target: str = FILES, times: int | None = None) -> Fault:
    """One byte, in the middle of what is sent, has all its bits turned over."""
    return edits(_with_flipped_byte, target=target, times=times)


def compresses(*, target: str = FILES, times: int | None = None) -> Fault:
    """Sends the body gzip-compressed, and says so in Content-Encoding."""
    return edits(gzip.compress, fields={"Content-Encoding": "gzip"}, target=target, times=times)


# The true answer, with another head.


def changes_etag(*, target: str = FILES, times: int | None = None) -> Fault:
    """The ETag is another one at each request."""
    serial = itertools.count(1)
    return _heads(lambda headers: headers.update({"etag": f'"{next(serial):x}"'}), target, times)


def shifts_content_range(by: int = 1, *, target: str = FILES, times: int | None = None) -> Fault:
    """A 206 says that its bytes begin ``by`` later than they do."""

    def shift(headers: MutableHeaders) -> None:
        if "content-range" in headers:
            first, _, rest = headers["content-range"].removeprefix("bytes ").partition("-")
            if first.isdigit():
                headers["content-range"] = f"bytes {int(first) + by}-{rest}"

    return _heads(shift, target, times)


def ignores_range(*, target: str = FILES, times: int | None = None) -> Fault:
    """Answers 200 with the whole file where a part of it was asked for."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        headers = [field for field in scope["headers"] if field[0] != b"range"]
        await app({**scope, "headers": headers}, receive, send)

    return Fault(act, target, times)


# Time.


def delays(seconds: float = 1, *, target: str = EVERYTHING, times: int | None = None) -> Fault:
    """Waits before it answers."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        await _pause(seconds, receive)
        await app(scope, receive, send)

    return Fault(act, target, times)


def throttles(bytes_per_second: int = 100_000, *, target: str = FILES, times: int | None = None) -> Fault:
    """Sends the body no faster than this over each connection, in twenty pieces a second."""
    piece = max(bytes_per_second // 20, 1)

    def wrap(_scope: Scope, receive: Receive, send: Send) -> Send:
        async def slowly(message: Message) -> None:
            body = message.get("body", b"")
            while len(body) > piece:
                await send({"type": "http.response.body", "body": body[:piece], "more_body": True})
                await _pause(piece / bytes_per_second, receive)
                body = body[piece:]
            await send({**message, "body": body} if body else message)
            if message.get("more_body"):
                await _pause(len(body) / bytes_per_second, receive)

        return slowly

    return _sends(wrap, target, times)


def stalls(
    seconds: float | None = None,
    *,
    after: int | None = None,
    target: str = FILES,
    times: int | None = None,
) -> Fault:
    """Sends ``after`` bytes of the body, then nothing for some seconds (None: for ever), then the rest.

    ``after`` None is half of what is sent first, here and in ``hangs_up`` and ``resets``.
    """

    async def wait(_scope: Scope, receive: Receive) -> None:
        await _pause(seconds, receive)

    return _interrupts(wait, after, target, times)


# The connection, broken.


def hangs_up(*, after: int | None = None, target: str = FILES, times: int | None = None) -> Fault:
    """Closes the connection after that much of the body: a short file, a chunked listing without its end."""

    async def close(scope: Scope, _receive: Receive) -> None:
        scope["extensions"][TRANSPORT].close()
        raise ClientGone

    return _interrupts(close, after, target, times)


def resets(*, after: int | None = None, target: str = FILES, times: int | None = None) -> Fault:
    """Resets the connection after that much of the body."""

    async def reset(scope: Scope, _receive: Receive) -> None:
        transport = scope["extensions"][TRANSPORT]
        at_once = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        transport.abort()
        raise ClientGone

    return _interrupts(reset, after, target, times)


def misstates_length(by: int = -1, *, target: str = FILES, times: int | None = None) -> Fault:
    """Content-Length is the true one plus ``by``; all of the body is sent, then the connection closes.

    An answer without a Content-Length is left alone, here and in ``runs_over``.
    """

    def wrap(scope: Scope, _receive: Receive, send: Send) -> Send:
        return _Overrunning(by, b"", send, scope["extensions"][TRANSPORT])

    return _sends(wrap, target, times)


def runs_over(extra: bytes = _FILLER, *, target: str = FILES, times: int | None = None) -> Fault:
    """Sends ``extra`` after as many bytes as Content-Length says, then closes."""

    def wrap(scope: Scope, _receive: Receive, send: Send) -> Send:
        return _Overrunning(0, extra, send, scope["extensions"][TRANSPORT])

    return _sends(wrap, target, times)


def never_ends(*, target: str = FILES, times: int | None = None) -> Fault:
    """Sends the body without a Content-Length, and zeros after it until the client hangs up."""

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
    "shifts-content-range": shifts_content_range,
    "stalls": stalls,
    "throttles": throttles,
    "too-many-requests": lambda target=EVERYTHING: fails(429, retry_after="1", target=target),
    "unavailable": lambda target=EVERYTHING: fails(503, retry_after="1", target=target),
}
"""The faults that can be asked for by name, with their usual target and measure."""


class _Overrunning:
    """``send`` with a Content-Length that is wrong by ``by``, all of the body and ``extra`` behind it.

    What does not fit the length goes to the connection past the HTTP layer, which would refuse it; so that
    layer is never told of the end, which would have it close a connection that is not to be kept.
    """

    def __init__(self, by: int, extra: bytes, send: Send, transport: asyncio.Transport) -> None:
        self._by = by
        self._extra = extra
        self._send = send
        self._transport = transport
        self._left: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._misstate(MutableHeaders(raw=message["headers"]))
            await self._send(message)
        elif self._left is None:
            await self._send(message)
        else:
            await self._overrun(message.get("body", b""), self._left, message.get("more_body", False))

    def _misstate(self, headers: MutableHeaders) -> None:
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
    """``send`` that waits for ``then`` once, after some bytes of the body."""

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


async def _pause(seconds: float | None, receive: Receive) -> None:
    """Wait. Raises ClientGone when the client does not."""
    try:
        async with asyncio.timeout(seconds):
            await disconnected(receive)
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
