"""Pointing of an exposure by its row of ``raw_exp``, which may be in radians or in degrees.

The pipeline's database holds radians. So a pair that can be radians is taken for that: as degrees it would
lie in 40 square degrees about the origin (protocol notes, "dbinfo").
"""

import math

# Largest angles, either way, of a right ascension and a declination in radians; rounding is allowed for.
RA_IN_RADIANS, DEC_IN_RADIANS = 2 * math.pi + 1e-6, math.pi / 2 + 1e-6
DEGREES_IN_RADIAN = math.degrees(1.0)


def in_degrees(ra: float, dec: float) -> tuple[float, float]:
    """Return right ascension and declination, as they are written in ``raw_exp``, in degrees.

    >>> in_degrees(3.141592653589793, -1.0471975511965976)
    (180.0, -59.99999999999999)
    >>> in_degrees(180.0, -60.0)
    (180.0, -60.0)
    """
    is_radians = abs(ra) <= RA_IN_RADIANS and abs(dec) <= DEC_IN_RADIANS
    scale = DEGREES_IN_RADIAN if is_radians else 1.0
    return ra * scale, dec * scale
