"""Times in headers as modified Julian dates, UTC, and scales of time."""

import math
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
    (-math.inf, 32),
)
# Seconds by which scales are ahead of TAI (FITS standard 4.0, table 30; TDB to two milliseconds).
_AHEAD_OF_TAI = {
    **dict.fromkeys(("TAI", "IAT"), 0.0),
    **dict.fromkeys(("TT", "TDT", "ET", "TDB"), 32.184),
    "GPS": -19.0,
}
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

    Times are in the scale of TIMESYS in the same header, or else in the other one. Without TIMESYS they are
    UTC, in headers of sky cells TAI (protocol notes, "FITS headers").
    """
    for header, other in ((cards, primary), (primary, cards)):
        if (mjd := _number_of(header)) is not None:
            scale = header.text(*_SCALES) or other.text(*_SCALES) or _default_scale(cards, primary)
            return mjd - seconds_ahead_of_utc(mjd, scale) / _SECONDS
        if (mjd := _believed(mjd_of(header.text(*_SHUTTER) or "", None))) is not None:
            return mjd
    return None


def _default_scale(cards: Cards, primary: Cards) -> str:
    # The primary header of a compressed image is an empty one, and all cards are those of the extension.
    layouts = {header.text("PSFORMAT") for header in (cards, primary)}
    return "TAI" if "SKYCELL" in layouts else "UTC"


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


def seconds_ahead_of_utc(mjd: float, scale: str) -> float:
    """Return by how many seconds a time in a scale is ahead of UTC: 0 for UTC, UT1 and unknown scales."""
    ahead_of_tai = _AHEAD_OF_TAI.get(scale)
    if ahead_of_tai is None:
        return 0.0
    tai = mjd - ahead_of_tai / _SECONDS
    return ahead_of_tai + next(ahead for day, ahead in _LEAP_SECONDS if tai >= day + ahead / _SECONDS)


def _believed(mjd: float | None) -> float | None:
    first, last = _BELIEVED
    return mjd if mjd is not None and first <= mjd <= last else None
