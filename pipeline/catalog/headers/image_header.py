"""Images of a FITS file, by what their headers say: when, where, through which filter."""

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.catalog.headers.cards import Cards, Unit, read_units
from pipeline.catalog.headers.filters import band_of
from pipeline.catalog.headers.footprint import Footprint
from pipeline.catalog.headers.tan import axis_types, footprint_of
from pipeline.catalog.headers.times import start_of
from pipeline.errors import BundleUnusable, machine_faults
from pipeline.names import escaped

SECONDS_PER_DAY = 86_400.0
# Exposure times, airmasses and widths of stars from here on are none, and so are sizes that no column holds.
_INSENSIBLE = 1e9
_MAX_PIXELS = (1 << 31) - 1


@dataclass(frozen=True)
class ImageHeader:
    """Image of a FITS file; None stands for what its header does not say, or not as a sensible value.

    ``extension`` is the number of the unit, 0 for the primary one; ``name`` its EXTNAME. ``has_pixels`` is
    False for the header of an image whose pixels are in another file, as catalogs have it. ``t_min`` and
    ``t_max`` are MJD (UTC), ``exptime`` seconds, ``fwhm`` arcseconds. ``note`` says what is damaged.
    """

    extension: int
    name: str | None = None
    has_pixels: bool = True
    naxis1: int | None = None
    naxis2: int | None = None
    t_min: float | None = None
    t_max: float | None = None
    exptime: float | None = None
    filter: str | None = None
    band: str | None = None
    object: str | None = None
    airmass: float | None = None
    fwhm: float | None = None
    footprint: Footprint | None = None
    note: str | None = None


def read_images(path: Path) -> list[ImageHeader]:
    """Return the images of a FITS file, plain or compressed by gzip, in the order of their units.

    Empty units and tables are left out, but for tables that are compressed images and for empty units that
    describe the image a catalog was made from. Damage to the file is noted, in an entry for the unit where
    reading ended if need be. Raises MachineFault if the file cannot be read.
    """
    images: list[ImageHeader] = []
    primary: Cards | None = None
    reached = 0
    with machine_faults(f"reading the headers of {path}"):
        try:
            for unit in read_units(path):
                reached = unit.number + 1
                primary = primary or unit.cards
                image = _image(unit, primary)
                if image:
                    images.append(image)
        except BundleUnusable as error:
            images.append(ImageHeader(reached, note=str(error)))
    return images


def _image(unit: Unit, primary: Cards) -> ImageHeader | None:
    """Return the image of the unit, None if it has none. What its header lacks is in the primary one."""
    cards = unit.cards
    size = _size(cards)
    has_pixels = size is not None
    size = size or _size_elsewhere(cards)
    if size is None or (unit.number == 0 and not has_pixels and axis_types(cards)[0] == "RA---DIS"):
        return None
    notes = [f"the file is cut off, {unit.missing} bytes of the data are missing"] if unit.missing else []
    footprint = None
    try:
        footprint = footprint_of(cards, *size, primary)
    except BundleUnusable as error:
        notes.append(str(error))
    image = _circumstances(cards, primary, footprint.pixel_scale if footprint else None)
    return replace(
        image,
        extension=unit.number,
        name=_word(cards.text("EXTNAME")),
        has_pixels=has_pixels,
        naxis1=size[0],
        naxis2=size[1],
        footprint=footprint,
        note=_word("; ".join(notes)),
    )


def _size(cards: Cards) -> tuple[int, int] | None:
    """Return the pixels of an image along both axes, None for units of other kinds and empty ones."""
    kind = cards.text("XTENSION")
    if kind in {None, "IMAGE"}:
        return _axes(cards, "NAXIS")
    return _axes(cards, "ZNAXIS") if kind == "BINTABLE" and cards.text("ZIMAGE") == "T" else None


def _size_elsewhere(cards: Cards) -> tuple[int, int] | None:
    """Return the size of the image that an empty unit describes."""
    if cards.integer("NAXIS") != 0 or not axis_types(cards)[0]:
        return None
    return _axes(cards, "IMNAXIS") or _axes(cards, "ZNAXIS") or _axes(cards, "IMAGE", "W", "H")


def _axes(cards: Cards, name: str, first: str = "1", second: str = "2") -> tuple[int, int] | None:
    naxis1, naxis2 = cards.integer(name + first) or 0, cards.integer(name + second) or 0
    return (naxis1, naxis2) if 0 < naxis1 <= _MAX_PIXELS and 0 < naxis2 <= _MAX_PIXELS else None


def _circumstances(cards: Cards, primary: Cards, pixel_scale: float | None) -> ImageHeader:
    """Return what the headers say but for the position; widths of stars are pixels there."""

    headers = (cards,) if cards is primary else (cards, primary)

    def text(*names: str) -> str | None:
        return next((_word(value) for header in headers if (value := header.text(*names))), None)

    def number(*names: str) -> float | None:
        for header in headers:
            value = header.number(*names)
            if value is not None and 0.0 < value < _INSENSIBLE:
                return value
        return None

    start = start_of(cards, primary)
    exptime = number("EXPTIME", "CELL.EXPOSURE", "FPA.EXPOSURE", "EXPOSURE")
    fwhm = number("CHIP.SEEING", "FWHM_MAJ", "IQ_FW1", "FWHM")
    name = text("FILTER", "FPA.FILTER", "FILTERID", "FPA.FILTERID")
    return ImageHeader(
        0,
        t_min=start,
        t_max=None if start is None or exptime is None else start + exptime / SECONDS_PER_DAY,
        exptime=exptime,
        filter=name,
        band=band_of(name),
        object=text("OBJECT", "FPA.OBJECT"),
        airmass=number("AIRMASS", "FPA.AIRMASS"),
        fwhm=fwhm * pixel_scale if fwhm and pixel_scale else None,
    )


def _word(text: str | None) -> str | None:
    """Return the text with escapes for what is not printable, None for none."""
    return escaped(text) if text else None
