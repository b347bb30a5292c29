"""Client of listings: their addresses, and retries of invalid ones."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from pipeline.datastore.client.retry import RetryableError, RetryPolicy, retry
from pipeline.datastore.listing import (
    FileRow,
    FilesetRow,
    LeftOut,
    ProductRow,
    read_files,
    read_filesets,
    read_products,
)
from pipeline.errors import ServerUnavailable

T = TypeVar("T")


class UnknownFileset(ServerUnavailable):
    """Fileset that the server does not list, in a request for later filesets (protocol notes, "Since")."""


class ListingClient:
    """Listings of the Data Store at ``url``. Safe for use by several threads.

    ``fetch_body`` returns the body of a listing by its address, valid or not. It raises RetryableError, or
    ServerUnavailable.
    """

    def __init__(self, url: str, fetch_body: Callable[[str], bytes], retry_policy: RetryPolicy) -> None:
        self.url = url.rstrip("/")
        self.retry_policy = retry_policy
        self._fetch_body = fetch_body

    def products(self, left_out: LeftOut | None = None) -> list[ProductRow]:
        """Return the products that the root lists; damaged rows are added to ``left_out``.

        Raises ServerUnavailable.
        """
        url = f"{self.url}/index.txt"
        return self._listing(url, lambda body: read_products(body, url, left_out))

    def filesets(
        self, product: str, since: str | None = None, left_out: LeftOut | None = None
    ) -> list[FilesetRow]:
        """Return the filesets of a product, oldest first; with ``since`` those registered after that one.

        Damaged rows are added to ``left_out``.
        Raises UnknownFileset when the server does not list ``since``, else ServerUnavailable.
        """
        url = f"{self.url}/{_segment(product)}/index.txt" + (f"?{_segment(since)}" if since else "")

        def read(body: bytes) -> list[FilesetRow]:
            if since and not body.strip():
                raise UnknownFileset(f"{url}: the server does not list fileset {since!r} (any more)")
            return read_filesets(body, url, left_out)

        return self._listing(url, read)

    def files(self, product: str, fileset: str, *, may_be_empty: bool = True) -> tuple[bytes, list[FileRow]]:
        """Return the fileset's ``index.txt`` as served, and the files that it lists.

        Raises ServerUnavailable, also for a listing without rows unless it ``may_be_empty``, or
        ContentMismatch for rows that make no sense.
        """
        url = f"{self.url}/{_segment(product)}/{_segment(fileset)}/index.txt"

        def read(body: bytes) -> tuple[bytes, list[FileRow]]:
            rows = read_files(body, url)
            if not rows and not may_be_empty:
                raise ServerUnavailable(
                    f"{url}: expected the documents of a distribution fileset at least, got a listing "
                    "without files. Nothing is changed in the mirror; the next run tries again."
                )
            return body, rows

        return self._listing(url, read)

    def file_url(self, product: str, fileset: str, name: str) -> str:
        """Return the address of a file."""
        return f"{self.url}/{_segment(product)}/{_segment(fileset)}/{_segment(name)}"

    def _listing(self, url: str, read: Callable[[bytes], T]) -> T:
        """Return ``read`` of the body. An invalid listing may be a transient fault: it is fetched again."""

        def attempt() -> T:
            body = self._fetch_body(url)
            try:
                return read(body)
            except UnknownFileset:
                raise
            except ServerUnavailable as error:
                raise RetryableError(error) from None

        return retry(self.retry_policy, attempt)


def _segment(name: str) -> str:
    """Return the name as one segment of a path or as a query (protocol notes, "Names in addresses").

    The original server looks for a name as it was sent, undecoded. Of the characters of names only the blank
    is illegal in an address. All others, which a shell might read, are encoded as well.
    """
    return quote(name, safe="+:")
