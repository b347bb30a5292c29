"""Transfer of one file: never more bytes than listed, md5 on the fly, resumed where that is safe.

Rules (protocol notes, "Files" and "How the real server misbehaves"):

* The file must have the listed size and md5; nothing else decides.
* A partial file is resumed with ``Range`` if it has a listed md5, against which the whole file is verified;
  if that is wrong, the transfer starts afresh. Without a listed md5 it starts afresh at once. No validator
  is compared: those of two front ends of one server differ.
* A 200 response to a Range request has the whole file: the transfer starts afresh.
* ``*.txt`` files are sent chunked, with no validators and no ranges.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.datastore.client.fetcher import CHUNK_BYTES, Fetcher, Response, check_status
from pipeline.datastore.client.partial import ResumeRecord
from pipeline.datastore.client.retry import RetryableError, RetryPolicy, retry
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch

_LENGTH = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class TransferPolicy:
    """Policy of all transfers.

    Files of ``resumable_from`` bytes and more have a resume record. A file whose size or md5 differs from
    the listing is fetched ``mismatches`` times at most.
    """

    resumable_from: int = 1 << 20
    mismatches: int = 2


@dataclass(frozen=True)
class Transfer:
    """Transfer of the file at ``url`` to ``partial``, which is whole and verified after ``fetch``.

    ``received`` is called with the number of bytes of each chunk, before it is written; it may wait, to keep
    to a rate.
    """

    fetcher: Fetcher
    retry_policy: RetryPolicy
    url: str
    row: FileRow
    partial: Path
    received: Callable[[int], None]
    policy: TransferPolicy = TransferPolicy()

    def fetch(self) -> None:
        """Fetch the file. Raises ContentMismatch or ServerUnavailable when no try is left."""
        retry(self.retry_policy, self.attempt, self.held)
        self.record.remove()

    @property
    def record(self) -> ResumeRecord:
        """Resume record, beside the partial file."""
        return ResumeRecord(self.partial.with_suffix(".json"), self.row)

    def held(self) -> int:
        """Return the number of bytes that a further try does not request again."""
        length = self.partial.stat().st_size if self.partial.exists() else 0
        return sum(end - start for start, end in self.record.read(length))

    def attempt(self) -> None:
        """Try once, over one connection. Raises RetryableError, ContentMismatch or ServerUnavailable."""
        with open(self.partial, "ab+") as file:
            held = self._resumable(file)
            headers = {"Range": f"bytes={held}-"} if held else {}
            with self.fetcher.get(self.url, headers) as response:
                if response.status == 416:
                    raise self._mismatch(
                        f"expected {self.row.bytes} bytes as listed, the server has fewer", response
                    )
                self.check_status(response)
                if response.status != 206 or not self._continues(response, held):
                    self._start_afresh(file, response)
                self._receive(file, response)

    def receive_whole(self, response: Response) -> None:
        """Receive the response to a request for the whole file. Raises as ``attempt``."""
        with open(self.partial, "ab+") as file:
            self._start_afresh(file, response)
            self._receive(file, response)

    def check_status(self, response: Response, good: Collection[int] = (200, 206)) -> None:
        """Raise ContentMismatch for a status that is not ``good``, as RetryableError where a try may help."""
        check_status(response, self.url, ContentMismatch, f"the file {self.row.name!r}", good)

    def _resumable(self, file: BinaryIO) -> int:
        """Return the number of bytes from which the file can be resumed; if there are none, empty it."""
        length = file.seek(0, 2)
        if self.record.read(length) == [(0, length)] and length < self.row.bytes:
            return length
        file.truncate(0)
        return 0

    def _continues(self, response: Response, held: int) -> bool:
        """Return True if a 206 has the bytes from ``held`` to the listed end. Raises RetryableError."""
        came = response.headers.get("Content-Range")
        if came == f"bytes {held}-{self.row.bytes - 1}/{self.row.bytes}":
            return True
        raise self._mismatch(
            f"expected bytes {held} to {self.row.bytes - 1} of {self.row.bytes}, got Content-Range {came!r}",
            response,
        )

    def _start_afresh(self, file: BinaryIO, response: Response) -> None:
        offered = response.headers.get("Content-Length", "")
        if _LENGTH.fullmatch(offered) and int(offered) != self.row.bytes:
            raise self._mismatch(
                f"expected {self.row.bytes} bytes as listed, the server offers {offered}", response
            )
        file.truncate(0)
        self.record.remove()
        if self.row.md5 and self.row.bytes >= self.policy.resumable_from:
            self.record.write()

    def _receive(self, file: BinaryIO, response: Response) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        size = _update_digest(digest, file)
        for chunk in chunks(response, self.row.bytes - size):
            size += len(chunk)
            if size > self.row.bytes:
                raise self._mismatch(f"expected {self.row.bytes} bytes as listed, got more", response)
            self.received(len(chunk))
            digest.update(chunk)
            file.write(chunk)
        if size < self.row.bytes:
            raise self.retryable(f"expected {self.row.bytes} bytes as listed, got {size}")
        self.verify(digest, response)

    def verify(self, digest: "hashlib._Hash", response: Response | None = None) -> None:
        """Raise RetryableError unless the digest is the listed md5."""
        if self.row.md5 and digest.hexdigest() != self.row.md5:
            raise self._mismatch(f"expected md5 {self.row.md5} as listed, got {digest.hexdigest()}", response)

    def _mismatch(self, problem: str, response: Response | None) -> RetryableError:
        """Remove the partial file and return the error: the bytes may have been damaged on the way."""
        self.discard()
        encoding = response.headers.get("Content-Encoding") if response is not None else None
        return self.retryable(problem + (f" (sent with Content-Encoding {encoding})" if encoding else ""))

    def retryable(self, problem: str) -> RetryableError:
        """Return the error for content that is not as listed; it is retried less often than others."""
        mismatch = ContentMismatch(f"{self.url}: {problem}. The next run tries again.")
        return RetryableError(mismatch, limit=self.policy.mismatches)

    def discard(self) -> None:
        """Remove the partial file and its record."""
        self.partial.unlink(missing_ok=True)
        self.record.remove()


def chunks(response: Response, expected: int) -> Iterator[bytes]:
    """Yield the body in chunks, up to ``expected`` bytes, and one byte more if the body is longer."""
    left = expected
    while chunk := response.read(min(CHUNK_BYTES, left + 1)):
        left -= len(chunk)
        yield chunk
        if left <= 0 and response.headers.get("Content-Length"):
            return


def _update_digest(digest: "hashlib._Hash", file: BinaryIO) -> int:
    """Update the digest with the whole file; return its number of bytes. The file is left at its end."""
    file.seek(0)
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    size = 0
    while count := file.readinto(buffer):  # type: ignore[attr-defined]  # every file of ``open`` has it
        digest.update(view[:count])
        size += count
    return size
