"""Rate limit, in bytes or requests per second over all connections together."""

import threading
import time
from collections.abc import Callable

from pipeline.config import HourlyRates


class RateLimit:
    """Limit of the number ``per_second``; None is no limit. Safe for use by several threads.

    ``per_second`` may be a function, which is asked again and again.
    """

    def __init__(
        self,
        per_second: int | Callable[[], int | None] | None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._current = per_second if callable(per_second) else lambda: per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, fraction: float = 1.0) -> None:
        """Wait until ``count`` more are within that fraction of the limit."""
        rate = self._current()
        if rate is None:
            return
        with self._lock:
            now = time.monotonic()
            wait = self._free_at - now
            self._free_at = max(self._free_at, now) + count / (rate * fraction)
        if wait > 0:
            self._sleep(wait)


def limit_of(
    setting: int | HourlyRates | None,
    local_time: Callable[[], time.struct_time] = time.localtime,
    sleep: Callable[[float], object] = time.sleep,
) -> RateLimit:
    """Return the limit that the setting says, in each minute of the day that of the hours."""
    if not isinstance(setting, HourlyRates):
        return RateLimit(setting, sleep)
    rates = setting.by_minute()

    def current() -> int | None:
        now = local_time()
        return rates[now.tm_hour * 60 + now.tm_min]

    return RateLimit(current, sleep)
