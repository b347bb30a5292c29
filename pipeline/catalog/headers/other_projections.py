"""Sky coordinates other than plain TAN, by astropy, whose import takes most of a second."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from astropy import log
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area, wcs_to_celestial_frame

from pipeline.catalog.headers.cards import Cards
from pipeline.catalog.headers.footprint import Footprint, enclose, pixels_to_ask
from pipeline.errors import BundleUnusable

# astropy gets no other keywords, since some make it work for hours: it looks for as many axes and powers as a
# header says. Distortions by tables, of a few pixels, are left out.
_KEYWORDS = re.compile(
    rb"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[1-9]|(CD|PC)[1-9]_[1-9]|PC00[1-9]00[1-9]|PV[1-9]_[0-9]{1,2}|"
    rb"[AB]_ORDER|[AB]_[0-9]_[0-9]|WCSAXES|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|MJD-OBS|DATE-OBS"
)
_MOST = {"WCSAXES": 9, "A_ORDER": 9, "B_ORDER": 9}


def footprint_by_astropy(cards: Cards, naxis1: int, naxis2: int) -> Footprint:
    """Return the footprint of the image. Raises BundleUnusable if astropy finds no sky coordinates."""
    for name, most in _MOST.items():
        if cards.has_any(name) and (cards.integer(name) or 0) not in range(1, most + 1):
            raise BundleUnusable(f"expected a number from 1 to {most} as {name}, got {cards.text(name)!r}")
    with _quiet_astropy():
        try:
            wcs = WCS(fits.Header.fromstring(cards.matching(_KEYWORDS).decode("latin-1"))).celestial
            x, y = zip(*pixels_to_ask(naxis1, naxis2), strict=True)
            world = wcs.all_pix2world(x, y, 1)
            longitude, latitude = reversed(world) if wcs.wcs.lng else world
            positions = SkyCoord(longitude, latitude, unit="deg", frame=wcs_to_celestial_frame(wcs)).icrs
            scale = float(proj_plane_pixel_area(wcs)) ** 0.5 * 3600.0
        except Exception as error:  # Damaged headers make astropy raise errors of all kinds.
            reason = " ".join(str(error).split())[:300]
            raise BundleUnusable(f"expected sky coordinates that astropy can read, got: {reason}") from None
    return enclose(list(zip(positions.ra.deg.tolist(), positions.dec.deg.tolist(), strict=True)), scale)


@contextmanager
def _quiet_astropy() -> Iterator[None]:
    """Keep remarks of astropy on odd headers from the console, which belongs to the command."""
    level = log.level
    log.setLevel("ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
