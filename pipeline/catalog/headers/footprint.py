"""Footprint of an image on the sky, by the positions of its centre and corners. Angles are degrees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import BundleUnusable

Pair = tuple[float, float]
"""Two coordinates: of a pixel, in a plane, or right ascension and declination (degrees)."""
_Vector = tuple[float, float, float]
# Pixels of half a circle or more (arcseconds), and images a billion times as long as wide, are damage.
_HALF_A_CIRCLE = 180.0 * 3600.0
_LEAST_AREA = 1e-9


@dataclass(frozen=True)
class Footprint:
    """Part of the sky that an image covers.

    ``ra``, ``dec`` is the centre of the image, ``radius`` (degrees) that of the smallest circle about it that
    holds all corners. ``corners`` are those of the pixels at its edges, counter-clockwise on the sky as seen
    from the Earth (north up, east to the left), as the IVOA orders polygons. ``pixel_scale`` is arcseconds
    per pixel.
    """

    ra: float
    dec: float
    radius: float
    corners: tuple[Pair, ...]
    pixel_scale: float


def pixels_to_ask(naxis1: int, naxis2: int) -> list[Pair]:
    """Return the centre of an image and its four corners, as pixels counted from 1 at the first centre."""
    right, top = naxis1 + 0.5, naxis2 + 0.5
    return [((naxis1 + 1) / 2, (naxis2 + 1) / 2), (0.5, 0.5), (right, 0.5), (right, top), (0.5, top)]


def enclose(positions: Sequence[Pair], pixel_scale: float) -> Footprint:
    """Return the footprint of the centre and the corners, which are the ``positions`` in this order.

    Raises BundleUnusable if they are no positions, or if the corners enclose nothing.
    """
    (ra, dec), *corners = positions
    if not all(math.isfinite(angle) for position in positions for angle in position):
        raise BundleUnusable(f"expected an image on the sky, got one that leaves it: centre {ra}, {dec}")
    centre = _vector(ra, dec)
    # Differences, as the products of vectors that are nearly the same are lost in rounding.
    sides = [_difference(_vector(*corner), centre) for corner in corners]
    reach = max(math.hypot(*side) for side in sides)
    turn = sum(_triple(centre, sides[i - 1], sides[i]) for i in range(len(sides)))
    if not (abs(turn) > _LEAST_AREA * reach * reach and 0.0 < pixel_scale < _HALF_A_CIRCLE):
        raise BundleUnusable("expected an image with an area on the sky, got corners on a line or at a point")
    if turn > 0.0:
        corners[1:] = corners[:0:-1]
    radius = math.degrees(2.0 * math.asin(min(1.0, reach / 2.0)))
    return Footprint(ra, dec, radius, tuple(corners), pixel_scale)


def sin_cos(angle: float) -> Pair:
    """Return sine and cosine of an angle in degrees."""
    return math.sin(math.radians(angle)), math.cos(math.radians(angle))


def _vector(ra: float, dec: float) -> _Vector:
    sin, cos = sin_cos(dec)
    sin_ra, cos_ra = sin_cos(ra)
    return cos * cos_ra, cos * sin_ra, sin


def _difference(first: _Vector, second: _Vector) -> _Vector:
    return first[0] - second[0], first[1] - second[1], first[2] - second[2]


def _triple(a: _Vector, b: _Vector, c: _Vector) -> float:
    """Return the volume that the vectors span; positive if they turn counter-clockwise seen from outside."""
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        + a[1] * (b[2] * c[0] - b[0] * c[2])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
