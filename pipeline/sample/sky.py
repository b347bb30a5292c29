"""The sky over the sample survey: fields, the layout of chips on it, stars, and where images point.

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
"""The 60 chips of the camera: an 8 by 8 grid without its corners."""

Floats = NDArray[np.float64]


class Stars(NamedTuple):
    """Stars with their places (degrees) and magnitudes, arrays of one length."""

    ra: Floats
    decl: Floats
    mag: Floats


@dataclass(frozen=True)
class Field:
    """A field of the survey: its name, its centre and the projection cell of its sky cells.

    ``opens`` is when its first exposure of a night is taken (UTC), ``first_exposure`` the number of that
    exposure, ``first_run`` what the numbers of its runs are ahead of those of other fields.
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

    def skycell(self, index: int) -> str:
        """Name of a sky cell, ``skycell.1566.004``."""
        return f"skycell.{self.projection}.{index + 4:03d}"


MD01 = Field("MD01", 35.875, -4.25, 1566, time(12, 40), first_exposure=234, first_run=0)
MD09 = Field("MD09", 334.188, 0.283, 1315, time(8, 20), first_exposure=134, first_run=100_000)


@dataclass(frozen=True)
class Frame:
    """Which part of the sky a square image shows: a TAN projection, north up, east to the left.

    ``ra``, ``decl`` is the tangent point, ``east``, ``north`` the offset of the image's centre from
    it, ``scale`` arcseconds per pixel, ``size`` pixels on a side.
    """

    ra: float
    decl: float
    east: float
    north: float
    scale: float
    size: int

    @property
    def reference_pixel(self) -> tuple[float, float]:
        """Where the tangent point falls, counted from 1 as FITS does."""
        middle = self.size / 2 + 0.5
        return middle + self.east / self.scale, middle - self.north / self.scale

    def pixels(self, ra: Floats, decl: Floats) -> tuple[Floats, Floats]:
        """Places on the sky as x and y, counted from 0."""
        east, north = project(ra, decl, self.ra, self.decl)
        x, y = self.reference_pixel
        return x - 1 - east / self.scale, y - 1 + north / self.scale

    def places(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixels, counted from 0, as ra and decl."""
        x0, y0 = self.reference_pixel
        return deproject((x0 - 1 - x) * self.scale, (y + 1 - y0) * self.scale, self.ra, self.decl)


def chip_frame(ra: float, decl: float, chip: int, size: int) -> Frame:
    """What a chip shows in an exposure pointed at ``ra``, ``decl``."""
    return Frame(ra, decl, *tile_offset(chip, size), CHIP_SCALE, size)


def skycell_frame(field: Field, index: int, size: int) -> Frame:
    """What a sky cell shows: the sky under the chip of the same index."""
    return Frame(field.ra, field.decl, *tile_offset(index, size), SKYCELL_SCALE, size)


def tile_offset(tile: int, size: int) -> tuple[float, float]:
    """Offset of the middle of a chip's tile from the middle of the camera, arcseconds east and north."""
    x, y = _GRID[tile]
    pitch = size * CHIP_SCALE
    return (3.5 - x) * pitch, (y - 3.5) * pitch


def tile_stars(field: Field, tile: int, size: int, seed: int) -> Stars:
    """The stars of one tile of the field: the same in every image that shows it."""
    random = generator(seed, "stars", field.name, tile)
    half = size * CHIP_SCALE / 2
    middle_east, middle_north = tile_offset(tile, size)
    east = middle_east + random.uniform(-half, half, STARS_PER_TILE)
    north = middle_north + random.uniform(-half, half, STARS_PER_TILE)
    growth = 10 ** (0.3 * (FAINTEST - BRIGHTEST)) - 1
    mag = BRIGHTEST + np.log10(1 + growth * random.random(STARS_PER_TILE)) / 0.3
    return Stars(*deproject(east, north, field.ra, field.decl), mag)


def project(ra: Floats, decl: Floats, ra0: float, decl0: float) -> tuple[Floats, Floats]:
    """Places on the sky as offsets in the plane that touches it at ``ra0``, ``decl0``."""
    turn = np.radians(ra - ra0)
    sin, cos = np.sin(np.radians(decl)), np.cos(np.radians(decl))
    sin0, cos0 = np.sin(np.radians(decl0)), np.cos(np.radians(decl0))
    depth = sin0 * sin + cos0 * cos * np.cos(turn)
    east = cos * np.sin(turn) / depth
    north = (cos0 * sin - sin0 * cos * np.cos(turn)) / depth
    return east * _ARCSEC, north * _ARCSEC


def deproject(east: Floats, north: Floats, ra0: float, decl0: float) -> tuple[Floats, Floats]:
    """Offsets in the plane that touches the sky at ``ra0``, ``decl0`` as places on the sky."""
    x, y = np.asarray(east) / _ARCSEC, np.asarray(north) / _ARCSEC
    sin0, cos0 = np.sin(np.radians(decl0)), np.cos(np.radians(decl0))
    ra = ra0 + np.degrees(np.arctan2(x, cos0 - y * sin0))
    decl = np.degrees(np.arctan2(sin0 + y * cos0, np.hypot(x, cos0 - y * sin0)))
    return ra % 360.0, decl


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """A source of random numbers of its own for whatever the keys name."""
    words = [key if isinstance(key, int) else zlib.crc32(key.encode()) for key in keys]
    return np.random.default_rng([seed, *words])
