"""Responses of a Data Store: listings, pages, files with ranges, errors (protocol notes, "Answers").

* Listings and ``*.txt`` files are sent as the original's include filter does: chunked, no validators, no
  ranges, in spite of their ``Accept-Ranges`` field.
* Other files: GET, HEAD, one ``Range`` (206, 416), ``If-Range``, 304. A request for several ranges gets
  the whole file, as RFC 9110 allows.
"""

import asyncio
import os
import re
import stat
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from pipeline import __version__

MEDIA_TYPES = {
    ".tgz": "application/x-gzip",
    ".gz": "application/x-gzip",
    ".fits": "image/fits",
    ".txt": "text/plain",
    ".mdc": "application/vnd.marlin.drm.mdcf",
    ".tar": "application/x-tar",
    ".html": "text/html",
}
"""Media types by the last suffix; any other file is sent without one."""

Fields = list[tuple[str, str]]
"""Header fields: (name, value)."""

_SERVER = ("Server", f"ipp-mirror/{__version__}")
_FILTERED = [("Accept-Ranges", "bytes"), ("Content-Type", "text/plain")]
_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")
_ERROR_PAGE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html><head>
<title>{status.value} {status.phrase}</title>
</head><body>
<h1>{status.phrase}</h1>
<p>{reason}</p>
</body></html>
"""
_REASONS = {
    HTTPStatus.MOVED_PERMANENTLY: "The page is at the address in the Location field.",
    HTTPStatus.FOUND: "The page is at the address in the Location field.",
    HTTPStatus.NOT_FOUND: "The requested URL was not found on this server.",
    HTTPStatus.FORBIDDEN: "You don't have permission to access this resource.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The requested URL takes the methods in the Allow field only.",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "The requested range is not within the file.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The server cannot read what was requested; try again later.",
}


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the response has been sent or the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, status: int, fields: Fields, body: bytes = b"") -> None:
    """Send a complete response; chunked unless ``fields`` have a Content-Length."""
    await _send_head(send, status, fields)
    await send({"type": "http.response.body", "body": body})


async def discard_body(receive: Receive) -> None:
    """Read the body of the request to its end."""
    while (await receive()).get("more_body"):
        pass


async def send_listing(scope: Scope, send: Send, listing: bytes, *, chunk_bytes: int) -> None:
    """Send a listing: 200, chunked, no validators.

    Connections that are slow share the listing in memory, and buffer no more than ``chunk_bytes``.
    """
    await _send_head(send, HTTPStatus.OK, _FILTERED)
    size = 0 if scope["method"] == "HEAD" else len(listing)
    for begin in range(0, max(size, 1), chunk_bytes):
        end = min(begin + chunk_bytes, size)
        await send({"type": "http.response.body", "body": listing[begin:end], "more_body": end < size})


async def send_redirect(
    scope: Scope, send: Send, location: str, status: HTTPStatus = HTTPStatus.MOVED_PERMANENTLY
) -> None:
    """Send 301, or another ``status``, to ``location``, relative to the URL of the request."""
    await send_error(scope, send, status, [("Location", location)])


async def send_page(scope: Scope, send: Send, html: str) -> None:
    """Send an HTML page."""
    body = html.encode()
    fields = [
        ("Vary", "User-Agent"),
        ("Content-Length", str(len(body))),
        ("Content-Type", "text/html; charset=utf-8"),
    ]
    await send_response(send, HTTPStatus.OK, fields, b"" if scope["method"] == "HEAD" else body)


async def send_error(
    scope: Scope, send: Send, status: HTTPStatus, fields: Fields | None = None, *, reason: str = ""
) -> None:
    """Send an error or a redirect with a short page that gives the ``reason``, and ``fields`` more."""
    reason = reason or _REASONS.get(status, f"{status.description}.")
    body = _ERROR_PAGE.format(status=status, reason=reason).encode()
    head = [("Content-Length", str(len(body))), ("Content-Type", "text/html; charset=iso-8859-1")]
    await send_response(send, status, [*(fields or []), *head], b"" if scope["method"] == "HEAD" else body)


async def send_file(scope: Scope, receive: Receive, send: Send, path: Path, *, chunk_bytes: int) -> None:
    """Send the file, or the range of it that the request names, ``chunk_bytes`` at a time.

    Raises PermissionError and FileNotFoundError, before anything is sent, when the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise PermissionError(f"{path} is not a regular file")
        body = _FileBody(descriptor, receive, send, chunk_bytes)
        if path.suffix == ".txt":
            await _send_filtered_file(scope, send, body, state.st_size)
        else:
            await _send_plain_file(scope, send, body, _FileHead.of(path, state))
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _FileHead:
    """Size in bytes, validators and media type of a file, for the head of a response."""

    size: int
    etag: str
    modified: str
    modified_seconds: int
    media_type: str | None

    @classmethod
    def of(cls, path: Path, state: os.stat_result) -> "_FileHead":
        seconds = state.st_mtime_ns // 1_000_000_000
        etag = f'"{state.st_size:x}-{state.st_mtime_ns // 1000:x}"'
        modified = formatdate(seconds, usegmt=True)
        return cls(state.st_size, etag, modified, seconds, MEDIA_TYPES.get(path.suffix))

    def fields(self) -> Fields:
        media_type = [("Content-Type", self.media_type)] if self.media_type else []
        return [
            ("Last-Modified", self.modified),
            ("ETag", self.etag),
            ("Accept-Ranges", "bytes"),
            *media_type,
        ]


