"""Images of files as the pipeline and others write them."""

import gzip
import subprocess
import warnings
from collections import Counter

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from support.fits_headers import header_of, write_image

from pipeline.catalog.headers import ImageHeader, kind_of, read_images
from pipeline.errors import MachineFault
from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import write_release

TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 35.0,
    "CRVAL2": -4.0,
    "CRPIX1": 15.5,
    "CRPIX2": 10.5,
    "CD1_1": -1e-4,
    "CD2_2": 1e-4,
}
TAKEN = {
    "MJD-OBS": 55_041.25,
    "EXPTIME": 43.2,
    "FILTER": "r.00000",
    "OBJECT": "MD01",
    "AIRMASS": 1.25,
    "FWHM": 4.0,
}


def test_an_image_says_when_and_where_it_was_taken(tmp_path):
    path = write_image(tmp_path / "image.fits", fits.Header([*TAN.items(), *TAKEN.items()]), (20, 30))
    (image,) = read_images(path)
    assert image.footprint is not None
    assert (image.footprint.ra, image.footprint.dec) == pytest.approx((35.0, -4.0))
    assert image == ImageHeader(
        extension=0,
        naxis1=30,
        naxis2=20,
        t_min=55_041.25,
        t_max=pytest.approx(55_041.2505, abs=1e-9),
        exptime=43.2,
        filter="r.00000",
        band="r",
        object="MD01",
        airmass=1.25,
        fwhm=pytest.approx(1.44),
        footprint=image.footprint,
    )


def test_a_warp_says_it_in_the_words_of_the_pipeline(tmp_path):
    warp = {
        "PSCAMERA": "_GPC1-SKYCELL",
        "PSFORMAT": "SKYCELL",
        "MJD-OBS": 55_041.25 + 34 / 86_400,
        "HIERARCH FPA.FILTER": "i.00000",
        "HIERARCH FPA.FILTERID": "i",
        "HIERARCH FPA.OBJECT": "MD01 centre",
        "HIERARCH FPA.AIRMASS": 1.5,
        "HIERARCH CELL.EXPOSURE": 45.0,
        "HIERARCH CHIP.SEEING": 5.0,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 35.0,
        "CRVAL2": -4.0,
        "CRPIX1": 0.0,
        "CRPIX2": 0.0,
        "CDELT1": 7e-5,
        "CDELT2": 7e-5,
        "PC001001": -1.0,
        "PC001002": 0.0,
        "PC002001": 0.0,
        "PC002002": 1.0,
    }
    (image,) = read_images(write_image(tmp_path / "warp.fits", fits.Header(list(warp.items()))))
    assert image.t_min == pytest.approx(55_041.25, abs=1e-9)
    assert (image.exptime, image.filter, image.band) == (45.0, "i.00000", "i")
    assert (image.object, image.airmass) == ("MD01 centre", 1.5)
    assert image.fwhm == pytest.approx(5.0 * 0.252)
    assert image.footprint is not None and image.note is None


def test_extensions_inherit_from_the_primary_header_all_but_the_position(tmp_path):
    path = tmp_path / "cells.fits"
    units = [
        fits.PrimaryHDU(header=fits.Header([*TAKEN.items(), *TAN.items()])),
        fits.ImageHDU(np.zeros((4, 5)), header_of(**TAN), name="xy00"),
        fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])], name="table"),
        fits.ImageHDU(np.zeros((6, 7)), header_of(FILTER="g.00000"), name="xy01"),
        fits.ImageHDU(np.zeros(8), name="spectrum"),
        fits.ImageHDU(name="nothing"),
    ]
    fits.HDUList(units).writeto(path)
    first, second = read_images(path)
    assert (first.extension, first.name, first.naxis1, first.naxis2) == (1, "XY00", 5, 4)
    assert (first.filter, first.t_min, first.object) == ("r.00000", 55_041.25, "MD01")
    assert first.footprint is not None
    assert (second.extension, second.filter, second.band, second.exptime) == (3, "g.00000", "g", 43.2)
    assert second.footprint is None and second.fwhm is None and second.note is None


@pytest.mark.parametrize("compressed", [False, True])
def test_compressed_images_have_the_size_of_their_pixels(tmp_path, compressed):
    path = tmp_path / "chip.fits"
    image = fits.CompImageHDU(
        np.zeros((40, 50), np.float32), fits.Header([*TAN.items(), *TAKEN.items()]), name="chip"
    )
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    (found,) = read_images(path)
    assert (found.extension, found.name, found.naxis1, found.naxis2, found.has_pixels) == (
        1,
        "CHIP",
        50,
        40,
        True,
    )
    assert found.footprint is not None and found.t_min == 55_041.25


CHIP = {
    "CTYPE1": "RA---WRP",
    "CTYPE2": "DEC--WRP",
    "CRVAL1": 100.0,
    "CRVAL2": 200.0,
    "CRPIX1": 0.0,
    "CRPIX2": 0.0,
    "CDELT1": 1.0,
    "CDELT2": 1.0,
    "PC001001": 1.0,
    "PC001002": 0.0,
    "PC002001": 0.0,
    "PC002002": 1.0,
}
MOSAIC = CHIP | {
    "CTYPE1": "RA---DIS",
    "CTYPE2": "DEC--DIS",
    "CRVAL1": 35.0,
    "CRVAL2": -4.0,
    "CDELT1": 7e-5,
    "CDELT2": 7e-5,
    "PC001001": -1.0,
}


