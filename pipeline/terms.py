"""Terms of a question as text: positions, angles, times, durations.

Errors are ValueError with the expected form and the text that came.
"""

import math
import re
from datetime import UTC, date, datetime

from pipeline.units import parse_span

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_ANGLE = re.compile(rf"({_NUMBER})\s*(\D*)", re.ASCII)
# Degrees in a unit of angle.
_UNITS = {
    "": 1.0,
    **dict.fromkeys(("deg", "degree", "degrees", "°"), 1.0),
    **dict.fromkeys(("arcmin", "arcmins", "arcminute", "arcminutes", "'", "′"), 1 / 60),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds", '"', "″", "''"), 1 / 3600),
}
_SEXAGESIMAL = re.compile(
    r"([+-]?)(\d+)(?:[:hd° ]\s*)(\d+)(?:(?:[:m' ]\s*)(\d+(?:\.\d*)?)[s\"]?|m|')?", re.ASCII
)
_POSITION = (
    "expected a position 'RA DEC' in degrees such as '160.685 41.269', "
    "or in hours and degrees such as '10:42:44.3 +41:16:09'"
)


def position(text: str) -> tuple[float, float]:
    """Return right ascension and declination in degrees.

    >>> position("160.684583 41.269167"), position("10:42:44.3 +41:16:09")
    ((160.684583, 41.269167), (160.6845833333333, 41.26916666666666))
    """
    words = text.replace(",", " ").split()
    if len(words) == 6:
        words = [" ".join(words[:3]), " ".join(words[3:])]
    try:
        first, second = words
        is_degrees = all(re.fullmatch(_NUMBER, word) for word in words)
        ra = float(first) if is_degrees else 15 * _sexagesimal(first)
        dec = float(second) if is_degrees else _sexagesimal(second)
    except ValueError:
        raise ValueError(f"{_POSITION}, got {text!r}") from None
    return checked_position(ra, dec)


def checked_position(ra: float, dec: float) -> tuple[float, float]:
    """Return a position in degrees unchanged. Raises ValueError for one outside of the sphere."""
    if not (0 <= ra <= 360 and -90 <= dec <= 90):
        raise ValueError(
            f"expected a right ascension from 0 to 360 degrees and a declination from -90 to 90, "
            f"got {ra:.10g} and {dec:.10g}"
        )
    return ra, dec


def angle(text: str) -> float:
    """Return degrees; a number without a unit is degrees.

    >>> angle("90 arcmin"), angle("0.5")
    (1.5, 0.5)
    """
    match = _ANGLE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].strip().lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected an angle such as 5arcmin, 30arcsec or 0.1deg, got {text!r}")
    return checked_radius(float(match[1]) * unit)


def checked_radius(degrees: float) -> float:
    """Return the radius of a cone unchanged. Raises ValueError for one that is none."""
    if not 0 <= degrees <= 180:
        raise ValueError(f"expected a radius from 0 to 180 degrees, got {degrees:.10g}")
    return degrees


def instant(text: str) -> datetime:
    """Return a time in UTC; one without a zone is UTC, one without an hour begins its day.

    >>> instant("2009-07-29T08:30").isoformat()
    '2009-07-29T08:30:00+00:00'
    """
    try:
        return as_utc(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected a date or a time (UTC) such as 2009-07-29 or 2009-07-29T08:30:00, got {text!r}"
        ) from None


def as_utc(value: date) -> datetime:
    """Return a date, or a time of any zone, as a time in UTC. Raises OverflowError beyond the years."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


def night(text: str) -> date:
    """Return the date of a night: a day from 0 to 24 hours UTC."""
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").date()
    except ValueError:
        raise ValueError(f"expected a night as its UTC date, such as 2009-07-29, got {text!r}") from None


def since(text: str, at: datetime | None = None) -> datetime:
    """Return the time that lies a duration before ``at``, or before now; a date or a time is that time.

    >>> since("7d 12h", datetime(2009, 8, 8, 12, tzinfo=UTC)).isoformat()
    '2009-08-01T00:00:00+00:00'
    """
    try:
        return (at or datetime.now(UTC)) - parse_span(text)
    except OverflowError:
        raise ValueError(f"expected a duration that ends after the year 1, got {text!r}") from None
    except ValueError as error:
        no_span = error
    try:
        return instant(text)
    except ValueError:
        raise ValueError(f"{no_span}, or a time (UTC) such as 2009-07-29, got {text!r}") from None


def _sexagesimal(text: str) -> float:
    """Return a number of hours or degrees with minutes and seconds, such as ``-00:30:15.5``."""
    match = _SEXAGESIMAL.fullmatch(text)
    if match is None:
        raise ValueError("not sexagesimal")
    minutes, seconds = float(match[3]), float(match[4] or 0)
    if minutes >= 60 or seconds >= 60:
        raise ValueError("not sexagesimal")
    return math.copysign(float(match[2]) + minutes / 60 + seconds / 3600, -1 if match[1] == "-" else 1)
