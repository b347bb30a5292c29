"""Transfer of a large file in byte ranges, over all connections that are idle.

Rules (protocol notes, "Files"):

* The first request is for the first range. When the server responds with the whole file,
  the file is received over that one connection, and nothing is requested twice.
* When the server responds with the range, idle threads of the pool request the other ranges. After any other
  response the transfer starts afresh over one connection, and so it does when the md5 is wrong in the end.
* The md5 is computed over the bytes that are complete from the start, while others are received.
"""

import hashlib
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.datastore.client.fetch_pool import FetchPool
from pipeline.datastore.client.fetcher import CHUNK_BYTES, Response
from pipeline.datastore.client.partial import ByteRange, RangeMap
from pipeline.datastore.client.retry import retry
from pipeline.datastore.client.transfer import Transfer, chunks
from pipeline.datastore.listing import FileRow

# Bytes by which the md5 advances at most for each chunk received: the connection never waits for long.
_DIGEST_BYTES = 8 * CHUNK_BYTES


@dataclass(frozen=True)
class RangePolicy:
    """Sizes (bytes) for transfers in ranges.

    Files of ``from_bytes`` and more with a listed md5 are fetched in ranges. No range is larger than
    ``largest``. Towards the end of the file ranges shrink to ``small``, and to ``smallest`` where connections
    would be idle otherwise. The resume record is written after each ``recorded_every`` bytes: after a kill,
    as many are fetched again.
    """

    from_bytes: int = 16 << 20
    largest: int = 64 << 20
    small: int = 2 << 20
    smallest: int = 1 << 20
    recorded_every: int = 8 << 20

    def applies_to(self, row: FileRow) -> bool:
        """Return True if the file is to be fetched in ranges."""
        return row.bytes >= self.from_bytes and row.md5 is not None

    def range_bytes(self, missing: int, connections: int) -> int:
        """Return the size of the next ranges, one for each of the connections.

        Together they are two thirds of the ``missing`` bytes: ranges become smaller, and all connections end
        at about the same time, however fast each is. The last ones are not split: each is one more request.

        >>> RangePolicy().range_bytes(96 << 20, 8) >> 20
        8
        """
        share = -(-missing // connections)
        if share > 2 * self.small:
            share = share * 2 // 3
        return max(self.smallest, min(share, self.largest))


def fetch(transfer: Transfer, pool: FetchPool, policy: RangePolicy) -> None:
    """Fetch the file, in ranges where the policy applies to it. For calls by a thread of the pool.

    Raises as ``Transfer.fetch``.
    """
    if policy.applies_to(transfer.row) and pool.count > 1:
        RangedTransfer(transfer, pool, policy).fetch()
    else:
        transfer.fetch()


class UnusableRange(Exception):
    """Response that is not the requested range."""


class RangedTransfer:
    """Transfer of one large file by several threads of a pool."""

    def __init__(self, transfer: Transfer, pool: FetchPool, policy: RangePolicy) -> None:
        self._transfer = transfer
        self._pool = pool
        self._policy = policy
        length = transfer.partial.stat().st_size if transfer.partial.exists() else 0
        self._ranges = RangeMap(transfer.row.bytes, transfer.record.read(length))
        self._digest = _FollowingDigest(self._ranges, transfer.partial)
        self._tried = self._started = self._came_whole = False
        self._changed = threading.Condition()
        self._in_progress = 0
        self._error: BaseException | None = None
        self._range_bytes = self._left_of_that_size = 0
        self._unrecorded = 0

    def fetch(self) -> None:
        """Fetch the file; called by a thread of the pool. Raises as ``Transfer.fetch``."""
        retry(self._transfer.retry_policy, self._attempt, self._transfer.held)
        self._transfer.record.remove()

    def _attempt(self) -> None:
        """Try in ranges once; after that, or after UnusableRange, over one connection."""
        if self._tried:
            self._transfer.attempt()
            return
        self._tried = True
        try:
            self._fetch_ranges()
        except UnusableRange:
            self._transfer.discard()
            self._transfer.attempt()

    def _fetch_ranges(self) -> None:
        while self._fetch_next():
            pass
        with self._changed:
            self._changed.wait_for(lambda: not self._in_progress)
        if self._error:
            if self._started:
                self._write_record()
            raise self._error
        if not self._came_whole:
            self._transfer.verify(self._digest.end())

    def _fetch_next(self) -> bool:
        """Fetch one range; return False when none is left. Errors are left to ``_fetch_ranges``."""
        claimed = self._claim()
        if claimed is None:
            return False
        try:
            request = partial(self._request, claimed)
            retry(self._transfer.retry_policy, request, partial(self._progress, claimed))
        except BaseException as error:
            self._error = self._error or error
        finally:
            with self._changed:
                self._in_progress -= 1
                self._changed.notify_all()
        return True

    def _claim(self) -> ByteRange | None:
        with self._changed:
            unclaimed = self._ranges.unclaimed
            if self._error or self._came_whole or not unclaimed:
                return None
            self._in_progress += 1
            if not self._left_of_that_size:
                connections = self._in_progress + self._pool.idle
                self._range_bytes = self._policy.range_bytes(unclaimed, connections)
                self._left_of_that_size = connections
            self._left_of_that_size -= 1
            return self._ranges.claim(self._range_bytes)

    def _progress(self, claimed: ByteRange) -> int:
        return self._transfer.held() if self._came_whole else claimed.at

    def _request(self, claimed: ByteRange) -> None:
        """Request the missing bytes of a range and receive them."""
        if self._error or not claimed.missing:
            return
        if self._came_whole:
            self._transfer.attempt()
            return
        requested = {"Range": f"bytes={claimed.at}-{claimed.end - 1}"}
        with self._transfer.fetcher.get(self._transfer.url, requested) as response:
            if response.status == 200 and not self._started:
                self._came_whole = True
                self._transfer.receive_whole(response)
                return
            self._transfer.check_status(response, good=(200, 206, 416))
            self._check_range(claimed, response)
            if not self._started:
                self._start()
            self._receive(claimed, response)

    def _check_range(self, claimed: ByteRange, response: Response) -> None:
        """Raise UnusableRange unless the response has exactly the requested range."""
        size = self._transfer.row.bytes
        as_requested = (
            response.status == 206
            and response.headers.get("Content-Range") == f"bytes {claimed.at}-{claimed.end - 1}/{size}"
            and response.headers.get("Content-Length") in {None, str(claimed.missing)}
        )
        if not as_requested:
            raise UnusableRange

    def _start(self) -> None:
        """Prepare the partial file for writes at any offset, and have idle threads fetch other ranges."""
        # The record is written first: without it, the size of the file would count as bytes received.
        self._write_record()
        with open(self._transfer.partial, "ab") as file:
            file.truncate(self._transfer.row.bytes)
        self._started = True
        for _ in range(self._pool.count - 1):
            self._pool.add_idle_task(self._fetch_next)

    def _receive(self, claimed: ByteRange, response: Response) -> None:
        with open(self._transfer.partial, "r+b") as file:
            file.seek(claimed.at)
            for chunk in chunks(response, claimed.missing):
                if self._error:
                    return
                if len(chunk) > claimed.missing:
                    raise UnusableRange
                self._transfer.received(len(chunk))
                file.write(chunk)
                # The digest reads what ``at`` counts.
                file.flush()
                claimed.at += len(chunk)
                self._count(len(chunk))
        if claimed.missing:
            raise self._transfer.retryable(f"expected bytes up to {claimed.end}, got them up to {claimed.at}")

    def _count(self, received: int) -> None:
        with self._changed:
            self._unrecorded += received
            if self._unrecorded >= self._policy.recorded_every:
                self._write_record()
        self._digest.follow(_DIGEST_BYTES)

    def _write_record(self) -> None:
        self._unrecorded = 0
        self._transfer.record.write(self._ranges.held())


class _FollowingDigest:
    """Md5 of the bytes of a partial file that are complete from its start."""

    def __init__(self, ranges: RangeMap, path: Path) -> None:
        self._ranges = ranges
        self._path = path
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._lock = threading.Lock()

    def follow(self, most: int) -> None:
        """Update the md5 with ``most`` further bytes at most, unless another thread does so."""
        if self._lock.acquire(blocking=False):
            try:
                self._update(min(self._ranges.complete_to(), self._size + most))
            finally:
                self._lock.release()

    def end(self) -> "hashlib._Hash":
        """Return the md5 of all bytes that are complete."""
        with self._lock:
            self._update(self._ranges.complete_to())
        return self._md5

    def _update(self, end: int) -> None:
        if end == self._size:
            return
        with open(self._path, "rb", buffering=0) as file:
            file.seek(self._size)
            while chunk := file.read(min(CHUNK_BYTES, end - self._size)):
                self._md5.update(chunk)
                self._size += len(chunk)
