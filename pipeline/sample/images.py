"""FITS images and catalogues with a sky, noise, stars and a true WCS, as reproducible bytes.

Headers are written card by card: nothing in them depends on the clock.
"""

import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.sample.headers import MASK_BAD, MASK_SATURATED, Card
from pipeline.sample.sky import Frame, Stars
from pipeline.sample.survey import DETECTION_LIMIT, GAIN, READ_NOISE, Quality

SATURATION = 60_000.0
BIAS = 1_000
_STAMP_SIGMAS = 5.0
_BLOCK = 2880
"""Bytes of which headers and data of a FITS file are multiples."""
_BLANK = b" "
_END = b"END" + 77 * _BLANK
_TILE_ROWS = 16
_QUANTIZATION = 16.0
"""Steps of a compressed image for each standard deviation of the noise."""
_NO_DITHER = -1
"""Seeds of astropy's dithering come from the clock."""

Pixels = NDArray[np.float32]


class Planes(NamedTuple):
    """Three images of one part of the sky: counts, variance, and mask bits of bad pixels."""

    image: Pixels
    variance: Pixels
    mask: NDArray[np.uint16]


def render(frame: Frame, quality: Quality, stars: Stars, random: np.random.Generator) -> Planes:
    """Return the image of the stars through the frame, ``size`` by ``size`` pixels.

    Counts are rounded to an eighth, far below the noise, as scaled integers of a real camera are. The
    variance is estimated from the counts themselves.
    """
    image = np.full((frame.size, frame.size), quality.sky, np.float32)
    _add_stars(image, *frame.pixels(stars.ra, stars.decl), quality.fluxes(stars), quality.fwhm)
    noise = random.standard_normal(image.shape, dtype=np.float32)
    noise *= np.sqrt(_variance(image, quality))
    image += noise
    mask = np.zeros(image.shape, np.uint16)
    mask[image > SATURATION] = MASK_SATURATED
    mask[:, _bad_columns(frame.size, random)] |= MASK_BAD
    return Planes(_rounded(image), _rounded(_variance(image, quality)), mask)


def raw_counts(planes: Planes) -> NDArray[np.uint16]:
    """Return the image in raw counts: integers above a bias."""
    return np.clip(planes.image + BIAS, 0, 65_535).astype(np.uint16)


def image_bytes(pixels: NDArray[Any], cards: Iterable[Card]) -> bytes:
    """Return a FITS file of one image in its primary unit."""
    return written([fits.PrimaryHDU(pixels, fits.Header([*cards]))])


def compressed_bytes(pixels: NDArray[Any], cards: Iterable[Card]) -> bytes:
    """Return a FITS file of one tile-compressed image, behind an empty primary unit.

    Real numbers lose what is far below the noise.
    """
    image = fits.CompImageHDU(
        pixels,
        fits.Header([*cards]),
        compression_type="RICE_1",
        tile_shape=(min(_TILE_ROWS, len(pixels)), pixels.shape[1]),
        quantize_level=_QUANTIZATION,
        quantize_method=_NO_DITHER,
    )
    return written([fits.PrimaryHDU(), image])


def with_cards(content: bytes, cards: bytes) -> bytes:
    """Return a FITS file with more cards at the end of its primary header; ``cards`` are as in a file."""
    end = content.index(_END)
    header = content[:end] + cards + _END
    data = end + len(_END) + -(end + len(_END)) % _BLOCK
    return header + _BLANK * (-len(header) % _BLOCK) + content[data:]


def mosaic_bytes(images: Iterable[tuple[str, NDArray[Any], list[Card]]], cards: Iterable[Card]) -> bytes:
    """Return a FITS file with a primary unit of cards only and one named extension per image."""
    units = [fits.ImageHDU(pixels, fits.Header(wcs), name=name) for name, pixels, wcs in images]
    return written([fits.PrimaryHDU(header=fits.Header([*cards])), *units])


def catalogue_bytes(
    tables: Iterable[tuple[str, list[Card], fits.BinTableHDU]], cards: Iterable[Card]
) -> bytes:
    """Return a FITS file with two extensions per image: its cards without pixels, and its stars."""
    units: list[fits.ImageHDU | fits.BinTableHDU] = []
    for name, own, table in tables:
        table.name = f"{name}.psf"
        units += [fits.ImageHDU(None, fits.Header(own), name=f"{name}.hdr"), table]
    return written([fits.PrimaryHDU(header=fits.Header([*cards])), *units])