@pytest.mark.parametrize(
    "names",
    [("IMNAXIS1", "IMNAXIS2"), ("ZNAXIS1", "ZNAXIS2"), ("IMAGEW", "IMAGEH")],
    ids=lambda names: names[0],
)
def test_catalogs_describe_the_images_they_were_made_from(tmp_path, names):
    path = tmp_path / "exposure.smf"
    size = dict(zip(names, (4846, 4868), strict=True))
    units = [
        fits.PrimaryHDU(
            header=fits.Header([*MOSAIC.items(), *TAKEN.items(), ("IMNAXIS1", 38_000), ("IMNAXIS2", 38_000)])
        )
    ]
    for name in ("XY01", "XY02"):
        units += [
            fits.ImageHDU(header=fits.Header([*CHIP.items(), *size.items()]), name=f"{name}.hdr"),
            fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])], name=f"{name}.psf"),
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(units).writeto(path)
    images = read_images(path)
    assert [(image.extension, image.name) for image in images] == [(1, "XY01.HDR"), (3, "XY02.HDR")]
    for image in images:
        assert (image.has_pixels, image.naxis1, image.naxis2, image.band) == (False, 4846, 4868, "r")
        assert image.footprint is not None and image.note is None
        assert image.footprint.pixel_scale == pytest.approx(0.252)


def test_sizes_that_no_image_has_are_none(tmp_path):
    header = fits.Header([*TAN.items(), ("IMNAXIS1", 1 << 31), ("IMNAXIS2", 100)])
    path = tmp_path / "catalog.cmf"
    fits.PrimaryHDU(header=header).writeto(path)
    assert read_images(path) == []


def test_a_chip_without_its_mosaic_is_noted(tmp_path):
    (image,) = read_images(write_image(tmp_path / "chip.fits", fits.Header(list((CHIP | TAKEN).items()))))
    assert image.footprint is None
    assert image.note is not None and "RA---DIS" in image.note
    assert image.band == "r"


@pytest.mark.parametrize(
    ("values", "attribute"),
    [
        ({"EXPTIME": "NaN"}, "exptime"),
        ({"EXPTIME": -1.0}, "t_max"),
        ({"AIRMASS": 0.0}, "airmass"),
        ({"FWHM": 0.0}, "fwhm"),
        ({"OBJECT": "   "}, "object"),
        ({"FILTER": ""}, "filter"),
        ({"FILTER": "OPEN"}, "band"),
        ({"MJD-OBS": 0.0}, "t_min"),
        ({"EXPTIME": 1e300}, "t_max"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_values_that_cannot_be_are_none(tmp_path, values, attribute):
    header = fits.Header(list((TAN | TAKEN | values).items()))
    (image,) = read_images(write_image(tmp_path / "image.fits", header))
    assert getattr(image, attribute) is None
    assert image.footprint is not None


def test_damage_is_noted_and_what_came_before_it_is_kept(tmp_path):
    path = tmp_path / "two.fits"
    fits.HDUList([fits.PrimaryHDU(np.zeros((4, 5))), fits.ImageHDU(np.zeros((4, 5)))]).writeto(path)
    path.write_bytes(path.read_bytes()[: 3 * 2880 - 80])
    first, second = read_images(path)
    assert (first.naxis1, first.note) == (5, None)
    assert (second.extension, second.naxis1) == (1, None)
    assert second.note == "unit 1 at byte 5760: the header ends after 2800 bytes without END"


def test_missing_pixels_are_noted(tmp_path):
    path = write_image(tmp_path / "cut.fits", fits.Header([*TAN.items(), *TAKEN.items()]), (100, 100))
    path.write_bytes(path.read_bytes()[: 2880 + 30_000])
    (image,) = read_images(path)
    assert image.note == "the file is cut off, 10000 bytes of the data are missing"
    assert image.footprint is not None


def test_what_is_not_fits_is_noted(tmp_path):
    path = tmp_path / "page.fits"
    path.write_bytes(b"<html>\x1b[31m")
    (image,) = read_images(path)
    assert image.note == "unit 0 at byte 0: expected the keyword SIMPLE of a FITS file, got b'<html>\\x1b['"


def test_text_is_harmless_when_shown(tmp_path):
    path = write_image(tmp_path / "image.fits", header_of(OBJECT="MD01xx"))
    path.write_bytes(path.read_bytes().replace(b"MD01xx", b"MD\x1b\n01"))
    assert read_images(path)[0].object == "MD\\x1b\\n01"


def test_a_file_that_cannot_be_read_is_a_fault_of_the_machine(tmp_path):
    with pytest.raises(MachineFault, match="reading the headers of"):
        read_images(tmp_path / "missing.fits")


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_images_of_the_sample_are_where_astropy_sees_them(tmp_path):
    write_release(
        tmp_path / "store", ReleasePlan(exposures=1, chips=1, skycells=1, image_size=32, stamps=1, seed=7)
    )
    for bundle in (tmp_path / "store").rglob("*.tgz"):
        unpacked = tmp_path / "store" / bundle.stem
        unpacked.mkdir()
        subprocess.run(["tar", "-xzf", bundle, "-C", unpacked], check=True)
    seen = Counter()
    for path in (tmp_path / "store").rglob("*"):
        if path.suffix not in {".fits", ".cmf", ".smf"} or path.is_symlink():
            continue
        seen[kind_of(path.name)] += 1
        with fits.open(path) as units:
            for image in read_images(path):
                header = units[image.extension].header
                if header["CTYPE1"] == "RA---TAN":
                    middle = [[(image.naxis1 + 1) / 2, (image.naxis2 + 1) / 2]]
                    position = WCS(header).wcs_pix2world(middle, 1)[0]
                    assert (image.footprint.ra, image.footprint.dec) == pytest.approx(
                        tuple(position), abs=1e-9
                    )
                assert image.has_pixels == (kind_of(path.name) != "catalog")
                assert image.note is None and image.band and image.t_min and image.airmass
    assert seen.keys() >= {"image", "mask", "weight", "catalog"}
