"""Footprint of an image by the coordinates in its header.

The projection TAN (FITS WCS papers I and II) is computed here, also as the pipeline writes it (protocol
notes, "FITS headers"); every other one is left to astropy. Angles are degrees, positions ICRS.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from pipeline.catalog.headers.cards import Cards
from pipeline.catalog.headers.footprint import Footprint, Pair, enclose, pixels_to_ask, sin_cos
from pipeline.errors import BundleUnusable

_MOSAIC = ("RA---DIS", "DEC--DIS")
_CHIP = ("RA---WRP", "DEC--WRP")
_TANGENT = (("RA---TAN", "DEC--TAN"), _MOSAIC)
_LONGITUDES = ("RA--", "GLON", "ELON", "HLON", "SLON")
_LATITUDES = ("DEC-", "GLAT", "ELAT", "HLAT", "SLAT")
# Distortions and native coordinates that change the meaning of TAN.
_MORE_THAN_TAN = (
    *(f"PV{axis}_{number}" for axis in (1, 2) for number in range(5)),
    *("A_ORDER", "B_ORDER"),
)


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
            return _footprint((_plane(cards),), _sphere(cards), naxis1, naxis2)
    except ArithmeticError:
        raise BundleUnusable("expected sky coordinates within the range of numbers") from None
    _pair(cards, "CRVAL1", "CRVAL2")
    from pipeline.catalog.headers.other_projections import footprint_by_astropy

    return footprint_by_astropy(cards, naxis1, naxis2)


def axis_types(cards: Cards) -> tuple[str, str]:
    """Return the types of the two axes of an image, empty where the header has none."""
    return cards.text("CTYPE1") or "", cards.text("CTYPE2") or ""


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


def _chip_in_mosaic(cards: Cards, naxis1: int, naxis2: int, primary: Cards) -> Footprint:
    """Return the footprint of a chip whose header leads to the focal plane, and the mosaic's to the sky."""
    if axis_types(primary) != _MOSAIC:
        raise BundleUnusable(
            "the header gives positions in the focal plane (CTYPE1 is RA---WRP); expected a primary header "
            f"with CTYPE1 RA---DIS that gives those on the sky, got {primary.text('CTYPE1')!r}"
        )
    chip = _plane(cards)._replace(origin=_pair(cards, "CRVAL1", "CRVAL2"))
    return _footprint((chip, _plane(primary)), _sphere(primary), naxis1, naxis2)


# Image, mask and weight of a chip or a sky cell have the same, and are read one after the other.
@lru_cache(maxsize=256)
def _footprint(planes: tuple[_Plane, ...], sphere: _Tangent, naxis1: int, naxis2: int) -> Footprint:
    """Return the footprint of an image; the ``planes`` lead from its pixels to the tangent plane in turn."""
    positions = pixels_to_ask(naxis1, naxis2)
    for plane in planes:
        positions = [plane.at(position) for position in positions]
    area = math.prod(plane.determinant for plane in planes)
    return enclose([sphere.at(position) for position in positions], math.sqrt(abs(area)) * 3600.0)


def _sphere(cards: Cards) -> _Tangent:
    ra, dec = _pair(cards, "CRVAL1", "CRVAL2")
    # The pipeline turns by 180 degrees everywhere, FITS not at the celestial pole.
    default = 180.0 if dec < 90.0 or _is_written_by_pipeline(cards) else 0.0
    pole = cards.number("LONPOLE")
    return _Tangent(ra, sin_cos(dec), sin_cos(default if pole is None else pole))


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
        sin, cos = sin_cos(turn)
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
