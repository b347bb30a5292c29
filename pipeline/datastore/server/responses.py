"""How a Data Store answers: listings, files with ranges and validators, errors (protocol notes, "Answers").

* Listings and ``*.txt`` files pass through an include filter: chunked, no validators, no ranges, although
  the server says that it accepts them.
* Other files: GET, HEAD, one ``Range`` (206, 416), ``If-Range``, 304. Several ranges at once are answered
  with the whole file, as the standard allows.
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

CHUNK_BYTES = 1 << 18
"""How much of a file is read and handed to the connection at a time."""

MEDIA_TYPES = {
    ".tgz": "application/x-gzip",
    ".gz": "application/x-gzip",
    ".fits": "image/fits",
    ".txt": "text/plain",
    ".mdc": "application/vnd.marlin.drm.mdcf",
    ".tar": "application/x-tar",
    ".html": "text/html",
}
"""Media types by the last suffix; a file of another kind is sent without one."""

_SERVER = ("Server", f"ipp-mirror/{__version__}")
_FILTERED = [("Accept-Ranges", "bytes"), ("Content-Type", "text/plain")]
_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*")
_ERROR_PAGE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html><head>
<title>{status.value} {status.phrase}</title>
</head><body>
<h1>{status.phrase}</h1>
<p>{reason}</p>
</body></html>
"""
_REASONS = {
    HTTPStatus.NOT_FOUND: "The requested URL was not found on this server.",
    HTTPStatus.FORBIDDEN: "You don't have permission to access this resource.",
}

TRANSPORT = "pipeline.transport"
"""The ASGI extension under which an application finds the ``asyncio.Transport`` of its connection."""

Fields = list[tuple[str, str]]


class ClientGone(Exception):
    """The connection is closed: nothing more can be sent on it."""


async def disconnected(receive: Receive) -> None:
    """Wait until the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Send, status: int, fields: Fields, body: bytes = b"") -> None:
    """One whole answer; chunked unless ``fields`` give a Content-Length."""
    await _begin(send, status, fields)
    await send({"type": "http.response.body", "body": body})


async def answer_listing(scope: Scope, send: Send, body: bytes) -> None:
    """A listing: 200, chunked, with nothing to tell one from the next."""
    await answer(send, 200, _FILTERED, b"" if scope["method"] == "HEAD" else body)


async def answer_page(scope: Scope, send: Send, page: str) -> None:
    """A page for people."""
    body = page.encode()
    fields = [("Content-Length", str(len(body))), ("Content-Type", "text/html; charset=utf-8")]
    await answer(send, 200, fields, b"" if scope["method"] == "HEAD" else body)


async def answer_error(scope: Scope, send: Send, status: HTTPStatus, fields: Fields | None = None) -> None:
    """An error with a short page that names it."""
    reason = _REASONS.get(status, status.description)
    body = _ERROR_PAGE.format(status=status, reason=reason).encode()
    head = [("Content-Length", str(len(body))), ("Content-Type", "text/html; charset=iso-8859-1")]
    await answer(send, status, [*(fields or []), *head], b"" if scope["method"] == "HEAD" else body)


async def answer_file(scope: Scope, send: Send, path: Path) -> None:
    """The file, or the part of it that was asked for.

    Raises PermissionError and FileNotFoundError, before anything is sent, when it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise PermissionError(f"{path} is no regular file")
        if path.suffix == ".txt":
            await _answer_filtered_file(scope, send, descriptor, state.st_size)
        else:
            await _answer_plain_file(scope, send, descriptor, _Facts.of(path, state))
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the head of an answer says of a file: bytes, validators, media type."""

    size: int
    etag: str
    modified: str
    modified_seconds: int
    media_type: str | None

    @classmethod
    def of(cls, path: Path, state: os.stat_result) -> "_Facts":
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


async def _answer_filtered_file(scope: Scope, send: Send, descriptor: int, size: int) -> None:
    if scope["method"] == "HEAD":
        await answer(send, 200, [*_FILTERED, ("Content-Length", str(size))])
        return
    await _begin(send, 200, _FILTERED)
    await _send_part(send, descriptor, range(size))


async def _answer_plain_file(scope: Scope, send: Send, descriptor: int, facts: _Facts) -> None:
    asked = Headers(scope=scope)
    if _is_unchanged(asked, facts):
        await answer(send, 304, [("ETag", facts.etag)])
        return
    part = _part_asked_for(asked, facts) if scope["method"] == "GET" else None
    if part is not None and not part:
        fields = [("Content-Range", f"bytes */{facts.size}")]
        await answer_error(scope, send, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, fields)
        return
    fields = facts.fields()
    if part is not None:
        fields.append(("Content-Range", f"bytes {part.start}-{part.stop - 1}/{facts.size}"))
    whole = range(facts.size) if part is None else part
    await _begin(send, 200 if part is None else 206, [*fields, ("Content-Length", str(len(whole)))])
    await _send_part(send, descriptor, range(0) if scope["method"] == "HEAD" else whole)


def _is_unchanged(asked: Headers, facts: _Facts) -> bool:
    known = asked.get("if-none-match")
    if known is not None:
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        return "*" in tags or facts.etag in tags
    since = _seconds(asked.get("if-modified-since"))
    return since is not None and since >= facts.modified_seconds


def _part_asked_for(asked: Headers, facts: _Facts) -> range | None:
    """The bytes of a ``Range`` that counts; empty when there are none such, None for the whole file."""
    condition = asked.get("if-range")
    if condition is not None and condition not in {facts.etag, facts.modified}:
        return None
    found = _RANGE.fullmatch(asked.get("range", ""))
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return range(max(facts.size - int(last), 0), facts.size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, facts.size) if last else facts.size)


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


async def _begin(send: Send, status: int, fields: Fields) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in [_SERVER, *fields]]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})


async def _send_part(send: Send, descriptor: int, part: range) -> None:
    """The bytes of the file at the offsets of ``part``.

    A short file is read here and now: handing it to a thread takes longer than reading it. A file that
    shrinks meanwhile ends the answer early, which the reader sees by its length.
    """
    in_thread = asyncio.get_running_loop().run_in_executor
    left = part
    while len(left) > CHUNK_BYTES:
        chunk = await in_thread(None, os.pread, descriptor, CHUNK_BYTES, left.start)
        if not chunk:
            return
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        left = left[len(chunk) :]
    chunk = os.pread(descriptor, len(left), left.start) if left else b""
    await send({"type": "http.response.body", "body": chunk})
