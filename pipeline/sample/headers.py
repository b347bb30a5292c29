"""Header cards of the FITS files."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.sample.sky import Frame
from pipeline.sample.survey import GAIN, READ_NOISE, mjd

Card = tuple[str, str | float | int | bool, str]


@dataclass(frozen=True)
class Observation:
    """Circumstances of an image, for its header: times in UTC, exposure in seconds."""

    target: str
    filter: str
    start: datetime
    exposure: float
    airmass: float

    def cards(self) -> list[Card]:
        """Return the header cards, without the WCS."""
        start = self.start.astimezone(UTC)
        return [
            ("TELESCOP", "PS1", "Pan-STARRS 1, Haleakala"),
            ("INSTRUME", "GPC1", "Gigapixel camera 1"),
            ("OBJECT", self.target, "Name of the field"),
            ("FILTER", self.filter, "Filter and its serial number"),
            ("EXPTIME", self.exposure, "[s] Exposure time"),
            ("TIMESYS", "UTC", "Time scale"),
            ("DATE-OBS", start.strftime("%Y-%m-%dT%H:%M:%S.%f"), "Start of the exposure"),
            ("MJD-OBS", mjd(start), "[d] Start of the exposure"),
            ("AIRMASS", self.airmass, "At the start"),
            ("GAIN", GAIN, "[e/count]"),
            ("RDNOISE", READ_NOISE, "[e]"),
        ]


def wcs_cards(frame: Frame) -> list[Card]:
    """Return the header cards of the WCS."""
    x, y = frame.reference_pixel
    degrees = frame.scale / 3600.0
    return [
        ("RADESYS", "ICRS", "Celestial reference system"),
        ("EQUINOX", 2000.0, ""),
        ("CTYPE1", "RA---TAN", ""),
        ("CTYPE2", "DEC--TAN", ""),
        ("CUNIT1", "deg", ""),
        ("CUNIT2", "deg", ""),
        ("CRVAL1", frame.ra, "[deg] Right ascension of the reference pixel"),
        ("CRVAL2", frame.decl, "[deg] Declination of the reference pixel"),
        ("CRPIX1", x, "[pixel]"),
        ("CRPIX2", y, "[pixel]"),
        ("CD1_1", -degrees, "[deg/pixel]"),
        ("CD1_2", 0.0, "[deg/pixel]"),
        ("CD2_1", 0.0, "[deg/pixel]"),
        ("CD2_2", degrees, "[deg/pixel]"),
    ]
