"""Outages that end a run early: the server answers no more, or there is no disk space.

All filesets that are left would fail in the same way, each after its tries and timeouts. They were not tried,
so they do not count as failed. A volume that is full ends the work on its products alone.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.datastore.client import UnknownFileset
from pipeline.errors import FilesFailed, MirrorError, NoSpace, ServerUnavailable
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.local_listing import LocalListing
from tasks.runtime.errors import DiskFull, ServerLost, Stopped, VolumeFull


@dataclass(frozen=True)
class OutagePolicy:
    """Numbers of consecutive filesets after whose failure a run ends.

    ``unanswered`` are filesets for which the server sent nothing of use, ``without_space`` those for which
    the disk had no space.
    """

    unanswered: int = 10
    without_space: int = 10


class OutageWatch:
    """Count of the consecutive failures in one process. Safe for use by several threads.

    ``received`` returns the number of bytes of files that came in this run: as long as any come, the server
    answers. ``answers`` asks the server for the listing of a product, and returns True if it came.
    ``volume`` returns that of a product, None for one without a volume.
    """

    def __init__(
        self,
        received: Callable[[], int],
        answers: Callable[[str], bool],
        volume: Callable[[str], Path | None],
        policy: OutagePolicy = OutagePolicy(),
    ) -> None:
        self._received = received
        self._answers = answers
        self._volume = volume
        self._policy = policy
        self._lock = threading.Lock()
        self._came = 0
        self._unanswered = 0
        self._all_for_files = True
        # By volume.
        self._without_space: Counter[Path | None] = Counter()
        self._full: set[Path | None] = set()
        self._ended = False
        # True once a fileset failed for a reason of its own.
        self.others_failed = False

    def succeeded(self, product: str, *, asked: bool) -> None:
        """Count from the beginning, after a step of the product that was done.

        ``asked`` is True for a step that asked the server: only such a step shows that the server answers.
        """
        volume = self._volume(product)
        with self._lock:
            self._without_space[volume] = 0
            if asked:
                self._unanswered = 0

    def is_full(self, product: str) -> bool:
        """Return True if the product lies on a volume that is full."""
        return bool(self._full) and self._volume(product) in self._full

    def failed(self, error: MirrorError, product: str, *, asked: bool) -> Stopped | None:
        """Count a fileset that failed, in a step that asked the server or in another one.

        Return why the run is to end, None to go on.
        """
        reasons = list(error.reasons.values()) if isinstance(error, FilesFailed) else [error]
        full = next((reason for reason in reasons if isinstance(reason, NoSpace)), None)
        if full is not None:
            return self._no_space(full, product)
        if all(isinstance(reason, ServerUnavailable) for reason in reasons):
            return self._no_answer(error, product)
        with self._lock:
            self.others_failed = True
            if asked:
                self._unanswered = 0
        return None

    def _no_space(self, error: MirrorError, product: str) -> Stopped | None:
        volume = self._volume(product)
        with self._lock:
            self.others_failed = True
            self._without_space[volume] += 1
            count = self._without_space[volume]
            if self._ended or volume in self._full or count < self._policy.without_space:
                return None
            said = f"there was no disk space for {count} filesets in a row, the last time: {error}"
            if volume is not None:
                self._full.add(volume)
                return VolumeFull(f"{volume}: {said} What else belongs there waits for the next run.")
            self._ended = True
            return DiskFull(said)

    def _no_answer(self, error: MirrorError, product: str) -> Stopped | None:
        # Held while the server is asked: meanwhile no other fileset is begun in place of one that failed.
        with self._lock:
            came = self._received()
            if came > self._came or not self._unanswered:
                self._came, self._unanswered, self._all_for_files = came, 0, True
            self._unanswered += 1
            self._all_for_files &= isinstance(error, FilesFailed)
            if self._ended or self._unanswered < self._policy.unanswered:
                return None
            # A server may list filesets whose own listing it does not have, and answer otherwise.
            if not self._all_for_files and self._answers(product):
                self._unanswered = 0
                return None
            self._ended = True
            return ServerLost(
                f"the server sent no valid answer for {self._unanswered} filesets in a row, the last time: "
                f"{_of_one_file(error)}"
            )


def _of_one_file(error: MirrorError) -> MirrorError:
    """Return the reason of the first file: how many files of one fileset failed says nothing of the run."""
    return next(iter(error.reasons.values())) if isinstance(error, FilesFailed) else error


def server_answers(context: RunContext, product: str) -> bool:
    """Return True if the server sends a valid listing of the product."""
    last = LocalListing(context.layout, product).last(1)
    since = last[0].name if last else None
    try:
        context.listings.filesets(product, since)
    except UnknownFileset:
        return True
    except ServerUnavailable:
        return False
    return True
