"""The client of a Data Store: asks for listings and fetches files over one pool of connections.

What a listing or a file must be to count is decided in ``listing`` and ``transfer``; here is the
HTTP: which answers are tried again, after which pauses, and which redirects are followed.
"""

import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from pipeline import __version__
from pipeline.datastore.listing import (
    FileRow,
    FilesetRow,
    ProductRow,
    read_files,
    read_filesets,
    read_products,
)
from pipeline.errors import MirrorError, ServerUnavailable

USER_AGENT = f"ipp-mirror/{__version__}"
MAX_LISTING_BYTES = 1 << 30
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 18
_SHORT_LENGTH = re.compile("[0-9]{1,4}")
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
# Not OSError: what is done with the bytes inside ``get`` may fail on this machine's disk.
_TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How often a request is tried, and how long is waited in between (seconds).

    The pause doubles from ``first_pause``; a Retry-After of the server replaces it, up to
    ``longest_pause``.
    """

    attempts: int = 4
    first_pause: float = 1.0
    longest_pause: float = 300.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self, failures: int, retry_after: float | None) -> None:
        """Wait before the next try, after so many failures."""
        growing = self.first_pause * 2 ** (failures - 1) * random.uniform(0.8, 1.2)
        self.sleep(min(self.longest_pause, growing if retry_after is None else retry_after))


class TryAgain(Exception):
    """The answer may be another one a moment later; ``final`` is raised when there is no more patience.

    ``retry_after`` is the pause (seconds) that the server asked for; ``at_most`` is how many such answers
    are had at most, where another try is worth it but many are not.
    """

    def __init__(
        self, final: MirrorError, *, retry_after: float | None = None, at_most: int | None = None
    ) -> None:
        super().__init__(str(final))
        self.final = final
        self.retry_after = retry_after
        self.at_most = at_most


class UnknownFileset(ServerUnavailable):
    """The server does not know the fileset after which it was asked (protocol notes, "Since")."""


class _Session(requests.Session):
    """What requests does besides sending, without what a Data Store does not need.

    Redirects are left to the client: requests looks where they lead even when it is told not to follow. It
    would read the body of one to its end, if it has any, and break on a Location that is no address.

    The proxies, certificates and passwords of the environment are looked up once for each origin, not
    for each request, and of a request only method, address and headers are its own: all else is that of the
    first one there. Cookies are not kept: a request is to be the same whenever it is made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._surroundings: dict[_Origin, dict[str, Any]] = {}
        self._first: dict[_Origin, requests.PreparedRequest] = {}

    def get_redirect_target(self, _response: requests.Response) -> None:
        return None

    def merge_environment_settings(self, url: str, *settings: Any) -> dict[str, Any]:
        origin = _origin(url)
        if origin not in self._surroundings:
            self._surroundings[origin] = super().merge_environment_settings(url, *settings)
        return dict(self._surroundings[origin])

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        if "@" in request.url:
            return super().prepare_request(request)  # a redirect that brings a password of its own
        origin = _origin(request.url)
        if origin not in self._first:
            # Whatever is given as a password here keeps requests from reading netrc.
            password = requests.utils.get_netrc_auth(request.url) or _without_password
            self._first[origin] = super().prepare_request(
                requests.Request(request.method, request.url, auth=password)
            )
        prepared = self._first[origin].copy()
        prepared.prepare_method(request.method)
        prepared.prepare_url(request.url, None)
        prepared.headers.update(request.headers or {})
        return prepared


