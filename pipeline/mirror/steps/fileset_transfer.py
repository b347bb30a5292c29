"""Transfers of the files of one fileset, over as many connections as the fileset may use."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from pipeline.datastore.client import FetchPool
from pipeline.datastore.listing import FileRow
from pipeline.errors import MirrorError
from pipeline.mirror.context import Report, StepProgress
from pipeline.mirror.resources.connection_quota import ConnectionQuota
from pipeline.mirror.steps.futures import done_at_once
from pipeline.units import as_count, as_size

# Pause before the second report, which doubles up to the usual one: the first numbers are soon there.
_FIRST_PAUSE = 0.2
_REPORT_SECONDS = 1.0


@dataclass
class TransferProgress:
    """Progress of a fileset's transfer: ``files`` of ``count`` and ``bytes`` of ``total`` are complete.

    ``bytes`` is updated without a lock, which is exact enough for a display. Safe for several threads.
    """

    report: Report
    count: int
    total: int
    files: int
    bytes: int

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._reported = time.monotonic()
        self.pause = _FIRST_PAUSE
        self._bytes_reported = self.bytes
        self._report("")

    def update(self) -> None:
        """Report files, bytes, bytes per second and the share of all bytes, unless that was done just now."""
        passed = time.monotonic() - self._reported
        if passed < self.pause or not self._lock.acquire(blocking=False):
            return
        try:
            self.pause = min(_REPORT_SECONDS, 2 * self.pause)
            rate = (self.bytes - self._bytes_reported) / passed
            self._reported, self._bytes_reported = self._reported + passed, self.bytes
            self._report(f", {as_size(rate)}/s")
        finally:
            self._lock.release()

    def _report(self, rate: str) -> None:
        sizes = f"{as_size(self.bytes)} of {as_size(self.total)}"
        share = self.bytes / self.total if self.total else 1.0
        message = f"{self.files} of {as_count(self.count, 'file')}, {sizes}{rate}"
        self.report(StepProgress(message, share, self.bytes, self.total))


@dataclass(eq=False)
class Transfers:
    """Transfers of one fileset. ``fetch`` fetches one file; errors are collected by file name."""

    pool: FetchPool
    quota: ConnectionQuota
    fetch: Callable[[FileRow], None]
    progress: TransferProgress
    errors: dict[str, MirrorError] = field(default_factory=dict)
    _running: dict[Future[None], FileRow] = field(default_factory=dict)

    def run(self, rows: list[FileRow]) -> None:
        """Fetch all files, several at once where the quota of connections permits."""
        waiting = list(reversed(rows))
        try:
            while waiting or self._running:
                self._balance(waiting)
                done, _ = wait(self._running, timeout=self.progress.pause, return_when=FIRST_COMPLETED)
                for future in done:
                    self._end(future, self._running.pop(future))
                self.progress.update()
        finally:
            wait(self._running)
            self.quota.done(self)

    def run_in_turn(self, rows: list[FileRow]) -> None:
        """Fetch all files one after the other, over one connection."""
        self.quota.surplus(self, 1)
        try:
            for row in rows:
                self._end(done_at_once(self.fetch, row), row)
                self.progress.update()
        finally:
            self.quota.done(self)

    def _balance(self, waiting: list[FileRow]) -> None:
        """Submit files within the quota, and cancel submitted ones beyond it that have not started."""
        surplus = self.quota.surplus(self, len(self._running) + len(waiting))
        while waiting and len(waiting) > surplus:
            row = waiting.pop()
            self._running[self.pool.submit(self.fetch, row)] = row
        for future in list(self._running)[::-1][: surplus - len(waiting)]:
            if future.cancel():
                waiting.append(self._running.pop(future))
        self.quota.surplus(self, len(self._running))

    def _end(self, future: Future[None], row: FileRow) -> None:
        error = future.exception()
        if error is None:
            self.progress.files += 1
        elif isinstance(error, MirrorError):
            self.errors[row.name] = error
        else:
            raise error
