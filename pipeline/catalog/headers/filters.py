"""Filters of the cameras GPC1 and GPC2, as names in headers and listings."""

import re

GPC1_BANDS = {
    "g": (414e-9, 551e-9),
    "r": (550e-9, 689e-9),
    "i": (690e-9, 819e-9),
    "z": (818e-9, 922e-9),
    "y": (918e-9, 1001e-9),
    "w": (433e-9, 815e-9),
}
"""Blue and red edge of each band in metres: where a filter passes half of its mean (Tonry et al. 2012)."""
BANDS = tuple(GPC1_BANDS)
# A filter has its serial number behind a dot; the z filter was for some time unknown to the camera.
_FILTER = re.compile(r"(?P<band>[grizyw])(\.\d+|p1|[._ -]?ps1)?", re.IGNORECASE)
_UNKNOWN_FILTER = "?.00000"


def band_of(name: str | None) -> str | None:
    """Return the band of a filter, a key of GPC1_BANDS, or None for no filter (OPEN) and others.

    >>> band_of("r.00000")
    'r'
    """
    if name is None:
        return None
    if name.strip() == _UNKNOWN_FILTER:
        return "z"
    found = _FILTER.fullmatch(name.strip())
    return found["band"].lower() if found else None
