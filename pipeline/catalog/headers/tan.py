"""Sky coordinates of images: where the corners of an image lie, by its header.

The projection TAN (FITS WCS papers I and II) is computed here, also as the pipeline writes it (protocol
notes, "FITS headers"); every other one is left to astropy. Angles are degrees, positions ICRS.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.catalog.headers.cards import Cards
from pipeline.errors import BundleUnusable

Pair = tuple[float, float]
"""Two coordinates: of a pixel, in a plane, or right ascension and declination (degrees)."""
_Vector = tuple[float, float, float]
_MOSAIC = ("RA---DIS", "DEC--DIS")
_CHIP = ("RA---WRP", "DEC--WRP")
_TANGENT = (("RA---TAN", "DEC--TAN"), _MOSAIC)
# Pixels of half a circle or more (arcseconds), and images a billion times as long as wide, are damage.
_HALF_A_CIRCLE = 180.0 * 3600.0
_LEAST_AREA = 1e-9
_LONGITUDES = ("RA--", "GLON", "ELON", "HLON", "SLON")
_LATITUDES = ("DEC-", "GLAT", "ELAT", "HLAT", "SLAT")
# Distortions and native coordinates that change the meaning of TAN.
_MORE_THAN_TAN = (
    *(f"PV{axis}_{number}" for axis in (1, 2) for number in range(5)),
    *("A_ORDER", "B_ORDER"),
)


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


def footprint_of(cards: Cards, naxis1: int, naxis2: int, primary: Cards) -> Footprint | None:
    """Return the footprint of an image of ``naxis1`` by ``naxis2`` pixels, None without sky coordinates.

    ``primary`` is the primary header of the file, which may describe the mosaic that the image is part of.
    Raises BundleUnusable for coordinates that are incomplete or lead nowhere.
    """
    types = axis_types(cards)
    if not _is_celestial(types):
        return None
    try:
        if types == _CHIP:
            return _chip_in_mosaic(cards, naxis1, naxis2, primary)
        if types in _TANGENT and not _needs_astropy(cards):
            return _tangent(cards, naxis1, naxis2)
    except ArithmeticError:
        raise BundleUnusable("expected sky coordinates within the range of numbers") from None
    _pair(cards, "CRVAL1", "CRVAL2")
    from pipeline.catalog.headers.other_projections import footprint_by_astropy

    return footprint_by_astropy(cards, naxis1, naxis2)


def axis_types(cards: Cards) -> tuple[str, str]:
    """Return the types of the two axes of an image, empty where the header has none."""
    return cards.text("CTYPE1") or "", cards.text("CTYPE2") or ""


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


class _Plane(NamedTuple):
    """Map from pixels to degrees in a tangent plane, or to pixels of a focal plane.

    The linear part is ``matrix`` (rows one after the other) about ``reference``; ``terms`` are the powers of
    the two ``steps`` from there, with their coefficients in both directions.
    """

    reference: Pair
    matrix: tuple[float, float, float, float]
    steps: Pair = (1.0, 1.0)
    terms: tuple[tuple[int, int, float, float], ...] = ()
    origin: Pair = (0.0, 0.0)

    def at(self, pixel: Pair) -> Pair:
        """Return the position in the plane."""
        dx, dy = pixel[0] - self.reference[0], pixel[1] - self.reference[1]
        a, b, c, d = self.matrix
        x, y = self.origin[0] + a * dx + b * dy, self.origin[1] + c * dx + d * dy
        for i, j, first, second in self.terms:
            power = (self.steps[0] * dx) ** i * (self.steps[1] * dy) ** j
            x += first * power
            y += second * power
        return x, y

    @property
    def determinant(self) -> float:
        """Area of a pixel in the plane, negative for a mirror image."""
        a, b, c, d = self.matrix
        return a * d - b * c


class _Tangent(NamedTuple):
    """Sphere above the tangent plane: sine and cosine of ``dec`` and of the pole's native longitude."""

    ra: float
    dec: Pair
    pole: Pair

    def at(self, position: Pair) -> Pair:
        """Return where a position in the plane (degrees) is on the sky (paper II, 2.2 and 5.1.3)."""
        x, y = math.radians(position[0]), math.radians(position[1])
        (sin, cos), (sin_pole, cos_pole) = self.dec, self.pole
        up = x * sin_pole - y * cos_pole
        east = -(x * cos_pole + y * sin_pole)
        south = cos - up * sin
        ra = self.ra + math.degrees(math.atan2(east, south))
        dec = math.degrees(math.atan2(sin + up * cos, math.hypot(south, east)))
        # A tiny negative number modulo 360 is 360.
        return ra % 360.0 % 360.0, dec


def _tangent(cards: Cards, naxis1: int, naxis2: int) -> Footprint:
    plane, sphere = _plane(cards), _sphere(cards)
    positions = [sphere.at(plane.at(pixel)) for pixel in pixels_to_ask(naxis1, naxis2)]
    return enclose(positions, math.sqrt(abs(plane.determinant)) * 3600.0)


