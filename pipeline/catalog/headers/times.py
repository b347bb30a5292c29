"""Times in headers as modified Julian dates, UTC."""

import re
from datetime import date

from pipeline.catalog.headers.cards import Cards

_MJD_OF_YEAR_1 = -678_576  # of the day before 1 January of the year 1
# First and last day that a time of an observation is believed to be on: 1900 and 2100.
_BELIEVED = (15_020.0, 88_069.0)
# Days (MJD) from which TAI is ahead of UTC by so many seconds (IERS Bulletin C).
_LEAP_SECONDS = (
    (57_754, 37),
    (57_204, 36),
    (56_109, 35),
    (54_832, 34),
    (53_736, 33),
    (0, 32),
)
_TT_AHEAD_OF_TAI = 32.184
_SECONDS = 86_400.0
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d(?:\.\d*)?)Z?)?")
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d(?:\.\d*)?)")
_NUMBERS = ("MJD-OBS", "FPA.TIME", "CELL.TIME")
_DATES = ("DATE-OBS", "FPA.TIME", "CELL.TIME")
_SCALES = ("TIMESYS", "FPA.TIMESYS", "CELL.TIMESYS")
_CLOCKS = ("TIME-OBS", "UTC-OBS", "UT")
# Times at which the shutter of the camera opened: in the middle of the focal plane, and at its edge.
_SHUTTER = ("SHMDOUTC", "SHUTOUTC")


def start_of(cards: Cards, primary: Cards) -> float | None:
    """Return the start of the observation (MJD, UTC) by the header or by the primary one, None without it.

    Times are in the scale of TIMESYS: UTC, TAI or TT. Without TIMESYS they are UTC, in headers of sky cells
    TAI (protocol notes, "FITS headers").
    """
    default = "TAI" if primary.text("PSFORMAT") == "SKYCELL" else "UTC"
    scale = cards.text(*_SCALES) or primary.text(*_SCALES) or default
    for header in (cards, primary):
        if (mjd := _number_of(header)) is not None:
            return _as_utc(mjd, scale)
        if (mjd := _believed(mjd_of(header.text(*_SHUTTER) or "", None))) is not None:
            return mjd
    return None


def _number_of(cards: Cards) -> float | None:
    for name in _NUMBERS:
        if (mjd := _believed(cards.number(name))) is not None:
            return mjd
    for name in _DATES:
        if (mjd := _believed(mjd_of(cards.text(name) or "", cards.text(*_CLOCKS)))) is not None:
            return mjd
    return None


def mjd_of(text: str, clock: str | None) -> float | None:
    """Return an ISO date as MJD; ``clock`` is the time of day if it is not in the text."""
    found = _ISO.match(text)
    if not found:
        return None
    year, month, day, *times = found.groups()
    if times[0] is None:
        hours = _CLOCK.match(clock or "")
        times = list(hours.groups()) if hours else ["0", "0", "0"]
    try:
        days = date(int(year), int(month), int(day)).toordinal() + _MJD_OF_YEAR_1
    except ValueError:
        return None
    return days + (int(times[0]) * 3600 + int(times[1]) * 60 + float(times[2])) / _SECONDS


def _as_utc(mjd: float, scale: str) -> float:
    if scale == "TT":
        mjd -= _TT_AHEAD_OF_TAI / _SECONDS
    if scale in {"TAI", "TT"}:
        mjd -= next(ahead for day, ahead in _LEAP_SECONDS if mjd >= day + ahead / _SECONDS) / _SECONDS
    return mjd


def _believed(mjd: float | None) -> float | None:
    first, last = _BELIEVED
    return mjd if mjd is not None and first <= mjd <= last else None
