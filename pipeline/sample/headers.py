"""Header cards as the pipeline writes them (docs/protocol.md, "FITS headers")."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from astropy.io import fits
from astropy.time import Time

from pipeline.sample.sky import Frame
from pipeline.sample.survey import GAIN, READ_NOISE, mjd

Card = tuple[str, str | float | int | bool, str]

MASK_BAD, MASK_SATURATED = 0x0001, 0x0020
_MASK_NAMES = (("DETECTOR", MASK_BAD), ("SAT", MASK_SATURATED))
_PIXEL = 10.0
"""Microns on a side of a pixel of the camera."""


class Skycell(NamedTuple):
    """Set of sky cells, and a cell in it."""

    tess_id: str
    skycell_id: str


@dataclass(frozen=True)
class Observation:
    """Circumstances of an image, for its header: time in UTC, exposure in seconds, angles in degrees.

    ``fwhm`` is the width of stars in pixels, ``zero_point`` the magnitude of one count, ``images`` the number
    of averaged images.
    """

    target: str
    filter: str
    start: datetime
    exposure: float
    airmass: float
    ra: float
    decl: float
    altitude: float
    azimuth: float
    fwhm: float
    zero_point: float
    images: int = 1

    def camera_cards(self) -> list[Card]:
        """Return the cards of an image in the layout of the camera, without the WCS."""
        start = self.start.astimezone(UTC)
        return [
            ("TELESCOP", "PS1", "Pan-STARRS 1, Haleakala"),
            ("INSTRUME", "gpc1", "Gigapixel camera 1"),
            ("OBSTYPE", "OBJECT", ""),
            ("OBJECT", self.target, "Name of the field"),
            ("FILTERID", self.filter, "Filter and its serial number"),
            ("EXPREQ", self.exposure, "[s] Exposure time requested"),
            ("EXPTIME", self.exposure, "[s] Exposure time"),
            ("TIMESYS", "UTC", "Time scale"),
            ("DATE-OBS", start.strftime("%Y-%m-%dT%H:%M:%S.%f"), "Start of the exposure"),
            ("MJD-OBS", mjd(start), "[d] Start of the exposure"),
            ("RA", self.ra, "[deg] Centre of the camera"),
            ("DEC", self.decl, "[deg] Centre of the camera"),
            ("ALT", self.altitude, "[deg] At the start"),
            ("AZ", self.azimuth, "[deg] At the start"),
            ("AIRMASS", self.airmass, "At the start"),
            ("POSANGLE", 0.0, "[deg]"),
            ("GAIN", GAIN, "[e/count]"),
            ("RDNOISE", READ_NOISE, "[e]"),
        ]

    def skycell_cards(self, skycell: Skycell) -> list[Card]:
        """Return the cards of an image in the layout of sky cells, without the WCS.

        The time is in TAI, which nothing in the header says.
        """
        return [
            ("PSCAMERA", "GPC1", "Camera"),
            ("PSFORMAT", "SKYCELL", "Layout of the header"),
            ("TESS_ID", skycell.tess_id, "Set of sky cells"),
            ("SKYCELL", skycell.skycell_id, "Sky cell"),
            ("HIERARCH FPA.TELESCOPE", "PS1", ""),
            ("HIERARCH FPA.INSTRUMENT", "GPC1", ""),
            ("HIERARCH FPA.OBSTYPE", "OBJECT", ""),
            ("HIERARCH FPA.OBJECT", self.target, ""),
            ("HIERARCH FPA.FILTERID", self.filter, ""),
            ("HIERARCH FPA.FILTER", self.filter, ""),
            ("HIERARCH FPA.RA", _sexagesimal(self.ra / 15.0), "[h]"),
            ("HIERARCH FPA.DEC", _sexagesimal(self.decl), "[deg]"),
            ("HIERARCH FPA.ALT", self.altitude, "[deg]"),
            ("HIERARCH FPA.AZ", self.azimuth, "[deg]"),
            ("HIERARCH FPA.ZP", round(self.zero_point, 4), "[mag] One count"),
            ("HIERARCH CHIP.SEEING", self.fwhm, "[pixel] Width of stars"),
            ("HIERARCH CELL.GAIN", GAIN, "[e/count]"),
            ("HIERARCH CELL.READNOISE", READ_NOISE, "[e]"),
            ("AIRMASS", self.airmass, "At the start"),
            ("EXPTIME", self.exposure, "[s] Exposure time"),
            ("MJD-OBS", float(Time(self.start.replace(tzinfo=None), scale="utc").tai.mjd), "[d] Start"),
            ("NINPUTS", self.images, "Exposures averaged"),
        ]

    def chip_quality_cards(self) -> list[Card]:
        """Return the cards that were measured on a processed chip."""
        return [
            ("FWHM_MAJ", round(self.fwhm * 1.03, 3), "[pixel] Width of stars"),
            ("FWHM_MIN", round(self.fwhm * 0.97, 3), "[pixel] Width of stars"),
            ("ZPT_OBS", round(self.zero_point, 4), "[mag] One count"),
        ]


def image_cards() -> list[Card]:
    """Return the cards that only an image of counts has."""
    return [("BUNIT", "count", "")]


def variance_cards() -> list[Card]:
    """Return the cards that only the variance of an image has."""
    return [("BUNIT", "count2", ""), ("VARFACTR", 1.0, "Covariance of neighbouring pixels")]


def mask_cards() -> list[Card]:
    """Return the cards that only a mask has: the names of its bits."""
    bits: list[Card] = [("MSKNUM", len(_MASK_NAMES), "Bits that are named")]
    for number, (name, value) in enumerate(_MASK_NAMES):
        bits += [(f"MSKNAM{number:02d}", name, "Bit"), (f"MSKVAL{number:02d}", value, "Its value")]
    return bits


@cache
def housekeeping_cards(number: int) -> bytes:
    """Return cards like those that fill real headers (voltages, overscans, detrends), as bytes of a file."""
    return "".join(str(_housekeeping_card(each)) for each in range(number)).encode("ascii")


def _housekeeping_card(number: int) -> fits.Card:
    kind, place = number % 4, f"xy{number % 8}{number // 8 % 8}"
    if kind == 0:
        return fits.Card(f"OVSC{number:04d}", 1000.25 + number / 8, f"[count] Overscan of cell {place}")
    if kind == 1:
        return fits.Card(f"READ{number:04d}", number, f"Turn of cell {place}")
    if kind == 2:
        return fits.Card(f"DETR{number:04d}", f"detrends/flat.{number:05d}.fits", "Detrend image")
    return fits.Card(f"HIERARCH DETECTOR.VOLTAGE.{place}.{number}", 5.0 + number / 1000, "[V]")


def cd_cards(frame: Frame) -> list[Card]:
    """Return the WCS as a TAN projection with the matrix ``CDi_j``."""
    degrees = frame.scale / 3600.0
    return [
        *_tangent_point("TAN", frame.ra, frame.decl, *frame.reference_pixel),
        ("CD1_1", -degrees, "[deg/pixel]"),
        ("CD1_2", 0.0, "[deg/pixel]"),
        ("CD2_1", 0.0, "[deg/pixel]"),
        ("CD2_2", degrees, "[deg/pixel]"),
    ]


def pc_cards(frame: Frame) -> list[Card]:
    """Return the WCS as a TAN projection with ``CDELTi`` and the matrix ``PC00i00j``."""
    return [
        *_tangent_point("TAN", frame.ra, frame.decl, *frame.reference_pixel),
        *_scaled_matrix(frame.scale / 3600.0, -1.0, "[deg/pixel]"),
    ]


def focal_plane_cards(frame: Frame) -> list[Card]:
    """Return the WCS from pixels of a chip to the focal plane: microns from the centre of the camera."""
    x, y = frame.reference_pixel
    return [
        *_tangent_point("WRP", -x * _PIXEL, -y * _PIXEL, 0.0, 0.0),
        *_scaled_matrix(_PIXEL, 1.0, "[micron/pixel]"),
        ("NPLYTERM", 1, "Order of the polynomial"),
    ]


def mosaic_cards(frame: Frame) -> list[Card]:
    """Return the WCS of the focal plane of which the frame's chip is a part."""
    return [
        *_tangent_point("DIS", frame.ra, frame.decl, 0.0, 0.0),
        *_scaled_matrix(frame.scale / 3600.0 / _PIXEL, -1.0, "[deg/micron]"),
        ("NPLYTERM", 1, "Order of the polynomial"),
        ("IMNAXIS1", 8 * frame.size, "Extent of the focal plane"),
        ("IMNAXIS2", 8 * frame.size, "Extent of the focal plane"),
    ]


def _tangent_point(projection: str, ra: float, decl: float, x: float, y: float) -> list[Card]:
    return [
        ("RADESYS", "ICRS", "Celestial reference system"),
        ("EQUINOX", 2000.0, ""),
        ("CTYPE1", f"RA---{projection}", ""),
        ("CTYPE2", f"DEC--{projection}", ""),
        ("CRVAL1", ra, "At the reference pixel"),
        ("CRVAL2", decl, "At the reference pixel"),
        ("CRPIX1", x, "[pixel]"),
        ("CRPIX2", y, "[pixel]"),
    ]


def _scaled_matrix(scale: float, parity: float, unit: str) -> list[Card]:
    return [
        ("CDELT1", scale, unit),
        ("CDELT2", scale, unit),
        ("PC001001", parity, ""),
        ("PC001002", 0.0, ""),
        ("PC002001", 0.0, ""),
        ("PC002002", 1.0, ""),
    ]


def _sexagesimal(value: float) -> str:
    thousandths = round(abs(value) * 3_600_000)
    minutes, seconds = divmod(thousandths, 60_000)
    sign = "-" if value < 0 else ""
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}:{seconds / 1000:06.3f}"
