"""The FITS files of the sample: valid, with a true WCS, stars where the catalogue says, honest noise."""

import io
import re
import tarfile

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from pipeline.bundle import mdc
from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import write_release
from pipeline.sample.sky import MD01, deproject, project

PLAN = ReleasePlan(exposures=2, chips=2, skycells=2, image_size=96, stamps=1, seed=7)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    out = tmp_path_factory.mktemp("images") / "store"
    write_release(out, PLAN)
    return out


@pytest.fixture(scope="module")
def fits_files(store):
    """Every FITS file of the store by its name, with those in bundles."""
    found = {path.name: path.read_bytes() for path in store.rglob("*.fits")}
    for path in store.rglob("*.tgz"):
        with tarfile.open(path) as archive:
            for entry in archive.getmembers():
                if entry.name.endswith((".fits", ".cmf", ".smf")):
                    found[entry.name[2:]] = archive.extractfile(entry).read()
    return found


def opened(content: bytes) -> fits.HDUList:
    return fits.open(io.BytesIO(content), memmap=False)


def with_wcs(units: fits.HDUList) -> list[fits.Header]:
    return [unit.header for unit in units if "CTYPE1" in unit.header]


def pointings(store) -> dict[str, tuple[float, float]]:
    rows = [
        mdc.read(path.read_bytes(), str(path))["rawExp"]
        for path in store.glob("md-all-rel-200907/*.raw.*/dbinfo.*.mdc")
    ]
    return {row["exp_name"]: (row["ra"], row["decl"]) for row in rows}


def test_every_file_is_valid_and_says_how_it_was_taken(fits_files):
    assert len(fits_files) > 40
    for name, content in fits_files.items():
        with opened(content) as units:
            units.verify("exception")
            assert len(content) % 2880 == 0
            if name == "results.fits":
                continue
            header = units[0].header
            assert header["OBJECT"] in {"MD01", "MD09"}
            assert header["FILTER"] in {"r.00000", "g.00000"}
            assert header["EXPTIME"] in {113.0, 226.0}
            assert Time(header["DATE-OBS"], scale="utc").mjd == pytest.approx(header["MJD-OBS"], abs=1e-8)
            assert 1.0 <= header["AIRMASS"] < 2.5
            assert with_wcs(units)


def test_no_header_holds_the_time_or_the_version_of_a_library(fits_files):
    for content in fits_files.values():
        with opened(content) as units:
            for unit in units:
                assert not {"DATE", "CHECKSUM", "ORIGIN", "CREATOR", "HISTORY"} & set(unit.header)


def test_the_centre_of_the_camera_is_where_the_exposure_points(store, fits_files):
    """The middle of the 8 by 8 grid of chips, seen from each chip."""
    checked = 0
    size, middle = PLAN.image_size, 4 * PLAN.image_size - 0.5
    for name, (ra, decl) in pointings(store).items():
        for file, content in fits_files.items():
            chip = re.match(rf"{name}\.(?:ota|\d+\.ch\.\d+\.XY)(\d)(\d)\..*fits", file)
            if chip:
                with opened(content) as units:
                    [header] = with_wcs(units)
                x, y = middle - int(chip[1]) * size, middle - int(chip[2]) * size
                place = WCS(header).pixel_to_world(x, y)
                assert place.separation(SkyCoord(ra, decl, unit="deg")).arcsec < 0.01
                checked += 1
    raw, processed = 1, 3
    assert checked == PLAN.exposures * PLAN.chips * (raw + processed)


def test_pointings_are_within_arcseconds_of_the_field(store):
    centre = SkyCoord(MD01.ra, MD01.decl, unit="deg")
    for ra, decl in pointings(store).values():
        assert SkyCoord(ra, decl, unit="deg").separation(centre).arcsec < 5