def _chip_in_mosaic(cards: Cards, naxis1: int, naxis2: int, primary: Cards) -> Footprint:
    """Return the footprint of a chip whose header leads to the focal plane, and the mosaic's to the sky."""
    if axis_types(primary) != _MOSAIC:
        raise BundleUnusable(
            "the header gives positions in the focal plane (CTYPE1 is RA---WRP); expected a primary header "
            f"with CTYPE1 RA---DIS that gives those on the sky, got {primary.text('CTYPE1')!r}"
        )
    chip, mosaic, sphere = _plane(cards), _plane(primary), _sphere(primary)
    chip = chip._replace(origin=_pair(cards, "CRVAL1", "CRVAL2"))
    positions = [sphere.at(mosaic.at(chip.at(pixel))) for pixel in pixels_to_ask(naxis1, naxis2)]
    return enclose(positions, math.sqrt(abs(chip.determinant * mosaic.determinant)) * 3600.0)


def _sphere(cards: Cards) -> _Tangent:
    ra, dec = _pair(cards, "CRVAL1", "CRVAL2")
    # The pipeline turns by 180 degrees everywhere, FITS not at the celestial pole.
    default = 180.0 if dec < 90.0 or _is_written_by_pipeline(cards) else 0.0
    pole = cards.number("LONPOLE")
    return _Tangent(ra, _sin_cos(dec), _sin_cos(default if pole is None else pole))


def _plane(cards: Cards) -> _Plane:
    reference = (cards.number("CRPIX1") or 0.0, cards.number("CRPIX2") or 0.0)
    if _is_written_by_pipeline(cards):
        return _plane_of_pipeline(cards, reference)
    names = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
    if any(cards.text(name) for name in names):
        a, b, c, d = (cards.number(name) or 0.0 for name in names)
        return _Plane(reference, (a, b, c, d))
    step1, step2 = _pair(cards, "CDELT1", "CDELT2")
    names = ("PC1_1", "PC1_2", "PC2_1", "PC2_2")
    turn = cards.number("CROTA2")
    if turn is not None and not any(cards.text(name) for name in names):
        sin, cos = _sin_cos(turn)
        return _Plane(reference, (step1 * cos, -step2 * sin, step1 * sin, step2 * cos))
    a, b, c, d = (
        default if value is None else value
        for default, value in zip((1.0, 0.0, 0.0, 1.0), map(cards.number, names), strict=True)
    )
    return _Plane(reference, (step1 * a, step1 * b, step2 * c, step2 * d))


def _plane_of_pipeline(cards: Cards, reference: Pair) -> _Plane:
    """Return the map with the keywords PC00i00j; each column of their matrix has the step of its axis."""
    step1, step2 = _pair(cards, "CDELT1", "CDELT2")
    a, b = _pair(cards, "PC001001", "PC001002")
    c, d = _pair(cards, "PC002001", "PC002002")
    order = cards.integer("NPLYTERM") or 1
    if order > 3:
        raise BundleUnusable(f"expected a polynomial of order 1, 2 or 3 as NPLYTERM, got {order}")
    terms = tuple(
        (i, total - i, *_pair(cards, f"PCA1X{i}Y{total - i}", f"PCA2X{i}Y{total - i}"))
        for total in range(2, order + 1)
        for i in range(total + 1)
    )
    return _Plane(reference, (step1 * a, step2 * b, step1 * c, step2 * d), (step1, step2), terms)


def _is_written_by_pipeline(cards: Cards) -> bool:
    return cards.text("PC001001") is not None


def _is_celestial(types: tuple[str, str]) -> bool:
    kinds = {kind[:4] for kind in types}
    return not kinds.isdisjoint(_LONGITUDES) and not kinds.isdisjoint(_LATITUDES)


def _needs_astropy(cards: Cards) -> bool:
    """Return True for distortions, for units other than degrees, and for equinoxes other than 2000."""
    units = {cards.text("CUNIT1"), cards.text("CUNIT2")} - {None, "deg", "degree", "degrees"}
    equinox = cards.number("EQUINOX", "EPOCH")
    system = cards.text("RADESYS", "RADECSYS")
    return (
        bool(units)
        or (equinox is not None and equinox != 2000.0 and system != "ICRS")
        or (system or "ICRS").startswith(("FK4", "GAPPT"))
        or cards.has_any(*_MORE_THAN_TAN)
    )


def _pair(cards: Cards, first: str, second: str) -> Pair:
    return _number(cards, first), _number(cards, second)


def _number(cards: Cards, name: str) -> float:
    number = cards.number(name)
    if number is None:
        raise BundleUnusable(f"expected a number as {name}, got {cards.text(name)!r}")
    return number


def _sin_cos(angle: float) -> tuple[float, float]:
    return math.sin(math.radians(angle)), math.cos(math.radians(angle))


def _vector(ra: float, dec: float) -> _Vector:
    sin, cos = _sin_cos(dec)
    sin_ra, cos_ra = _sin_cos(ra)
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
