"""Application of a Data Store: ``DataStoreApp``.

Of the paths below the prefix, ``…/index.txt`` is a listing, ``/PRODUCT/FILESET/NAME`` a file, and every other
an HTML page, whose URL ends in a slash. The root of the host leads to the page of the prefix.
"""

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, unquote, unquote_to_bytes

from starlette.datastructures import Headers, QueryParams
from starlette.types import Message, Receive, Scope, Send

from pipeline.datastore.listing import INDEX
from pipeline.datastore.server.pages import render_page
from pipeline.datastore.server.responses import (
    discard_body,
    send_error,
    send_file,
    send_listing,
    send_page,
    send_redirect,
)
from pipeline.datastore.server.tree import Tree


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of a server.

    ``connections``: most at once, fewer where the process may not open two files for each; others wait.
    ``request_bytes`` and ``request_seconds``: most for a request, head and body. ``stall_seconds``: time
    after which a connection is closed whose client acknowledges nothing of a response.
    ``keep_alive_seconds``: the same for one without a request. ``shutdown_seconds``: time after which
    requests in progress are cancelled at a shutdown. ``backlog``: connections that wait to be accepted.
    ``chunk_bytes``: part of a response written at a time. ``rows_per_page``: filesets on an HTML page.
    """

    connections: int = 512
    request_bytes: int = 1 << 16
    request_seconds: float = 30
    stall_seconds: float = 60
    keep_alive_seconds: int = 15
    shutdown_seconds: int = 1
    backlog: int = 1024
    chunk_bytes: int = 1 << 18
    rows_per_page: int = 200


DEFAULT_LIMITS = ServerLimits()

_STATUS_OF_ERRORS = {
    FileNotFoundError: HTTPStatus.NOT_FOUND,
    NotADirectoryError: HTTPStatus.NOT_FOUND,
    PermissionError: HTTPStatus.FORBIDDEN,
}

_logger = logging.getLogger(__name__)


class DataStoreApp:
    """ASGI application that serves a tree below ``prefix``."""

    def __init__(self, tree: Tree, *, prefix: str = "/ds", limits: ServerLimits = DEFAULT_LIMITS) -> None:
        self.prefix = prefix.rstrip("/")
        self.limits = limits
        self._tree = tree

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request.

        An error of the disk is logged, and 503 to the client, or ends a response in progress.
        """
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._respond(scope, receive, send_on)
        except OSError as error:
            status = _STATUS_OF_ERRORS.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE)
            if status is HTTPStatus.SERVICE_UNAVAILABLE:
                _logger.error("cannot respond to %s %r: %s", scope["method"], scope["raw_path"], error)
            if not started:
                await send_error(scope, send, status)

    def path_segments(self, scope: Scope) -> list[str] | None:
        """Return the decoded segments of the request's path below the prefix; None for a path outside.

        Repeated slashes are one. Bytes that are not UTF-8 are surrogate escapes, as in names of files.
        """
        raw = [name for name in scope["raw_path"].decode("latin-1").split("/") if name]
        prefix = [name for name in self.prefix.split("/") if name]
        if raw[: len(prefix)] != prefix:
            return None
        return [_decoded(name) for name in raw[len(prefix) :]]

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        segments = self.path_segments(scope)
        is_listing = segments is not None and segments[-1:] == [INDEX]
        allowed = ["GET", "HEAD", "POST"] if is_listing else ["GET", "HEAD"]
        ends_in_slash = scope["raw_path"].endswith(b"/")
        if scope["method"] not in allowed:
            await send_error(scope, send, HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", ", ".join(allowed))])
        elif segments is None and not scope["raw_path"].strip(b"/"):
            await send_redirect(scope, send, quote(f".{self.prefix}/"), HTTPStatus.FOUND)
        elif segments is None:
            reason = f"This server has nothing at the requested URL; its Data Store is at {self.prefix}/."
            await send_error(scope, send, HTTPStatus.NOT_FOUND, reason=reason)
        elif ends_in_slash and (is_listing or len(segments) > 2):
            await send_error(scope, send, HTTPStatus.NOT_FOUND)
        elif is_listing:
            await self._respond_listing(scope, receive, send, segments[:-1])
        elif len(segments) == 3:
            await self._respond_file(scope, receive, send, segments)
        elif ends_in_slash:
            await self._respond_page(scope, send, segments)
        else:
            await self._redirect_to_page(scope, send, segments)

    async def _respond_listing(self, scope: Scope, receive: Receive, send: Send, names: list[str]) -> None:
        if scope["method"] == "POST":
            await discard_body(receive)
        query = unquote(scope["query_string"].decode("latin-1"))
        listing = await asyncio.to_thread(self._listing, names, query)
        if listing is None:
            raise FileNotFoundError
        await send_listing(scope, send, listing, chunk_bytes=self.limits.chunk_bytes)

    async def _respond_page(self, scope: Scope, send: Send, names: list[str]) -> None:
        number = QueryParams(scope["query_string"]).get("page", "")
        # ``wget -r`` follows every link, and must stay below the page at which it begins.
        is_wget = "wget" in Headers(scope=scope).get("user-agent", "").lower()
        html = await asyncio.to_thread(self._page, names, number, upward=not is_wget)
        await send_page(scope, send, html)

    async def _redirect_to_page(self, scope: Scope, send: Send, names: list[str]) -> None:
        if await asyncio.to_thread(self._listing, names, "") is None:
            raise FileNotFoundError
        # Relative, and quoted anew: no text of the request can become the name of another host.
        last = scope["raw_path"].decode("latin-1").rpartition("/")[2]
        query = quote(scope["query_string"], safe="%=&")
        await send_redirect(scope, send, f"./{quote(unquote_to_bytes(last))}/" + (query and f"?{query}"))

    async def _respond_file(self, scope: Scope, receive: Receive, send: Send, names: list[str]) -> None:
        path = self._tree.file(*names)
        if path is None:
            raise FileNotFoundError
        await send_file(scope, receive, send, path, chunk_bytes=self.limits.chunk_bytes)

    def _listing(self, names: list[str], query: str) -> bytes | None:
        match names:
            case []:
                return self._tree.root_listing()
            case [product]:
                return self._tree.product_listing(product, query or None)
            case [product, fileset]:
                return self._tree.fileset_listing(product, fileset)
        return None

    def _page(self, names: list[str], number: str, *, upward: bool) -> str:
        listing = self._listing(names, "")
        if listing is None:
            raise FileNotFoundError
        page = int(number) if number.isdecimal() and len(number) < 10 else 1
        return render_page(names, listing, page, rows_per_page=self.limits.rows_per_page, upward=upward)


def _decoded(name: str) -> str:
    return unquote_to_bytes(name).decode("utf-8", "surrogateescape")
