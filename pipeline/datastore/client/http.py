"""HTTP client of a Data Store: connections, redirects, and the errors of the network."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin

import requests
from urllib3.util import parse_url

from pipeline.datastore.client.fetcher import CHUNK_BYTES, NoAnswer, check_status
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.listings import ListingClient
from pipeline.datastore.client.retry import RetryableError, RetryPolicy
from pipeline.datastore.client.semaphore import FifoSemaphore
from pipeline.datastore.client.session import HTTPS_PORT, Origin, Session
from pipeline.datastore.client.transport_errors import TRANSPORT_ERRORS, describe
from pipeline.errors import ServerUnavailable

_SHOWN = 200
_REDIRECTS = {301, 302, 303, 307, 308}
# Characters that one parser of addresses takes for an end of the host, or leaves out, and another does not.
_AMBIGUOUS = re.compile(r"[\\\x00-\x1f\x7f]")
_SHORT_LENGTH = re.compile("[0-9]{1,4}")


class HttpResponse:
    """Response whose body has not been read yet, as ``fetcher.Response``."""

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self._raw = response.raw

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes of the body, as sent and as soon as there are some; b"" at its end."""
        chunk: bytes = self._raw.read1(size, decode_content=False)
        return chunk


class DataStoreClient(ListingClient):
    """Client of the Data Store at ``url``: its listings, and the responses to requests for its files.

    Safe for use by several threads. Requests beyond ``limits.connections`` wait for a free connection, in the
    order of their arrival. Proxies, netrc and certificates are those of the environment, as in requests.

    Once ``stopping`` is set, a request that fails is final, and so are all after it: a server that sends
    nothing, or little, does not delay the end of a run.
    """

    def __init__(
        self, url: str, limits: Limits, retry_policy: RetryPolicy, stopping: threading.Event | None = None
    ) -> None:
        super().__init__(url, self.fetch_body, retry_policy)
        self._limits = limits
        self._stopping = stopping or threading.Event()
        self._stopped = False
        # Not ``pool_block`` of requests: it limits each pool alone, and http that leads to https needs two.
        self._free_connections = FifoSemaphore(self._limits.connections)
        self._session = Session(limits, self._stopping)

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[HttpResponse]:
        """Yield the streamed response to a GET, of any status; redirects within the server are followed.

        Raises RetryableError when the connection fails, also while the body is read inside the ``with``, or
        ServerUnavailable for a redirect that is not followed, or while the run stops; NoAnswer, a kind of it,
        is what the RetryableError ends in where there was no response.
        """
        missing = "no response"
        unavailable: type[ServerUnavailable] = NoAnswer
        with self._free_connections:
            if self._stopped:
                raise ServerUnavailable(f"{url}: not requested, as the run stops. The next run tries again.")
            try:
                with self._follow(url, dict(headers or {})) as response:
                    missing, unavailable = "no more bytes", ServerUnavailable
                    yield HttpResponse(response)
            except TRANSPORT_ERRORS as error:
                cause = describe(error, url, missing, self._limits.timeout)
                failure = unavailable(f"{url}: {cause}. The next run tries again.")
                self._stopped = self._stopping.is_set()
                raise (failure if self._stopped else RetryableError(failure)) from None

    def fetch_body(self, url: str) -> bytes:
        """Return the body of a listing, valid or not. Raises RetryableError or ServerUnavailable."""
        deadline = time.monotonic() + self._limits.listing_seconds
        with self.get(url) as response:
            check_status(response, url, ServerUnavailable, "a listing")
            _check_encoding(response, url)
            body = bytearray()
            # An error of the transport is raised for a body that was cut short, chunked or not.
            while chunk := response.read(CHUNK_BYTES):
                body += chunk
                if len(body) > self._limits.listing_bytes:
                    raise ServerUnavailable(
                        f"{url}: expected a listing, got more than {self._limits.listing_bytes} bytes"
                    )
                if time.monotonic() > deadline:
                    raise ServerUnavailable(
                        f"{url}: expected a listing within {self._limits.listing_seconds:g} s, "
                        f"got {len(body)} bytes of one. The next run tries again."
                    )
            return bytes(body)

    def _follow(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Return the first response that is no redirect. Raises ServerUnavailable after too many."""
        first = url
        for _ in range(self._limits.redirects + 1):
            response = self._session.get(
                url, headers=headers, stream=True, timeout=self._limits.timeout, allow_redirects=False
            )
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return response
            _release(response)
            url = _redirected(url, response.headers["Location"])
        raise ServerUnavailable(
            f"{first}: more than {self._limits.redirects} redirects, the last to {url}. "
            "The next run tries again."
        )


def _check_encoding(response: HttpResponse, url: str) -> None:
    """Raise RetryableError for a listing in an encoding that was not requested: a bomb may be in it."""
    encoding = response.headers.get("Content-Encoding", "identity").strip()
    if encoding.lower() not in {"", "identity"}:
        raise RetryableError(
            ServerUnavailable(
                f"{url}: expected a listing without Content-Encoding, got {encoding[:_SHOWN]!r}. "
                "The next run tries again."
            )
        )


def _release(response: requests.Response) -> None:
    """Release the connection of a redirect; it is kept where the body is known to be short."""
    length = response.headers.get("Content-Length", "")
    if _SHORT_LENGTH.fullmatch(length):
        # One byte more: without a body, only reading something shows the end.
        HttpResponse(response).read(int(length) + 1)
    response.close()


def _redirected(url: str, location: str) -> str:
    """Return the target of a redirect within the server, as urllib3 reads it: no other server responds.

    Raises ServerUnavailable for any other target.
    """
    try:
        if _AMBIGUOUS.search(location):
            raise ValueError
        target = parse_url(urljoin(url, location))
        old, new = Origin.of(url), Origin.of(target.url)
    except ValueError:
        raise ServerUnavailable(
            f"{url}: expected a redirect to an address, got one to {location[:_SHOWN]!r}. "
            "The next run tries again."
        ) from None
    if target.auth is not None:
        raise ServerUnavailable(
            f"{url}: expected a redirect without a user name, got one with a user name, to {new}, "
            "which is not followed. A user name and password belong in ~/.netrc."
        )
    # The port may be the default one, or that of the http server: another one is another program's.
    to_https = (old.scheme, new.scheme) == ("http", "https") and old.host == new.host
    if old == new or (to_https and new.port in {HTTPS_PORT, old.port}):
        return target.url
    raise ServerUnavailable(
        f"{url}: expected a response from {old}, got a redirect to {target.url[:_SHOWN]}, "
        "which is not followed. If the Data Store has moved, change source.url in mirror.yaml."
    )