def test_catalogues_agree_with_the_wcs_and_the_pixels(fits_files):
    stems = [name.removesuffix(".ch.fits") for name in fits_files if name.endswith(".ch.fits")]
    assert len(stems) == PLAN.exposures * PLAN.chips
    for stem in stems:
        with opened(fits_files[f"{stem}.cmf"]) as units:
            stars = units["SkyChip.psf"].data
        with opened(fits_files[f"{stem}.ch.fits"]) as units:
            header, image = units[0].header, units[0].data
        assert 5 < len(stars) <= 40
        places = WCS(header).pixel_to_world(stars["X_PSF"], stars["Y_PSF"])
        listed = SkyCoord(stars["RA_PSF"], stars["DEC_PSF"], unit="deg")
        assert places.separation(listed).arcsec.max() < 0.01
        bright = stars[np.argsort(stars["CAL_PSF_MAG"])[:5]]
        inside = bright[(np.abs(bright["X_PSF"] - 47.5) < 45) & (np.abs(bright["Y_PSF"] - 47.5) < 45)]
        for star in inside:
            x, y = round(float(star["X_PSF"])), round(float(star["Y_PSF"]))
            assert image[y, x] > star["SKY"] + 5 * star["SKY_SIGMA"]


def test_the_same_stars_shine_in_every_stage(fits_files):
    """A star of the warp is found at its place and brightness in the stack."""

    def catalogue(name: str):
        with opened(fits_files[name]) as units:
            stars = units["SkyChip.psf"].data
            return SkyCoord(stars["RA_PSF"], stars["DEC_PSF"], unit="deg"), stars["CAL_PSF_MAG"].copy()

    warp, warp_mag = catalogue("o4741g0234o.44433.wrp.7001.skycell.1566.004.cmf")
    stack, stack_mag = catalogue("MD01.V2.skycell.1566.004.stk.2002.cmf")
    bright = warp_mag < 18.5
    distances = warp[bright, np.newaxis].separation(stack[np.newaxis, :]).arcsec
    nearest = distances.argmin(axis=1)
    assert distances.min(axis=1).max() < 0.3
    assert np.abs(warp_mag[bright] - stack_mag[nearest]).max() < 0.2


def test_the_noise_is_what_the_variance_says(fits_files):
    """Seen in the differences of neighbouring pixels, where hardly a star is left."""
    names = [name for name in fits_files if re.fullmatch(r".*\.dif\.\d+\.skycell\.1566\.\d+\.fits", name)]
    assert len(names) == 3
    for name in names:
        variance_name = name.replace(".fits", ".wt.fits")
        with opened(fits_files[name]) as image, opened(fits_files[variance_name]) as variance:
            pixels, expected = image[0].data.astype(float), variance[0].data.astype(float)
        steps = np.diff(pixels) / np.sqrt(expected[:, 1:] + expected[:, :-1])
        assert 1.4826 * np.median(np.abs(steps)) == pytest.approx(1.0, abs=0.06)
        assert abs(np.median(pixels)) < np.sqrt(np.median(expected)) / 5


def test_raw_and_processed_chip_are_of_one_exposure(fits_files):
    with opened(fits_files["o4741g0234o.ota01.fits"]) as raw:
        assert raw[1].name == "XY01"
        assert raw[1].data.dtype.kind == "u"
        counts = raw[1].data.astype(float)
    with opened(fits_files["o4741g0234o.44433.ch.14517.XY01.ch.fits"]) as chip:
        signal = chip[0].data
    unsaturated = counts < 65_535
    assert np.abs(counts - 1000 - signal)[unsaturated].max() <= 1.0


def test_the_camera_s_catalogue_has_every_chip(fits_files):
    with opened(fits_files["o4741g0234o.44433.cm.9001.smf"]) as units:
        assert [unit.name for unit in units[1:]] == ["XY01.HDR", "XY01.PSF", "XY02.HDR", "XY02.PSF"]
        assert all(len(unit.data) > 5 for unit in units[2::2])


@pytest.mark.parametrize("place", [(35.875, -4.25), (0.001, 0.283), (334.188, 89.0)])
def test_the_tangent_plane_is_astropy_s(place):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], place
    wcs.wcs.cdelt, wcs.wcs.crpix = [1 / 3600, 1 / 3600], [0, 0]
    east, north = np.array([-3000.0, 0.0, 45.5]), np.array([10.0, 0.0, 2500.0])
    expected_ra, expected_decl = wcs.wcs_pix2world(east, north, 1)
    ra, decl = deproject(east, north, *place)
    assert ra == pytest.approx(expected_ra, abs=1e-9)
    assert decl == pytest.approx(expected_decl, abs=1e-9)
    assert np.array(project(ra, decl, *place)) == pytest.approx(np.array([east, north]), abs=1e-6)
