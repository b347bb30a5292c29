"""Coordinates that astropy computes: other projections, distortions, systems and units."""

import subprocess
import sys

import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from support.fits_headers import cards_of, header_of

from pipeline.catalog.headers.cards import Cards
from pipeline.catalog.headers.footprint import pixels_to_ask
from pipeline.catalog.headers.tan import footprint_of
from pipeline.errors import BundleUnusable

NONE = Cards(b"")
LINEAR = {"CRPIX1": 20.0, "CRPIX2": 30.0, "CDELT1": -0.01, "CDELT2": 0.01}
POSITION = {"CRVAL1": 35.0, "CRVAL2": 20.0}


def types(kind, first="RA--", second="DEC-"):
    return {"CTYPE1": f"{first}-{kind}", "CTYPE2": f"{second}-{kind}"}


SIP = {"A_ORDER": 2, "A_2_0": 1e-4, "B_ORDER": 2, "B_1_1": 2e-4}
CASES = {
    "SIN": types("SIN") | POSITION,
    "ZPN": types("ZPN") | POSITION | {"PV2_1": 1.0, "PV2_3": 40.0},
    "TAN-SIP": {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"} | POSITION | SIP,
    "TPV": types("TPV") | POSITION | {"PV1_0": 0.001, "PV1_1": 1.0, "PV2_0": 0.0, "PV2_1": 1.0},
    "FK4": types("TAN") | POSITION | {"RADESYS": "FK4", "EQUINOX": 1950.0},
    "equinox 1975": types("TAN") | POSITION | {"EQUINOX": 1975.0},
    "galactic": types("TAN", "GLON", "GLAT") | {"CRVAL1": 120.0, "CRVAL2": 45.0},
    "declination first": {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 20.0, "CRVAL2": 35.0},
    "arcseconds": types("TAN")
    | {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 126_000.0, "CRVAL2": 72_000.0}
    | {"CDELT1": -36.0, "CDELT2": 36.0},
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_positions_are_icrs(values):
    header = header_of(**(LINEAR | values))
    found = footprint_of(cards_of(header), 40, 60, NONE)
    wcs = WCS(header)
    x, y = zip(*pixels_to_ask(40, 60), strict=True)
    positions = SkyCoord(wcs.pixel_to_world([v - 1 for v in x], [v - 1 for v in y])).icrs
    ra, dec = map(list, zip(*found.corners, strict=True))
    corners = SkyCoord(ra=ra, dec=dec, unit="deg")
    assert positions[0].separation(SkyCoord(found.ra, found.dec, unit="deg")).deg < 1e-9
    assert max(corners.separation(position).min().deg for position in positions[1:]) < 1e-9
    assert found.radius == pytest.approx(max(positions[0].separation(positions[1:]).deg), rel=1e-6)
    assert found.pixel_scale == pytest.approx(36.0, rel=1e-2)


@pytest.mark.parametrize(
    "values",
    [
        types("XYZ") | POSITION,
        types("PLY") | POSITION,
        types("SIN") | {"CRVAL1": "x", "CRVAL2": 20.0},
        types("ZPN") | POSITION | {"CDELT1": 0.0},
        types("SIN") | POSITION | {"CRPIX1": 1e6},
    ],
    ids=["unknown", "PLY", "no position", "degenerate", "off the sphere"],
)
def test_coordinates_that_astropy_cannot_read_are_an_error(values):
    with pytest.raises(BundleUnusable, match="expected"):
        footprint_of(cards_of(header_of(**(LINEAR | values))), 40, 60, NONE)


@pytest.mark.parametrize("name", ["A_ORDER", "B_ORDER", "WCSAXES"])
@pytest.mark.parametrize("value", [55_041.5, 10**9, 10, 0, -1, "x"])
def test_astropy_never_works_for_hours(name, value):
    values = LINEAR | types("SIN") | POSITION | SIP | {name: value}
    with pytest.raises(BundleUnusable, match=f"expected a number from 1 to 9 as {name}"):
        footprint_of(cards_of(header_of(**values)), 40, 60, NONE)


def test_distortions_by_tables_are_left_out():
    tables = {"CPDIS1": "LOOKUP", "CPDIS2": "LOOKUP", "D2IMDIS1": "LOOKUP", "DP1": "EXTVER: 1"}
    plain = footprint_of(cards_of(header_of(**(LINEAR | types("SIN") | POSITION))), 40, 60, NONE)
    assert (
        footprint_of(cards_of(header_of(**(LINEAR | types("SIN") | POSITION | tables))), 40, 60, NONE)
        == plain
    )


def test_remarks_of_astropy_are_not_printed(capfd):
    odd = LINEAR | types("TAN") | POSITION | SIP
    assert footprint_of(cards_of(header_of(**odd)), 40, 60, NONE) is not None
    assert capfd.readouterr() == ("", "")


def test_headers_of_three_axes_have_the_two_on_the_sky():
    values = LINEAR | types("SIN") | POSITION | {"WCSAXES": 3, "CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT3": 1e6}
    assert footprint_of(cards_of(header_of(**values)), 39, 59, NONE).ra == pytest.approx(35.0)


def test_plain_tan_needs_neither_astropy_nor_numpy(tmp_path):
    path = tmp_path / "image.fits"
    fits.PrimaryHDU([[1, 2], [3, 4]], header_of(**(LINEAR | types("TAN") | POSITION))).writeto(path)
    code = (
        "import sys; from pathlib import Path; from pipeline.catalog.headers import read_images; "
        "images = read_images(Path(sys.argv[1])); assert images[0].footprint; "
        "assert not {'astropy', 'numpy', 'sqlalchemy', 'luigi'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