def detected(frame: Frame, quality: Quality, stars: Stars) -> Stars:
    """Return the stars that are bright enough and in the image."""
    x, y = frame.pixels(stars.ra, stars.decl)
    inside = (x > -0.5) & (x < frame.size - 0.5) & (y > -0.5) & (y < frame.size - 0.5)
    bright = quality.fluxes(stars) > DETECTION_LIMIT * quality.flux_errors(stars)
    return Stars(*(column[inside & bright] for column in stars))


def star_table(frame: Frame, quality: Quality, stars: Stars, random: np.random.Generator) -> fits.BinTableHDU:
    """Return the table of detected stars: positions in pixels (from 0) and degrees, magnitudes, errors."""
    found = detected(frame, quality, stars)
    number = len(found.mag)
    error = quality.flux_errors(found) / quality.fluxes(found)
    shift = error * quality.fwhm / 2.3548
    x, y = (place + shift * random.standard_normal(number) for place in frame.pixels(found.ra, found.decl))
    ra, decl = frame.places(x, y)
    instrumental = found.mag - quality.zero_point + 1.0857 * error * random.standard_normal(number)
    columns = [
        ("IPP_IDET", "J", np.arange(number)),
        ("X_PSF", "E", x),
        ("Y_PSF", "E", y),
        ("X_PSF_SIG", "E", shift),
        ("Y_PSF_SIG", "E", shift),
        ("PSF_INST_MAG", "E", instrumental),
        ("PSF_INST_MAG_SIG", "E", 1.0857 * error),
        ("CAL_PSF_MAG", "E", instrumental + quality.zero_point),
        ("RA_PSF", "D", ra),
        ("DEC_PSF", "D", decl),
        ("SKY", "E", np.full(number, quality.sky)),
        ("SKY_SIGMA", "E", np.full(number, quality.noise)),
        ("PSF_QF", "E", np.ones(number)),
        ("FLAGS", "J", np.zeros(number)),
    ]
    return fits.BinTableHDU.from_columns(
        [fits.Column(name=name, format=kind, array=values) for name, kind, values in columns]
    )


def _add_stars(
    pixels: Pixels, x: NDArray[np.float64], y: NDArray[np.float64], fluxes: NDArray[np.float64], fwhm: float
) -> None:
    """Add each star as a round gaussian, drawn only where it is not negligible."""
    sigma = fwhm / 2.3548
    reach = int(np.ceil(_STAMP_SIGMAS * sigma))
    size = pixels.shape[0]
    for column, row, flux in zip(x, y, fluxes, strict=True):
        across = np.arange(max(round(column) - reach, 0), min(round(column) + reach + 1, size))
        down = np.arange(max(round(row) - reach, 0), min(round(row) + reach + 1, size))
        if across.size and down.size:
            profile = np.outer(_gaussian(down - row, sigma), _gaussian(across - column, sigma))
            pixels[down[0] : down[-1] + 1, across[0] : across[-1] + 1] += flux * profile


def _gaussian(offset: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    profile: NDArray[np.float64] = np.exp(-0.5 * (offset / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return profile


def _variance(counts: Pixels, quality: Quality) -> Pixels:
    variance: Pixels = np.maximum(counts, np.float32(0.0))
    variance /= np.float32(GAIN * quality.images)
    variance += np.float32((READ_NOISE / GAIN) ** 2 / quality.images)
    return variance


def _bad_columns(size: int, random: np.random.Generator) -> NDArray[np.int64]:
    return random.integers(0, size, 1 + size // 500)


def _rounded(pixels: Pixels) -> Pixels:
    pixels *= 8
    np.rint(pixels, out=pixels)
    pixels /= 8
    return pixels


def written(units: list[fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU | fits.BinTableHDU]) -> bytes:
    """Return the units as the bytes of a FITS file."""
    file = io.BytesIO()
    # Verification takes as long as all the rest; the tests open and verify every file.
    fits.HDUList(units).writeto(file, output_verify="ignore")
    return file.getvalue()
