"""Interface between the protocol and the network: all that listings and transfers need of HTTP."""

import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

from pipeline.datastore.client.retry import RetryableError
from pipeline.errors import MirrorError, ServerUnavailable

# Bytes of a body that are read at a time.
CHUNK_BYTES = 1 << 18
_RETRYABLE_STATUS = {408, 425, 429, 500, 502, 503, 504}


class NotFound(ServerUnavailable):
    """Listing that the server answers with 404."""


class NoAnswer(ServerUnavailable):
    """Server that cannot be reached, sends nothing, or fails: another request would end in the same way."""


class Response(Protocol):
    """Response to a GET, whose body has not been read yet. The names of ``headers`` are case-insensitive."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def reason(self) -> str:
        """Reason phrase of the status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields."""

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes of the body, as sent and as soon as there are some; b"" at its end."""


class Fetcher(Protocol):
    """Source of responses. Safe for use by several threads."""

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> AbstractContextManager[Response]:
        """Return the response to a GET, of any status; redirects within the server are followed.

        Raises RetryableError when the connection fails, also while the body is read inside the ``with``, or
        ServerUnavailable for a redirect that is not followed.
        """


def check_status(
    response: Response,
    url: str,
    error: type[MirrorError],
    wanted: str,
    good: Collection[int] = (200,),
) -> None:
    """Raise ``error`` for a status that is not ``good``; RetryableError where the server itself fails.

    A listing that is not found is NotFound, a kind of ServerUnavailable.
    """
    status = response.status
    if status in good:
        return
    message = f"{url}: expected {wanted}, got {status} {response.reason}".rstrip()
    if status == HTTPStatus.NOT_FOUND and error is ServerUnavailable:
        error = NotFound
        message += ". See that the name in this address is right, and source.url"
    message += ". The next run tries again."
    if status in _RETRYABLE_STATUS:
        raise RetryableError(NoAnswer(message), retry_after=_retry_after(response))
    raise error(message)


def _retry_after(response: Response) -> float | None:
    """Return the pause in the Retry-After field (seconds); None without a valid one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
