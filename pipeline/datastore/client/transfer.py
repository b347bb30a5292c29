"""Fetching one file: never more bytes than listed, md5 on the fly, resumed where that is safe.

Rules (protocol notes, "Files" and "How the real server misbehaves"):

* What is fetched must have the listed size and md5; nothing else decides.
* A partial file is resumed with ``Range`` and ``If-Range`` if it was begun under an ETag and has a
  listed md5, against which the whole is verified in the end. Without md5 it starts afresh.
* A server that answers 200 to a Range request sends the whole file: it starts afresh.
* ``*.txt`` files come chunked, with no validators and no ranges.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests

from pipeline.datastore.client.http import CHUNK_BYTES, DataStore, TryAgain, refuse_status
from pipeline.datastore.client.partial import STRONG_ETAG, Note
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch

WORTH_RESUMING_BYTES = 1 << 20
MISMATCHES_PER_RUN = 2
_LENGTH = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class Transfer:
    """One file on its way: ``url`` to ``partial``, which is whole and verified after ``fetch``.

    ``received`` is called with the number of bytes of each chunk, before it is written; it may wait,
    to keep to a rate.
    """

    store: DataStore
    url: str
    row: FileRow
    partial: Path
    received: Callable[[int], None]

    def fetch(self) -> None:
        """Fetch the file. Raises ContentMismatch or ServerUnavailable when patience is at its end."""
        self.store.patiently(self.attempt)
        self.note.forget()

    @property
    def note(self) -> Note:
        """What the partial file is a part of: beside it, so that a later run can go on."""
        return Note(self.partial.with_suffix(".json"), self.row)

    def attempt(self) -> None:
        """One try, over one connection. Raises TryAgain, ContentMismatch or ServerUnavailable."""
        with open(self.partial, "ab+") as file:
            etag = self._resumable_under(file)
            headers = {"Range": f"bytes={file.tell()}-", "If-Range": etag} if etag else {}
            with self.store.get(self.url, headers) as response:
                if response.status_code == 416:
                    raise self._mismatch(
                        f"expected {self.row.bytes} bytes as listed, the server has fewer", response
                    )
                self.refuse(response)
                if response.status_code != 206 or not self._continues(response, file.tell()):
                    self._start_afresh(file, response)
                self._receive(file, response)

    def take_whole(self, response: requests.Response) -> None:
        """Receive the answer to a request for the whole file. Raises as ``attempt``."""
        with open(self.partial, "ab+") as file:
            self._start_afresh(file, response)
            self._receive(file, response)

    def refuse(self, response: requests.Response, good: Collection[int] = (200, 206)) -> None:
        """Raise for a status that is not ``good``: ContentMismatch, or TryAgain where that is worth it."""
        refuse_status(response, self.url, ContentMismatch, f"the file {self.row.name!r}", good)

    def _resumable_under(self, file: BinaryIO) -> str | None:
        """The ETag under which the file can be resumed from its end; else the file is emptied."""
        held = file.seek(0, 2)
        known = self.note.read(held)
        if known and known.held == [(0, held)] and held < self.row.bytes:
            return known.etag
        file.truncate(0)
        return None

    def _continues(self, response: requests.Response, held: int) -> bool:
        """Whether a 206 holds what comes after the bytes that are here, to the listed end."""
        came = response.headers.get("Content-Range")
        if came == f"bytes {held}-{self.row.bytes - 1}/{self.row.bytes}":
            return True
        raise self._mismatch(
            f"expected bytes {held} to {self.row.bytes - 1} of {self.row.bytes}, got Content-Range {came!r}",
            response,
        )

    def _start_afresh(self, file: BinaryIO, response: requests.Response) -> None:
        offered = response.headers.get("Content-Length", "")
        if _LENGTH.fullmatch(offered) and int(offered) != self.row.bytes:
            raise self._mismatch(
                f"expected {self.row.bytes} bytes as listed, the server offers {offered}", response
            )
        file.truncate(0)
        etag = response.headers.get("ETag", "")
        self.note.forget()
        if STRONG_ETAG.fullmatch(etag) and self.row.md5 and self.row.bytes >= WORTH_RESUMING_BYTES:
            self.note.write(etag)

    def _receive(self, file: BinaryIO, response: requests.Response) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        size = _digest_into(digest, file)
        for chunk in chunks(response, self.row.bytes - size):
            size += len(chunk)
            if size > self.row.bytes:
                raise self._mismatch(f"expected {self.row.bytes} bytes as listed, got more", response)
            self.received(len(chunk))
            digest.update(chunk)
            file.write(chunk)
        if size < self.row.bytes:
            raise self.try_again(f"expected {self.row.bytes} bytes as listed, got {size}")
        self.check(digest, response)

    def check(self, digest: "hashlib._Hash", response: requests.Response | None = None) -> None:
        """Raise TryAgain when that is not the listed md5."""
        if self.row.md5 and digest.hexdigest() != self.row.md5:
            raise self._mismatch(f"expected md5 {self.row.md5} as listed, got {digest.hexdigest()}", response)

    def _mismatch(self, what: str, response: requests.Response | None) -> TryAgain:
        """A mismatch may have happened on the way: the partial file goes, and the file is tried again."""
        self.forget()
        encoding = response.headers.get("Content-Encoding") if response is not None else None
        return self.try_again(what + (f" (sent with Content-Encoding {encoding})" if encoding else ""))

    def try_again(self, what: str) -> TryAgain:
        """What came is not what was listed, which may be another matter the next time."""
        mismatch = ContentMismatch(f"{self.url}: {what}. The next run tries again.")
        return TryAgain(mismatch, at_most=MISMATCHES_PER_RUN)

    def forget(self) -> None:
        """Remove all that is here of the file."""
        self.partial.unlink(missing_ok=True)
        self.note.forget()


def chunks(response: requests.Response, expected: int) -> Iterator[bytes]:
    """The body, of which there should be ``expected`` bytes: those, and one more if there are more."""
    left = expected
    while chunk := response.raw.read(min(CHUNK_BYTES, left + 1), decode_content=False):
        left -= len(chunk)
        yield chunk
        if left <= 0 and response.headers.get("Content-Length"):
            return


def file_md5(path: Path) -> str:
    """The md5 of a file here, as 32 hex digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        _digest_into(digest, file)
    return digest.hexdigest()


def _digest_into(digest: "hashlib._Hash", file: BinaryIO) -> int:
    """Feed the whole file to the digest; the number of its bytes. The file is left at its end."""
    file.seek(0)
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    size = 0
    while count := file.readinto(buffer):
        digest.update(view[:count])
        size += count
    return size
