"""Rate limit, in bytes or requests per second over all connections together."""

import threading
import time


class RateLimit:
    """Limit of the number ``per_second``; None is no limit. Safe for use by several threads."""

    def __init__(self, per_second: int | None) -> None:
        self._rate = per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, fraction: float = 1.0) -> None:
        """Wait until ``count`` more are within that fraction of the limit."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            wait = self._free_at - now
            self._free_at = max(self._free_at, now) + count / (self._rate * fraction)
        if wait > 0:
            time.sleep(wait)
