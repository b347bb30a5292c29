"""Sizes, rates, times and counts, as numbers and text: ``20 GB`` is 20·10⁹ bytes, ``20 GiB`` 20·2³⁰ bytes."""

import re
from datetime import timedelta
from decimal import Decimal

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?", re.ASCII)
_SPAN = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*([a-z]+)\s*", re.ASCII)
_SPANS = {
    spelling: unit
    for unit, spellings in {
        "seconds": ("s", "second", "seconds"),
        "minutes": ("m", "min", "minute", "minutes"),
        "hours": ("h", "hour", "hours"),
        "days": ("d", "day", "days"),
        "weeks": ("w", "week", "weeks"),
    }.items()
    for spelling in spellings
}
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def as_size(count: float) -> str:
    """Return a number of bytes as text with three digits or so.

    >>> as_size(41_234_567), as_size(1)
    ('41.2 MB', '1 byte')
    """
    unit = "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(count) < 1000:
            break
        count, unit = count / 1000, larger
    text = f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
    return "1 byte" if text == "1 bytes" else text


def as_count(number: int, noun: str) -> str:
    """Return a number of things as text, with the plural of the noun unless it is one.

    >>> as_count(1, "problem"), as_count(2, "problem")
    ('1 problem', '2 problems')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_duration(seconds: float) -> str:
    """Return a time as text, in its two largest units.

    >>> as_duration(41.2), as_duration(12_000), as_duration(400_000)
    ('41 s', '3 h 20 min', '4 d 15 h')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def parse_size(value: object) -> int:
    """Return the bytes in a text such as ``20 GB``; an integer is bytes already.

    Raises ValueError, with the expected form.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size such as 20 GB")
    number, power, binary = match.groups()
    return int(Decimal(number) * (1024 if binary else 1000) ** _POWERS[power])


def parse_span(value: object) -> timedelta:
    """Return the duration in a text: numbers with their units, short or long.

    Raises ValueError, with the expected form.

    >>> parse_span("1d 12h") == parse_span("36 hours") == parse_span("1.5 days")
    True
    """
    parts = _SPAN.findall(value) if isinstance(value, str) else []
    is_whole = bool(parts) and not _SPAN.sub("", str(value))
    if not is_whole or any(unit not in _SPANS for _, unit in parts):
        raise ValueError("expected a duration such as 90s, 15min, 12h, 30 days or '1d 12h'")
    try:
        return sum((timedelta(**{_SPANS[unit]: float(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        raise ValueError(f"expected a duration of at most {timedelta.max.days} days") from None


def parse_rate(value: object) -> int:
    """Return the bytes per second in a text such as ``50 MB/s``; an integer is bytes per second already.

    Raises ValueError, with the expected form.
    """
    size = value.strip().removesuffix("/s") if isinstance(value, str) else value
    try:
        return parse_size(size)
    except ValueError:
        raise ValueError("expected a rate such as 50 MB/s") from None
