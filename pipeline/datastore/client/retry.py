"""Retries of a request: number of tries, and pauses between them."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import MirrorError

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """Number of tries, and pauses between them (seconds).

    The pause after the first failure is ``first_pause`` and doubles with each further one. A Retry-After
    of the server replaces it. No pause is longer than ``longest_pause``. ``sleep`` waits.

    A try that failed after ``progress_bytes`` further bytes does not count. So a large file arrives over a
    line that is cut again and again, and a server that sends a byte with each try does not go on for ever.
    """

    attempts: int
    first_pause: float
    longest_pause: float = 300.0
    progress_bytes: int = 1 << 16
    sleep: Callable[[float], object] = time.sleep

    def pause(self, failures: int, retry_after: float | None) -> None:
        """Wait before the next try, after this number of failures."""
        doubled = self.first_pause * 2 ** (failures - 1) * random.uniform(0.8, 1.2)
        self.sleep(min(self.longest_pause, doubled if retry_after is None else retry_after))


class RetryableError(Exception):
    """Transient failure; ``final`` is raised when no try is left.

    ``retry_after`` is the pause (seconds) in the server's Retry-After field. ``limit`` is the number of such
    failures after which no further try is made, where it is less than ``RetryPolicy.attempts``.
    """

    def __init__(
        self, final: MirrorError, *, retry_after: float | None = None, limit: int | None = None
    ) -> None:
        super().__init__(str(final))
        self.final = final
        self.retry_after = retry_after
        self.limit = limit


def retry(policy: RetryPolicy, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """Return the result of ``attempt``, called again after a pause whenever it raises RetryableError.

    ``progress`` is the number of bytes that further tries do not request again. Raises the ``final`` error of
    the last try.

    >>> failures = [RetryableError(MirrorError("the server is busy"))]
    >>> def attempt() -> str:
    ...     if failures:
    ...         raise failures.pop()
    ...     return "listing"
    >>> retry(RetryPolicy(attempts=4, first_pause=0), attempt)
    'listing'
    """
    failures = limited = 0
    furthest = progress()
    while True:
        try:
            return attempt()
        except RetryableError as error:
            reached = progress()
            if error.limit is not None:
                limited += 1
                # A file that starts afresh may make the same progress again.
                furthest = reached
            further = reached >= furthest + policy.progress_bytes
            failures, furthest = (0, reached) if further else (failures + 1, furthest)
            if failures >= policy.attempts or (error.limit and limited >= error.limit):
                raise error.final from None
            policy.pause(max(failures, 1), error.retry_after)
