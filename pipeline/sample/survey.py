"""Exposures: names, numbers, times and observing conditions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pipeline.sample.sky import Field, Frame, Stars, chip_frame, generator, tile_stars

FIRST_NIGHT = date(2009, 7, 29)
FIRST_NIGHT_NUMBER = 4741
NIGHTS = 100
EXPOSURES_PER_NIGHT = 2
"""Exposures of a field in a night before the next night comes; after the last night comes the first one."""
CADENCE = timedelta(seconds=130)
EXPOSURE_TIME = 113.0
"""Seconds."""

LATITUDE, LONGITUDE = 20.7082, -156.2559
GAIN = 1.0
"""Electrons per count."""
READ_NOISE = 8.0
"""Electrons."""
DETECTION_LIMIT = 5.0
"""Least signal to noise of a star in a catalogue."""

FILTERS = ("r.00000", "g.00000", "i.00000")
_SKY_COUNTS = {"r.00000": 700.0, "g.00000": 320.0, "i.00000": 1100.0}
_ZERO_POINT = {"r.00000": 24.72, "g.00000": 24.61, "i.00000": 24.65}
_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)


class Conditions(NamedTuple):
    """Pointing (degrees) and observing conditions.

    ``sky`` is counts per pixel, ``fwhm`` the width of stars in pixels, ``zero_point`` the magnitude of
    a star that gives one count per second.
    """

    ra: float
    decl: float
    sky: float
    fwhm: float
    zero_point: float
    ccd_temperature: float


@dataclass(frozen=True)
class Exposure:
    """Exposure of a field; ``ids`` are the numbers of its runs, by stage."""

    index: int
    field: Field
    seed: int
    ids: dict[str, int]

    @property
    def name(self) -> str:
        """Name given by the telescope: ``o4741g0234o``, the night and the number in that night."""
        return f"o{FIRST_NIGHT_NUMBER + self.night}g{self.field.first_exposure + self.number:04d}o"

    @property
    def night(self) -> int:
        """Night of the survey, counted from 0."""
        return self.index // EXPOSURES_PER_NIGHT % NIGHTS

    @property
    def number(self) -> int:
        """Number of the exposure among those of the field in its night, counted from 0."""
        pair, turn = divmod(self.index, EXPOSURES_PER_NIGHT)
        return pair // NIGHTS * EXPOSURES_PER_NIGHT + turn

    @property
    def base(self) -> str:
        """Name and exp_id: ``o4741g0234o.44433``, folder and stem of all products of the exposure."""
        return f"{self.name}.{self.ids['raw']}"

    @property
    def start(self) -> datetime:
        """Time at which the shutter opened, UTC."""
        first = datetime.combine(FIRST_NIGHT, self.field.opens, UTC)
        return first + timedelta(days=self.night) + self.number * CADENCE

    @property
    def filter(self) -> str:
        """Filter with its serial number."""
        return FILTERS[self.index % len(FILTERS)]

    @property
    def data_group(self) -> str:
        """Field and date, by which processing is grouped."""
        return f"{self.field.name}.{self.start:%Y%m%d}"

    @cached_property
    def conditions(self) -> Conditions:
        """Pointing, within 3 arcseconds of the field's centre, and weather."""
        random = generator(self.seed, "conditions", self.field.name, self.index)
        dither = random.uniform(-3.0, 3.0, 2) / 3600.0
        return Conditions(
            ra=round(self.field.ra + float(dither[0]), 6),
            decl=round(self.field.decl + float(dither[1]), 6),
            sky=round(_SKY_COUNTS[self.filter] * random.uniform(0.9, 1.2), 2),
            fwhm=round(random.uniform(3.8, 5.2), 3),
            zero_point=round(_ZERO_POINT[self.filter] - random.uniform(0.0, 0.08), 4),
            ccd_temperature=round(-71.5 + random.uniform(-0.5, 0.5), 2),
        )

    @property
    def altitude_azimuth(self) -> tuple[float, float]:
        """Pointing at the start: degrees above the horizon, and from north to east."""
        sidereal = 280.46061837 + 360.98564736629 * (mjd(self.start) - 51544.5) + LONGITUDE
        hour = np.radians(sidereal - self.conditions.ra)
        decl, latitude = np.radians(self.conditions.decl), np.radians(LATITUDE)
        up = np.sin(latitude) * np.sin(decl) + np.cos(latitude) * np.cos(decl) * np.cos(hour)
        north = np.cos(latitude) * np.sin(decl) - np.sin(latitude) * np.cos(decl) * np.cos(hour)
        azimuth = np.degrees(np.arctan2(-np.cos(decl) * np.sin(hour), north)) % 360.0
        return round(float(np.degrees(np.arcsin(up))), 5), round(float(azimuth), 5)

    @property
    def airmass(self) -> float:
        """Airmass of a flat atmosphere at the start."""
        return round(1.0 / float(np.sin(np.radians(self.altitude_azimuth[0]))), 5)

    @property
    def quality(self) -> "Quality":
        """Quality of the images."""
        return quality_of([self])

    def chip_frame(self, chip: int, size: int) -> Frame:
        """Return the frame of a chip, ``size`` pixels on a side."""
        return chip_frame(self.conditions.ra, self.conditions.decl, chip, size)

    def stars(self, tile: int, size: int) -> Stars:
        """Return the stars under a chip or sky cell."""
        return tile_stars(self.field, tile, size, self.seed)


@dataclass(frozen=True)
class Quality:
    """Quality of an image, as far as the pixels depend on it.

    ``sky`` counts per pixel, ``fwhm`` pixels, ``zero_point`` the magnitude of one count,
    ``images`` the number of averaged images.
    """

    sky: float
    fwhm: float
    zero_point: float
    images: int = 1

    @property
    def noise(self) -> float:
        """Standard deviation of a pixel without stars, counts."""
        return float(np.sqrt((self.sky / GAIN + (READ_NOISE / GAIN) ** 2) / self.images))

    def fluxes(self, stars: Stars) -> np.ndarray:
        """Return the counts of each star."""
        return 10 ** (0.4 * (self.zero_point - stars.mag))

    def flux_errors(self, stars: Stars) -> np.ndarray:
        """Return the standard deviation of the counts of each star."""
        area = 4 * np.pi * (self.fwhm / 2.3548) ** 2
        return np.sqrt(self.fluxes(stars) / GAIN / self.images + area * self.noise**2)


def quality_of(exposures: Sequence[Exposure]) -> Quality:
    """Return the quality of one exposure's images, or of the average of several."""
    conditions = [exposure.conditions for exposure in exposures]
    zero_point = float(np.mean([each.zero_point for each in conditions]))
    return Quality(
        sky=float(np.mean([each.sky for each in conditions])),
        fwhm=float(np.mean([each.fwhm for each in conditions])),
        zero_point=zero_point + 2.5 * float(np.log10(EXPOSURE_TIME)),
        images=len(exposures),
    )


def exposure_index(name: str, field: Field) -> int:
    """Return the index of the exposure of that name in its field, counted from 0."""
    night, number = name.strip("o").split("g")
    cycle, turn = divmod(int(number) - field.first_exposure, EXPOSURES_PER_NIGHT)
    pair = cycle * NIGHTS + int(night) - FIRST_NIGHT_NUMBER
    return pair * EXPOSURES_PER_NIGHT + turn


def mjd(time: datetime) -> float:
    """Return the modified Julian date, days."""
    return (time - _MJD_ZERO) / timedelta(days=1)
