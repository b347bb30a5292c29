"""Rate limit by the hour of the day."""

import time

from pipeline.config import HourlyRates
from pipeline.mirror.resources.rate_limit import limit_of


class Clock:
    """Local time that the test sets."""

    def __init__(self, hour: int) -> None:
        self.hour = hour

    def __call__(self) -> time.struct_time:
        return time.struct_time((2026, 1, 1, self.hour, 0, 0, 0, 1, 0))


def waits(limit: HourlyRates, *taken: tuple[int, int]) -> list[int]:
    """Seconds that each of the takers waits: the hour, and how many are taken then."""
    clock, slept = Clock(0), []
    found = []
    rate_limit = limit_of(limit, clock, slept.append)
    for hour, count in taken:
        clock.hour = hour
        rate_limit.take(count)
        found.append(round(sum(slept)))
        slept.clear()
    return found


def test_the_limit_is_that_of_the_hour_also_after_the_hour_has_changed():
    limit = HourlyRates(hours=((480, 1080, 10),), default=1000)
    # Those taken at 7 h take 5 s, those of the first at 8 h 50 s.
    assert waits(limit, (7, 5000), (8, 500), (8, 1), (18, 2000), (18, 1)) == [0, 5, 55, 55, 57]


def test_there_may_be_no_limit_at_other_times():
    assert waits(HourlyRates(hours=((0, 60, 1),)), (12, 10**9), (12, 10**9), (0, 100), (0, 1)) == [
        0,
        0,
        0,
        100,
    ]