def _without_password(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Permits:
    """Leave to use a connection, for so many at once, as they come. Safe for use by several threads."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self) -> None:
        """Take one, when one is free and nobody came before."""
        place = object()
        with self._changed:
            self._waiting.append(place)
            self._changed.wait_for(lambda: self._free and self._waiting[0] is place)
            self._waiting.popleft()
            self._free -= 1
            self._changed.notify_all()

    def give_back(self) -> None:
        """Let others have it."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()


class DataStore:
    """One Data Store at a base URL. Safe for use by several threads.

    At most ``connections`` connections are in use at once; further requests wait for a free one.
    ``timeout`` is the seconds without a byte after which a request is given up. Proxies, netrc and
    certificates are those that requests finds in the environment.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 8,
        timeout: float = 60.0,
        patience: Patience | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        # How the body of a listing is had: by a request from here, unless another process makes it.
        self.ask: Callable[[str], bytes] = self.body
        self.patience = patience or Patience()
        self.timeout = timeout
        # Not ``pool_block``: that is a limit for each pool, and http that leads to https needs two.
        self._permits = _Permits(connections)
        self._session = _Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=connections)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()

    def products(self) -> list[ProductRow]:
        """The products that the root lists. Raises ServerUnavailable."""
        url = f"{self.url}/index.txt"
        return self._listing(url, lambda body: read_products(body, url))

    def filesets(self, product: str, since: str | None = None) -> list[FilesetRow]:
        """The filesets of a product, oldest first; with ``since`` those registered after that one.

        Raises UnknownFileset when the server does not know ``since``, else ServerUnavailable.
        """
        url = f"{self.url}/{_segment(product)}/index.txt" + (f"?{_segment(since)}" if since else "")

        def read(body: bytes) -> list[FilesetRow]:
            if since and not body.strip():
                raise UnknownFileset(f"{url}: the server does not know fileset {since!r} (any more)")
            return read_filesets(body, url)

        return self._listing(url, read)

    def files(self, product: str, fileset: str) -> tuple[bytes, list[FileRow]]:
        """The fileset's ``index.txt`` as served, and the files that it lists.

        Raises ServerUnavailable, or ContentMismatch for rows that make no sense.
        """
        url = f"{self.url}/{_segment(product)}/{_segment(fileset)}/index.txt"
        return self._listing(url, lambda body: (body, read_files(body, url)))

    def file_url(self, product: str, fileset: str, name: str) -> str:
        """Where a file is served."""
        return f"{self.url}/{_segment(product)}/{_segment(fileset)}/{_segment(name)}"

    def patiently(self, attempt: Callable[[], T]) -> T:
        """The result of ``attempt``, tried again after a pause whenever it raises TryAgain."""
        failures = limited = 0
        while True:
            try:
                return attempt()
            except TryAgain as again:
                failures += 1
                limited += again.at_most is not None
                if failures >= self.patience.attempts or (again.at_most and limited >= again.at_most):
                    raise again.final from None
                self.patience.pause(failures, again.retry_after)

    @contextmanager
    def get(self, url: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """The streamed answer to a GET, whatever its status, redirects within the server followed.

        Raises TryAgain when the connection fails, here or while the body is read inside the ``with``.
        """
        self._permits.take()
        try:
            with self._followed(url, headers or {}) as response:
                yield response
        except _TRANSPORT_ERRORS as error:
            raise TryAgain(
                ServerUnavailable(f"{url}: expected an answer, got {_said(error)}. The next run asks again.")
            ) from None
        finally:
            self._permits.give_back()

    def _followed(self, url: str, headers: dict[str, str]) -> requests.Response:
        asked = url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._session.get(
                url, headers=headers, stream=True, timeout=self.timeout, allow_redirects=False
            )
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return response
            _let_go(response)
            url = _redirected(url, response.headers["Location"])
        raise ServerUnavailable(
            f"{asked}: expected an answer, got more than {MAX_REDIRECTS} redirects, the last to {url}. "
            "The next run asks again."
        )

    def body(self, url: str) -> bytes:
        """The body of a listing, valid or not. Raises TryAgain or ServerUnavailable."""
        with self.get(url) as response:
            refuse_status(response, url, ServerUnavailable, "a listing")
            return _whole_body(response, url)

    def _listing(self, url: str, read: Callable[[bytes], T]) -> T:
        """What ``read`` makes of the listing; an invalid one may be a passing trouble and is tried again."""

        def attempt() -> T:
            body = self.ask(url)
            try:
                return read(body)
            except UnknownFileset:
                raise
            except ServerUnavailable as error:
                raise TryAgain(error) from None

        return self.patiently(attempt)


def _segment(name: str) -> str:
    """The name as one segment of a path or as a query, every special character encoded."""
    return quote(name, safe="")


def refuse_status(
    response: requests.Response,
    url: str,
    error: type[MirrorError],
    wanted: str,
    good: Collection[int] = (200,),
) -> None:
    """Raise ``error`` for a status that is not ``good``, as TryAgain where another try is worth it."""
    status = response.status_code
    if status in good:
        return
    refusal = error(
        f"{url}: expected {wanted}, got {status} {response.reason or ''}".rstrip()
        + ". The next run asks again."
    )
    if status in _WORTH_ANOTHER_TRY:
        raise TryAgain(refusal, retry_after=_retry_after(response))
    raise refusal


def _let_go(response: requests.Response) -> None:
    """Be done with a redirect; its connection is kept where the body is said to be short."""
    length = response.headers.get("Content-Length", "")
    if _SHORT_LENGTH.fullmatch(length):
        # One more than that: where there is nothing, only asking for something shows the end.
        response.raw.read(int(length) + 1, decode_content=False)
    response.close()


def _whole_body(response: requests.Response, url: str) -> bytes:
    """The body of a listing; ``read`` raises for one that was cut short, chunked or not."""
    body = bytearray()
    while chunk := response.raw.read(CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > MAX_LISTING_BYTES:
            raise ServerUnavailable(f"{url}: expected a listing, got more than {MAX_LISTING_BYTES} bytes")
    return bytes(body)


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads, when that is the same server: an answer from elsewhere is not its answer."""
    try:
        target = urljoin(url, location)
        old, new = _origin(url), _origin(target)
    except ValueError:
        raise ServerUnavailable(
            f"{url}: expected an answer, got a redirect to {location!r}, which is no address. "
            "The next run asks again."
        ) from None
    same = old == new
    safer = (old.scheme, new.scheme) == ("http", "https") and old.host == new.host
    if same or safer:
        return target
    raise ServerUnavailable(
        f"{url}: expected an answer from {old}, got a redirect to {target}, "
        "which is not followed. If the Data Store has moved, change source.url in mirror.yaml."
    )


class _Origin(NamedTuple):
    """Which server an address leads to."""

    scheme: str
    host: str | None
    port: int | None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port else "")


def _origin(url: str) -> _Origin:
    """Raises ValueError for what is no address."""
    parts = urlsplit(url)
    return _Origin(parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))


def _retry_after(response: requests.Response) -> float | None:
    """The seconds that the server asks to wait; None when it does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _said(error: BaseException) -> str:
    """The innermost reason of a transport error that says something, in few words."""
    while (inner := error.__cause__ or error.__context__) is not None and type(inner) is not ValueError:
        error = inner
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
