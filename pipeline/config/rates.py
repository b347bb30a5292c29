"""Rate limits by the time of day."""

import re
from collections.abc import Iterable
from itertools import chain
from typing import Annotated, Any

from pydantic import BeforeValidator

from pipeline.config.values import Section, bytes_per_second

MINUTES_OF_DAY = 1440
_HOURS = re.compile(r"(\d\d):([0-5]\d) ?- ?(\d\d):([0-5]\d)", re.ASCII)


class HourlyRates(Section):
    """Bytes per second by the time of day, in the local time of the host.

    ``hours`` are begin and end in minutes of the day, and the rate between them; at all other times
    ``default``, without a limit for None.
    """

    hours: tuple[tuple[int, int, int], ...]
    default: int | None = None

    def by_minute(self) -> list[int | None]:
        """Return the rate in each minute of the day."""
        rates = [self.default] * MINUTES_OF_DAY
        for begin, end, rate in self.hours:
            for minute in minutes_between(begin, end):
                rates[minute] = rate
        return rates


def _rate_limit(value: Any) -> int | HourlyRates | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        return bytes_per_second(value)
    rates = {key: bytes_per_second(rate) for key, rate in value.items()}
    default = rates.pop("default", None)
    hours = sorted((*_minutes(key), rate) for key, rate in rates.items())
    if not hours:
        raise ValueError("expected hours such as '08:00-18:00: 10 MB/s', or a rate alone")
    minutes = [minute for begin, end, _ in hours for minute in minutes_between(begin, end)]
    if len(minutes) > len(set(minutes)):
        raise ValueError("expected hours that do not overlap")
    return HourlyRates(hours=tuple(hours), default=default)


def _minutes(hours: Any) -> tuple[int, int]:
    """Return begin and end of ``08:00-18:00`` in minutes of the day."""
    match = _HOURS.fullmatch(hours.strip()) if isinstance(hours, str) else None
    begin, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if match is None or begin == end or max(begin, end) > MINUTES_OF_DAY:
        raise ValueError(
            f"expected hours such as 08:00-18:00, from 00:00 to 24:00, or default, got {hours!r}"
        )
    return begin % MINUTES_OF_DAY, end


def minutes_between(begin: int, end: int) -> Iterable[int]:
    """Return the minutes of the day from ``begin`` to before ``end``, which may be on the next day."""
    return chain(range(begin, end)) if begin < end else chain(range(begin, MINUTES_OF_DAY), range(end))


RateSetting = Annotated[int | HourlyRates | None, BeforeValidator(_rate_limit)]
