"""Sky of the sample survey: fields, layout of the chips, stars, and geometry of images.

All angles on the sky are degrees (ICRS), offsets in a tangent plane are arcseconds, east and north.
"""

import zlib
from dataclasses import dataclass
from datetime import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHIP_SCALE = 0.257
"""Arcseconds per pixel of the camera."""
SKYCELL_SCALE = 0.25
"""Arcseconds per pixel of the sky cells."""

STARS_PER_TILE = 40
BRIGHTEST, FAINTEST = 15.5, 21.5
_ARCSEC = 180.0 * 3600.0 / np.pi

_GRID = [(x, y) for x in range(8) for y in range(8) if not (x in {0, 7} and y in {0, 7})]
CHIP_NAMES = tuple(f"XY{x}{y}" for x, y in _GRID)
"""Names of the 60 chips of the camera: an 8 by 8 grid without corners."""

Floats = NDArray[np.float64]


class Stars(NamedTuple):
    """Positions (degrees) and magnitudes of stars, arrays of one length."""

    ra: Floats
    decl: Floats
    mag: Floats


@dataclass(frozen=True)
class Field:
    """Field of the survey: name, centre and projection cell of the sky cells.

    ``opens`` is the time of the first exposure of a night (UTC), ``first_exposure`` the number of that
    exposure, ``first_run`` the offset of the numbers of runs from those of other fields.
    """

    name: str
    ra: float
    decl: float
    projection: int
    opens: time
    first_exposure: int
    first_run: int

    @property
    def tessellation(self) -> str:
        """Name of the set of sky cells, as in ``tess_id``."""
        return f"{self.name}.V2"

    @property
    def projection_cell(self) -> str:
        """Name of the part of the sky that has one projection, ``skycell.1566``."""
        return f"skycell.{self.projection}"

    def skycell(self, index: int) -> str:
        """Return the name of a sky cell, ``skycell.1566.004``."""
        return f"{self.projection_cell}.{index + 4:03d}"


MD01 = Field("MD01", 35.875, -4.25, 1566, time(12, 40), first_exposure=234, first_run=0)
MD09 = Field("MD09", 334.188, 0.283, 1315, time(8, 20), first_exposure=134, first_run=100_000)
THREEPI = Field("ThreePi", 359.9522, 0.4, 1405, time(10, 30), first_exposure=184, first_run=200_000)
"""Field whose first chips lie on both sides of right ascension 0 when images have 192 pixels on a side."""

RUNS_PER_FIELD = 100_000
"""Numbers of runs of a stage that belong to one field, from its ``first_run``."""


@dataclass(frozen=True)
class Frame:
    """Part of the sky in a square image: a TAN projection, north up, east to the left.

    ``ra``, ``decl`` is the tangent point, ``east``, ``north`` the offset of the centre of the image from that
    point, ``scale`` arcseconds per pixel, ``size`` pixels on a side.
    """

    ra: float
    decl: float
    east: float
    north: float
    scale: float
    size: int

    @property
    def reference_pixel(self) -> tuple[float, float]:
        """Position of the tangent point in pixels, counted from 1 as in FITS."""
        middle = self.size / 2 + 0.5
        return middle + self.east / self.scale, middle - self.north / self.scale

    def pixels(self, ra: Floats, decl: Floats) -> tuple[Floats, Floats]:
        """Return positions on the sky as x and y, counted from 0."""
        east, north = project(ra, decl, self.ra, self.decl)
        x, y = self.reference_pixel
        return x - 1 - east / self.scale, y - 1 + north / self.scale

    def places(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return pixels, counted from 0, as ra and decl."""
        x0, y0 = self.reference_pixel
        return deproject((x0 - 1 - x) * self.scale, (y + 1 - y0) * self.scale, self.ra, self.decl)


def chip_frame(ra: float, decl: float, chip: int, size: int) -> Frame:
    """Return the frame of a chip in an exposure pointed at ``ra``, ``decl``."""
    return Frame(ra, decl, *tile_offset(chip, size), CHIP_SCALE, size)


def skycell_frame(field: Field, index: int, size: int) -> Frame:
    """Return the frame of a sky cell: the sky under the chip of the same index."""
    return Frame(field.ra, field.decl, *tile_offset(index, size), SKYCELL_SCALE, size)


def overview_frame(field: Field, size: int, pixels: int) -> Frame:
    """Return the frame, ``pixels`` on a side, of all sky cells, which have ``size`` pixels on a side."""
    return Frame(field.ra, field.decl, 0.0, 0.0, 8 * size * CHIP_SCALE / pixels, pixels)


def tile_offset(tile: int, size: int) -> tuple[float, float]:
    """Return the offset of the centre of a tile from that of the camera, arcseconds east and north."""
    x, y = _GRID[tile]
    pitch = size * CHIP_SCALE
    return (3.5 - x) * pitch, (y - 3.5) * pitch


def tile_stars(field: Field, tile: int, size: int, seed: int) -> Stars:
    """Return the stars of one tile of the field: the same in every image that shows it."""
    random = generator(seed, "stars", field.name, tile)
    half = size * CHIP_SCALE / 2
    middle_east, middle_north = tile_offset(tile, size)
    east = middle_east + random.uniform(-half, half, STARS_PER_TILE)
    north = middle_north + random.uniform(-half, half, STARS_PER_TILE)
    growth = 10 ** (0.3 * (FAINTEST - BRIGHTEST)) - 1
    mag = BRIGHTEST + np.log10(1 + growth * random.random(STARS_PER_TILE)) / 0.3
    return Stars(*deproject(east, north, field.ra, field.decl), mag)


def project(ra: Floats, decl: Floats, ra0: float, decl0: float) -> tuple[Floats, Floats]:
    """Return positions on the sky as offsets in the plane that is tangent at ``ra0``, ``decl0``."""
    turn = np.radians(ra - ra0)
    sin, cos = np.sin(np.radians(decl)), np.cos(np.radians(decl))
    sin0, cos0 = np.sin(np.radians(decl0)), np.cos(np.radians(decl0))
    depth = sin0 * sin + cos0 * cos * np.cos(turn)
    east = cos * np.sin(turn) / depth
    north = (cos0 * sin - sin0 * cos * np.cos(turn)) / depth
    return east * _ARCSEC, north * _ARCSEC


def deproject(east: Floats, north: Floats, ra0: float, decl0: float) -> tuple[Floats, Floats]:
    """Return offsets in the plane that is tangent at ``ra0``, ``decl0`` as positions on the sky."""
    x, y = np.asarray(east) / _ARCSEC, np.asarray(north) / _ARCSEC
    sin0, cos0 = np.sin(np.radians(decl0)), np.cos(np.radians(decl0))
    ra = ra0 + np.degrees(np.arctan2(x, cos0 - y * sin0))
    decl = np.degrees(np.arctan2(sin0 + y * cos0, np.hypot(x, cos0 - y * sin0)))
    return ra % 360.0, decl


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """Return the source of random numbers that belongs to the keys."""
    words = [key if isinstance(key, int) else zlib.crc32(key.encode()) for key in keys]
    return np.random.default_rng([seed, *words])
