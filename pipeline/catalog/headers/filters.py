"""Filters of the cameras GPC1 and GPC2, as names in headers and listings."""

import re

BANDS = ("g", "r", "i", "z", "y", "w")
# A filter has its serial number behind a dot; the z filter was for some time unknown to the camera.
_FILTER = re.compile(r"(?P<band>[grizyw])(\.\d+|p1|[._ -]?ps1)?", re.IGNORECASE)
UNKNOWN_FILTER = "?.00000"


def band_of(name: str | None) -> str | None:
    """Return the band of a filter, one of BANDS, or None for no filter (OPEN) and others.

    >>> band_of("r.00000")
    'r'
    """
    if name is None:
        return None
    if name.strip() == UNKNOWN_FILTER:
        return "z"
    found = _FILTER.fullmatch(name.strip())
    return found["band"].lower() if found else None
