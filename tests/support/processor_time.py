"""Processor time of some work, compared."""

import gc
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def takes_at_most(times: float, work: Callable[[T], object], less: T, more: T, slack: float = 0.05) -> bool:
    """Return True if ``more`` takes at most ``times`` the processor time of ``less``, and ``slack`` seconds.

    What else happens on the machine only ever adds to a measurement: the least of some counts, and
    there are more of them while the answer is no.
    """
    least, most = float("inf"), float("inf")
    for tried in range(1, 11):
        least, most = min(least, _spent(work, less)), min(most, _spent(work, more))
        if tried >= 3 and most < times * least + slack:
            return True
    return False


def _spent(work: Callable[[T], object], what: T) -> float:
    """Processor seconds, without the garbage collector, which visits all that the tests before left."""
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        work(what)
        return time.process_time() - begun
    finally:
        gc.enable()
