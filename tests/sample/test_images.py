"""The FITS files of the sample: valid, with a true WCS, stars where the catalogue says, honest noise."""

import io
import math
import re
import tarfile
import warnings
from datetime import UTC, timedelta

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS, FITSFixedWarning

from pipeline.bundle import mdc
from pipeline.sample.contents import stack_picture
from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import write_release
from pipeline.sample.sky import MD01, THREEPI, deproject, project, tile_offset
from pipeline.sample.survey import Exposure

PLAN = ReleasePlan(exposures=2, chips=2, skycells=2, image_size=96, stamps=1, seed=7)
STARTS = {
    "MD01": {"2009-07-29T12:40:00.000", "2009-07-29T12:42:10.000"},
    "MD09": {"2009-07-29T08:20:00.000", "2009-07-29T08:22:10.000"},
}
DATABASE = {
    "ALT": "alt",
    "AZ": "az",
    "AIRMASS": "airmass",
    "EXPTIME": "exp_time",
    "POSANGLE": "posang",
}


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


def sky(header: fits.Header) -> WCS:
    """The TAN projection of a header; astropy accepts the names PC00i00j with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)


def image_of(content: bytes) -> tuple[fits.Header, np.ndarray]:
    """Header and pixels of the only image of a file."""
    with opened(content) as units:
        [image] = [unit for unit in units if unit.is_image and unit.data is not None]
        return image.header, image.data


def circumstances(header: fits.Header) -> tuple[str, str, Time]:
    """Object, filter and start of an image, by the layout of its header."""
    if header.get("PSFORMAT") == "SKYCELL":
        assert "TIMESYS" not in header
        start = Time(header["MJD-OBS"], format="mjd", scale="tai")
        return header["FPA.OBJECT"], header["FPA.FILTERID"], start
    assert header["TIMESYS"] == "UTC"
    start = Time(header["MJD-OBS"], format="mjd", scale="utc")
    assert Time(header["DATE-OBS"], scale="utc").mjd == pytest.approx(start.mjd, abs=1e-8)
    return header["OBJECT"], header["FILTERID"], start


def pointings(store) -> dict[str, tuple[float, float]]:
    rows = [
        mdc.read(path.read_bytes(), str(path))["rawExp"]
        for path in store.glob("md-all-rel-200907/*.raw.*/dbinfo.*.mdc")
    ]
    return {row["exp_name"]: tuple(map(math.degrees, (row["ra"], row["decl"]))) for row in rows}


def test_every_file_is_valid_and_says_how_it_was_taken(fits_files):
    assert len(fits_files) > 40
    for name, content in fits_files.items():
        with opened(content) as units:
            units.verify("exception")
            assert len(content) % 2880 == 0
            if name == "results.fits":
                continue
            header = next(unit.header for unit in units if "MJD-OBS" in unit.header)
            field, band, start = circumstances(header)
            assert field in {"MD01", "MD09"}
            assert band in {"r.00000", "g.00000"}
            assert start.utc.isot in STARTS[field]
            assert header["EXPTIME"] == 113.0
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
                place = sky(header).pixel_to_world(x, y)
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
        header, image = image_of(fits_files[f"{stem}.ch.fits"])
        assert 5 < len(stars) <= 40
        places = sky(header).pixel_to_world(stars["X_PSF"], stars["Y_PSF"])
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


def test_the_database_says_of_exposures_what_the_headers_say(store, fits_files):
    exposures = [
        mdc.read(path.read_bytes(), str(path))["rawExp"] for path in sorted(store.rglob("dbinfo.raw.*.mdc"))
    ]
    assert len(exposures) == PLAN.exposures
    for row in exposures:
        [header] = [
            opened(content)[0].header
            for name, content in fits_files.items()
            if name == f"{row['exp_name']}.ota01.fits"
        ]
        field, band, start = circumstances(header)
        assert (field, band) == (row["object"], row["filter"])
        assert abs(start.to_datetime(UTC) - row["dateobs"]) < timedelta(milliseconds=1)
        for keyword, column in DATABASE.items():
            assert header[keyword] == pytest.approx(row[column], abs=1e-6)
        pointing = math.degrees(row["ra"]), math.degrees(row["decl"])
        assert (header["RA"], header["DEC"]) == pytest.approx(pointing, abs=1e-6)


def test_chips_have_the_wcs_in_two_notations(fits_files):
    notations = {
        name.split(".")[-3]: {"CD": "CD1_1" in header, "PC": "PC001001" in header}
        for name, (header, _) in images_like(fits_files, r".*\.ch\.fits").items()
    }
    assert notations == {"XY01": {"CD": True, "PC": False}, "XY02": {"CD": False, "PC": True}}


def images_like(fits_files, pattern: str) -> dict[str, tuple[fits.Header, np.ndarray]]:
    return {name: image_of(content) for name, content in fits_files.items() if re.fullmatch(pattern, name)}


def test_all_images_of_a_sky_cell_have_the_position_of_the_cell(fits_files):
    """Warps, stacks and differences, with their variances and masks."""
    found = images_like(fits_files, r".*\.skycell\.1566\.\d+\..*fits")
    assert len(found) == 3 * (3 + 3 + 3)
    for header, pixels in found.values():
        cell = int(header["SKYCELL"].rpartition(".")[2]) - 4
        assert (header["TESS_ID"], pixels.shape) == ("MD01.V2", (96, 96))
        centre = sky(header).pixel_to_world(47.5, 47.5)
        east, north = tile_offset(cell, PLAN.image_size)
        ra, decl = deproject(east, north, MD01.ra, MD01.decl)
        assert centre.separation(SkyCoord(ra, decl, unit="deg")).arcsec < 0.001


def test_every_star_of_the_camera_s_catalogue_is_where_the_two_parts_of_the_wcs_put_it(fits_files):
    """From pixels to microns by the header of the chip, from microns to the sky by the primary one."""
    with opened(fits_files["o4741g0234o.44433.cm.9001.smf"]) as units:
        primary = units[0].header.copy()
        assert (primary["CTYPE1"], primary["CTYPE2"]) == ("RA---DIS", "DEC--DIS")
        primary["CTYPE1"], primary["CTYPE2"] = "RA---TAN", "DEC--TAN"
        for chip, stars in zip(units[1::2], units[2::2], strict=True):
            own = chip.header
            assert (own["CTYPE1"], own["IMNAXIS1"], own["IMNAXIS2"]) == ("RA---WRP", 96, 96)
            across = own["CRVAL1"] + own["CDELT1"] * (stars.data["X_PSF"] + 1 - own["CRPIX1"])
            up = own["CRVAL2"] + own["CDELT2"] * (stars.data["Y_PSF"] + 1 - own["CRPIX2"])
            places = sky(primary).all_pix2world(across, up, 1)
            found = SkyCoord(*places, unit="deg")
            listed = SkyCoord(stars.data["RA_PSF"], stars.data["DEC_PSF"], unit="deg")
            assert found.separation(listed).arcsec.max() < 0.01


def test_stacks_are_compressed_and_lose_less_than_the_noise(fits_files):
    names = [name for name in fits_files if re.fullmatch(r".*\.stk\.\d+\.(wt\.|mask\.)?fits", name)]
    assert len(names) == 9
    for name in names:
        with fits.open(io.BytesIO(fits_files[name]), disable_image_compression=True) as units:
            assert len(units) == 2
            assert units[0].header["NAXIS"] == 0
            assert units[1].header["ZIMAGE"]
            assert (units[1].header["ZNAXIS1"], units[1].header["ZNAXIS2"]) == (96, 96)
    stack = stack_picture([Exposure(0, MD01, PLAN.seed, {})], 0, PLAN.image_size)
    _, pixels = image_of(fits_files["MD01.V2.skycell.1566.004.stk.2002.fits"])
    _, mask = image_of(fits_files["MD01.V2.skycell.1566.004.stk.2002.mask.fits"])
    planes = stack.planes()
    assert np.abs(pixels - planes.image).max() < stack.quality.noise / 8
    assert np.array_equal(mask, planes.mask)


def test_image_variance_and_mask_have_cards_of_their_own(fits_files):
    stem = "o4741g0234o.44433.ch.14517.XY01.ch"
    image, _ = image_of(fits_files[f"{stem}.fits"])
    variance, _ = image_of(fits_files[f"{stem}.wt.fits"])
    mask, bits = image_of(fits_files[f"{stem}.mk.fits"])
    assert (image["BUNIT"], variance["BUNIT"], "BUNIT" in mask) == ("count", "count2", False)
    named = {mask[f"MSKNAM{number:02d}"]: mask[f"MSKVAL{number:02d}"] for number in range(mask["MSKNUM"])}
    assert named == {"DETECTOR": 1, "SAT": 32}
    assert set(np.unique(bits)) <= {0, 1, 32, 33}


def test_the_picture_of_a_projection_cell_shows_the_stacks(fits_files):
    [(header, pixels)] = images_like(fits_files, r".*\.stksum\.301\.b1\.fits").values()
    assert header["SKYCELL"] == "skycell.1566"
    corners = sky(header).calc_footprint()
    for image, _ in images_like(fits_files, r".*\.stk\.\d+\.fits").values():
        ra, decl = sky(image).pixel_to_world_values(47.5, 47.5)
        assert corners[:, 0].min() < ra < corners[:, 0].max()
        assert corners[:, 1].min() < decl < corners[:, 1].max()
    assert pixels.shape == (64, 64)


def test_a_chip_of_the_wide_field_lies_on_both_sides_of_right_ascension_0():
    frame = Exposure(0, THREEPI, 1, {}).chip_frame(0, ReleasePlan().image_size)
    corners = np.array([-0.5, frame.size - 0.5])
    ra, decl = frame.places(corners, corners)
    assert ra[0] < 0.01
    assert ra[1] > 359.99
    assert np.all(np.abs(decl - THREEPI.decl) < 0.1)


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