@dataclass(frozen=True, slots=True)
class _FileBody:
    """Open file whose bytes are sent as the body of a response."""

    descriptor: int
    receive: Receive
    send: Send
    chunk_bytes: int

    async def send_range(self, wanted: range) -> None:
        """Send the bytes at the offsets of ``wanted``.

        If the file shrinks meanwhile, the body ends before its Content-Length.
        """
        if len(wanted) <= self.chunk_bytes:
            # Handing a short read to a thread takes longer than the read.
            await self._send(os.pread(self.descriptor, len(wanted), wanted.start) if wanted else b"")
            return
        # The server drops what is sent to a client that has left, and would read the file to its end.
        disconnect = asyncio.create_task(wait_for_disconnect(self.receive))
        try:
            await self._send_chunks(wanted, disconnect)
        finally:
            disconnect.cancel()

    async def _send_chunks(self, wanted: range, disconnect: asyncio.Task[None]) -> None:
        in_thread = asyncio.get_running_loop().run_in_executor
        while wanted and not disconnect.done():
            size = min(len(wanted), self.chunk_bytes)
            chunk = await in_thread(None, os.pread, self.descriptor, size, wanted.start)
            if not chunk:
                return
            wanted = wanted[len(chunk) :]
            await self._send(chunk, more=bool(wanted))

    async def _send(self, chunk: bytes, *, more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": chunk, "more_body": more})


async def _send_filtered_file(scope: Scope, send: Send, body: _FileBody, size: int) -> None:
    if scope["method"] == "HEAD":
        await send_response(send, HTTPStatus.OK, [*_FILTERED, ("Content-Length", str(size))])
        return
    await _send_head(send, HTTPStatus.OK, _FILTERED)
    await body.send_range(range(size))


async def _send_plain_file(scope: Scope, send: Send, body: _FileBody, head: _FileHead) -> None:
    request = Headers(scope=scope)
    if _is_unchanged(request, head):
        await send_response(send, HTTPStatus.NOT_MODIFIED, [("ETag", head.etag)])
        return
    wanted = _requested_range(request, head) if scope["method"] == "GET" else None
    if wanted is not None and not wanted:
        fields = [("Content-Range", f"bytes */{head.size}")]
        await send_error(scope, send, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, fields)
        return
    status, fields = HTTPStatus.OK, head.fields()
    if wanted is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        fields.append(("Content-Range", f"bytes {wanted.start}-{wanted.stop - 1}/{head.size}"))
    whole = range(head.size) if wanted is None else wanted
    await _send_head(send, status, [*fields, ("Content-Length", str(len(whole)))])
    await body.send_range(range(0) if scope["method"] == "HEAD" else whole)


def _is_unchanged(request: Headers, head: _FileHead) -> bool:
    known = request.get("if-none-match")
    if known is not None:
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        return "*" in tags or head.etag in tags
    since = _parse_date(request.get("if-modified-since"))
    return since is not None and since >= head.modified_seconds


def _requested_range(request: Headers, head: _FileHead) -> range | None:
    """Return the offsets of a valid ``Range``, empty when none is in the file. None: the whole file."""
    condition = request.get("if-range")
    if condition is not None and condition not in {head.etag, head.modified}:
        return None
    found = _RANGE.fullmatch(request.get("range", ""))
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return range(max(head.size - int(last), 0), head.size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, head.size) if last else head.size)


def _parse_date(date: str | None) -> float | None:
    """Return an HTTP date as seconds since 1970 UTC; None for what is not a date."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None


async def _send_head(send: Send, status: int, fields: Fields) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in [_SERVER, *fields]]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})
