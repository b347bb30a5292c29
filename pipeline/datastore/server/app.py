"""Application of a Data Store: ``DataStoreApp``.

Of the paths below the prefix, ``…/index.txt`` is a listing, ``/PRODUCT/FILESET/NAME`` a file, and every other
an HTML page.
"""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote, unquote_to_bytes

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from pipeline.datastore.server.pages import Place, render_page
from pipeline.datastore.server.responses import send_error, send_file, send_listing, send_page
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


class DataStoreApp:
    """ASGI application that serves a tree below ``prefix``."""

    def __init__(self, tree: Tree, *, prefix: str = "/ds", limits: ServerLimits = DEFAULT_LIMITS) -> None:
        self.prefix = prefix.rstrip("/")
        self.limits = limits
        self._tree = tree

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        segments = self.path_segments(scope)
        if scope["method"] not in {"GET", "HEAD"}:
            await send_error(scope, send, HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET, HEAD")])
        elif segments is None:
            await send_error(scope, send, HTTPStatus.NOT_FOUND)
        elif segments[-1:] == ["index.txt"]:
            await self._respond_listing(scope, send, segments[:-1])
        elif len(segments) == 3:
            await self._respond_file(scope, receive, send, segments)
        else:
            await self._respond_page(scope, send, segments)

    def path_segments(self, scope: Scope) -> list[str] | None:
        """Return the decoded segments of the request's path below the prefix; None for a path outside.

        Bytes that are not UTF-8 are surrogate escapes, as in names of files.
        """
        path = scope["raw_path"].decode("latin-1")
        below = path.removeprefix(self.prefix)
        if not path.startswith(self.prefix) or below[:1] not in {"", "/"}:
            return None
        names = [unquote_to_bytes(name).decode("utf-8", "surrogateescape") for name in below.split("/")[1:]]
        return names[:-1] if names[-1:] == [""] and len(names) <= 3 else names

    async def _respond_listing(self, scope: Scope, send: Send, names: list[str]) -> None:
        query = unquote(scope["query_string"].decode("latin-1"))
        listing = await asyncio.to_thread(self._listing, names, query)
        if listing is None:
            await send_error(scope, send, HTTPStatus.NOT_FOUND)
        else:
            await send_listing(scope, send, listing)

    async def _respond_page(self, scope: Scope, send: Send, names: list[str]) -> None:
        last = scope["raw_path"].decode("latin-1").rpartition("/")[2]
        number = QueryParams(scope["query_string"]).get("page", "")
        html = await asyncio.to_thread(self._page, Place(tuple(names), last), number)
        if html is None:
            await send_error(scope, send, HTTPStatus.NOT_FOUND)
        else:
            await send_page(scope, send, html)

    async def _respond_file(self, scope: Scope, receive: Receive, send: Send, names: list[str]) -> None:
        try:
            path = self._tree.file(*names)
            if path is None:
                await send_error(scope, send, HTTPStatus.NOT_FOUND)
            else:
                await send_file(scope, receive, send, path, chunk_bytes=self.limits.chunk_bytes)
        except FileNotFoundError:
            await send_error(scope, send, HTTPStatus.NOT_FOUND)
        except PermissionError:
            await send_error(scope, send, HTTPStatus.FORBIDDEN)

    def _listing(self, names: list[str], query: str) -> bytes | None:
        match names:
            case []:
                return self._tree.root_listing()
            case [product]:
                return self._tree.product_listing(product, query or None)
            case [product, fileset]:
                return self._tree.fileset_listing(product, fileset)
        return None

    def _page(self, place: Place, number: str) -> str | None:
        listing = self._listing(list(place.names), "")
        if listing is None:
            return None
        page = int(number) if number.isdecimal() and len(number) < 10 else 1
        return render_page(place, listing, page, rows_per_page=self.limits.rows_per_page)
