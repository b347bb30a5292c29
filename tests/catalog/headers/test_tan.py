"""Footprints of images, compared with astropy and with the transformations of the pipeline."""

import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import assume, given
from hypothesis import strategies as st
from support.fits_headers import cards_of, header_of

from pipeline.catalog.headers.cards import Cards
from pipeline.catalog.headers.footprint import pixels_to_ask
from pipeline.catalog.headers.tan import footprint_of
from pipeline.errors import BundleUnusable

NONE = Cards(b"")
TAN = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
EAST_LEFT = TAN | {"CRVAL1": 35.0, "CRVAL2": -4.0, "CRPIX1": 51.0, "CRPIX2": 26.0}
steps = st.floats(1e-6, 1e-2).flatmap(lambda step: st.sampled_from([step, -step]))
angles = st.floats(-180.0, 360.0)
centres = {
    "CRVAL1": st.one_of(st.floats(0.0, 360.0), st.sampled_from([0.0, 1e-9, 359.9999999, 360.0])),
    "CRVAL2": st.one_of(st.floats(-90.0, 90.0), st.sampled_from([-90.0, 90.0, 0.0, 89.9999])),
    "CRPIX1": st.floats(-3000.0, 3000.0),
    "CRPIX2": st.floats(-3000.0, 3000.0),
}


def rotated(step1: float, step2: float, turn: float) -> tuple[float, float, float, float]:
    sin, cos = math.sin(math.radians(turn)), math.cos(math.radians(turn))
    return step1 * cos, -step2 * sin, step1 * sin, step2 * cos


@st.composite
def headers(draw):
    """Headers of TAN images, with the linear part in all forms of the standard."""
    values = TAN | {name: draw(values) for name, values in centres.items()}
    step1, step2, turn = draw(steps), draw(steps), draw(angles)
    form = draw(st.sampled_from(["CD", "PC", "CROTA", "CDELT", "PC00i00j"]))
    if form == "CD":
        names = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
        values |= dict(zip(names, rotated(step1, step2, turn), strict=True))
    elif form == "PC00i00j":
        names = ("PC001001", "PC001002", "PC002001", "PC002002")
        values |= dict(zip(names, rotated(1.0, 1.0, turn), strict=True))
        values |= {"CDELT1": step1, "CDELT2": step1, "LONPOLE": 180.0}
    else:
        values |= {"CDELT1": step1, "CDELT2": step2}
        if form == "PC":
            names = ("PC1_1", "PC1_2", "PC2_1", "PC2_2")
            values |= dict(zip(names, rotated(1.0, 1.0, turn), strict=True))
        elif form == "CROTA":
            values["CROTA2"] = turn
    if draw(st.booleans()):
        values["LONPOLE"] = draw(angles)
    return header_of(**values)


def apart(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Return the distance of two positions on the sky, degrees."""
    vectors = [
        [math.cos(d) * math.cos(r), math.cos(d) * math.sin(r), math.sin(d)]
        for r, d in (map(math.radians, position) for position in (first, second))
    ]
    return math.degrees(2.0 * math.asin(math.dist(*vectors) / 2.0))


def projected(ra0: float, dec0: float, ra: float, dec: float) -> tuple[float, float]:
    """Return a position east and north in the plane that is tangent at ``ra0``, ``dec0``."""
    turn, dec0, dec = map(math.radians, (ra - ra0, dec0, dec))
    up = math.sin(dec0) * math.sin(dec) + math.cos(dec0) * math.cos(dec) * math.cos(turn)
    north = math.cos(dec0) * math.sin(dec) - math.sin(dec0) * math.cos(dec) * math.cos(turn)
    return math.cos(dec) * math.sin(turn) / up, north / up


def is_polygon_of(corners, expected) -> bool:
    """Return True if the corners are the expected ones, from the first one on in either direction."""
    return any(
        all(apart(*pair) < 1e-9 for pair in zip(corners, others, strict=True))
        for others in (list(expected), [expected[0], *expected[:0:-1]])
    )


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@given(header=headers(), naxis1=st.integers(1, 6000), naxis2=st.integers(1, 6000))
def test_positions_are_those_of_astropy(header, naxis1, naxis2):
    x, y = zip(*pixels_to_ask(naxis1, naxis2), strict=True)
    wcs = WCS(header)
    centre, *corners = zip(*wcs.all_pix2world(x, y, 1), strict=True)
    found = footprint_of(cards_of(header), naxis1, naxis2, NONE)
    assert apart((found.ra, found.dec), centre) < 1e-9
    assert is_polygon_of(found.corners, corners)
    assert 0.0 <= found.ra < 360.0
    assert all(0.0 <= ra < 360.0 for ra, _ in found.corners)
    scale = math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix)))) * 3600.0
    assert found.pixel_scale == pytest.approx(scale, rel=1e-9)
    assert found.radius == pytest.approx(max(apart(centre, corner) for corner in corners), abs=1e-9)


@given(header=headers(), size=st.sampled_from([(1, 1), (30, 40), (1, 1000)]))
def test_corners_turn_counter_clockwise_as_seen_from_the_earth(header, size):
    found = footprint_of(cards_of(header), *size, NONE)
    assume(found.radius < 80.0)
    east, north = zip(*(projected(found.ra, found.dec, *corner) for corner in found.corners), strict=True)
    left = [-x for x in east]
    assert sum(left[i - 1] * north[i] - left[i] * north[i - 1] for i in range(4)) > 0.0


def test_a_chart_with_east_to_the_left_begins_at_its_right_lower_pixel():
    header = header_of(**EAST_LEFT, CDELT1=-0.01, CDELT2=0.01)
    found = footprint_of(cards_of(header), 101, 51, NONE)
    assert (found.ra, found.dec) == pytest.approx((35.0, -4.0), abs=1e-12)
    (ra0, dec0), (ra1, dec1), (ra2, dec2), (ra3, dec3) = found.corners
    assert ra0 > 35.0 and dec0 < -4.0
    assert ra1 < 35.0 and dec1 < -4.0
    assert ra2 < 35.0 and dec2 > -4.0
    assert ra3 > 35.0 and dec3 > -4.0
    assert found.pixel_scale == pytest.approx(36.0)


@pytest.mark.parametrize(("ra", "found_ra"), [(-1e-14, 0.0), (-10.0, 350.0), (360.0, 0.0), (725.0, 5.0)])
def test_right_ascensions_are_from_0_to_less_than_360(ra, found_ra):
    values = EAST_LEFT | {"CRVAL1": ra, "CDELT1": -1e-3, "CDELT2": 1e-3}
    found = footprint_of(cards_of(header_of(**values)), 101, 51, NONE)
    assert found.ra == pytest.approx(found_ra, abs=1e-9)
    assert all(0.0 <= ra < 360.0 for ra, _ in [*found.corners, (found.ra, 0.0)])


def test_pixels_at_the_edges_are_inside():
    found = footprint_of(cards_of(header_of(**EAST_LEFT, CDELT1=-1e-3, CDELT2=1e-3)), 100, 50, NONE)
    assert apart(found.corners[0], found.corners[1]) == pytest.approx(0.1, rel=1e-6)
    assert apart(found.corners[1], found.corners[2]) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("ra", [0.0, 359.9999, 123.0])
@pytest.mark.parametrize("dec", [90.0, -90.0, 89.99])
def test_an_image_over_a_pole_has_it_in_the_middle(ra, dec):
    values = TAN | {
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": 50.5,
        "CRPIX2": 50.5,
        "CDELT1": -0.01,
        "CDELT2": 0.01,
    }
    found = footprint_of(cards_of(header_of(**values)), 100, 100, NONE)
    assert found.dec == pytest.approx(dec, abs=1e-9)
    assert found.radius == pytest.approx(math.sqrt(0.5), rel=1e-3)


def test_the_pipeline_turns_by_half_a_circle_at_the_pole_too():
    values = TAN | {
        "CRVAL1": 0.0,
        "CRVAL2": 90.0,
        "CRPIX1": 0.0,
        "CRPIX2": 0.0,
        "CDELT1": 0.01,
        "CDELT2": 0.01,
    }
    values |= {"PC001001": -1.0, "PC001002": 0.0, "PC002001": 0.0, "PC002002": 1.0}
    found = footprint_of(cards_of(header_of(**values)), 1, 199, NONE)
    assert found.ra == pytest.approx(180.0, abs=1.0)
    assert found.dec == pytest.approx(89.0, abs=1e-3)


def tangent(ra0, dec0, x, y):
    """Return the position above x, y degrees in the tangent plane, by the textbook."""
    x, y, ra0, dec0 = map(math.radians, (x, y, ra0, dec0))
    below = math.cos(dec0) - y * math.sin(dec0)
    ra = ra0 + math.atan2(x, below)
    dec = math.atan2(math.sin(dec0) + y * math.cos(dec0), math.hypot(x, below))
    return math.degrees(ra) % 360.0, math.degrees(dec)


PIPELINE = {
    "CRVAL1": 35.0,
    "CRVAL2": 20.0,
    "CRPIX1": 10.0,
    "CRPIX2": -20.0,
    "CDELT1": 7e-5,
    "CDELT2": 7.2e-5,
    "PC001001": -0.98,
    "PC001002": 0.11,
    "PC002001": 0.12,
    "PC002002": 0.99,
}
SECOND = {
    "PCA1X2Y0": 0.3,
    "PCA1X1Y1": -0.2,
    "PCA1X0Y2": 0.1,
    "PCA2X2Y0": 0.05,
    "PCA2X1Y1": 0.4,
    "PCA2X0Y2": -0.6,
}
THIRD = {
    "PCA1X3Y0": 1.3,
    "PCA1X2Y1": -0.7,
    "PCA1X1Y2": 0.1,
    "PCA1X0Y3": 2.0,
    "PCA2X3Y0": -1.0,
    "PCA2X2Y1": 0.4,
    "PCA2X1Y2": 0.8,
    "PCA2X0Y3": 0.2,
}


def plane(values, x, y):
    """Return the plane coordinates of a pixel: steps first, then the matrix and the powers."""
    u = values["CDELT1"] * (x - values["CRPIX1"])
    v = values["CDELT2"] * (y - values["CRPIX2"])
    first = values["PC001001"] * u + values["PC001002"] * v
    second = values["PC002001"] * u + values["PC002002"] * v
    for i in range(4):
        for j in range(4 - i):
            if 2 <= i + j <= values.get("NPLYTERM", 1):
                first += values[f"PCA1X{i}Y{j}"] * u**i * v**j
                second += values[f"PCA2X{i}Y{j}"] * u**i * v**j
    return first, second


def cards_of_pipeline(values, kind):
    return cards_of(header_of(CTYPE1=f"RA---{kind}", CTYPE2=f"DEC--{kind}", **values))


@pytest.mark.parametrize("kind", ["TAN", "DIS"])
@pytest.mark.parametrize(
    "terms", [{}, {"NPLYTERM": 1}, {"NPLYTERM": 2, **SECOND}, {"NPLYTERM": 3, **SECOND, **THIRD}]
)
def test_polynomials_of_the_pipeline_are_followed(kind, terms):
    values = PIPELINE | terms
    found = footprint_of(cards_of_pipeline(values, kind), 4846, 4868, NONE)
    centre, *corners = [tangent(35.0, 20.0, *plane(values, x, y)) for x, y in pixels_to_ask(4846, 4868)]
    assert apart((found.ra, found.dec), centre) < 1e-9
    assert is_polygon_of(found.corners, corners)
    assert found.pixel_scale == pytest.approx(math.sqrt(7e-5 * 7.2e-5 * 0.9834) * 3600.0)


MOSAIC = {
    "CRVAL1": 359.9,
    "CRVAL2": 2.0,
    "CRPIX1": 0.0,
    "CRPIX2": 0.0,
    "CDELT1": 7.1e-6,
    "CDELT2": 7.1e-6,
    "PC001001": -1.0,
    "PC001002": 0.02,
    "PC002001": 0.02,
    "PC002002": 1.0,
    "NPLYTERM": 3,
    **{name: value * 1e-4 for name, value in (SECOND | THIRD).items()},
}
CHIP = PIPELINE | {
    "CRVAL1": -30_000.0,
    "CRVAL2": 52_000.0,
    "CDELT1": 10.0,
    "CDELT2": 10.0,
    "CRPIX1": 0.0,
    "CRPIX2": 0.0,
}


def test_a_chip_of_a_mosaic_goes_through_the_focal_plane():
    found = footprint_of(cards_of_pipeline(CHIP, "WRP"), 4846, 4868, cards_of_pipeline(MOSAIC, "DIS"))
    positions = []
    for x, y in pixels_to_ask(4846, 4868):
        first, second = plane(CHIP, x, y)
        positions.append(tangent(359.9, 2.0, *plane(MOSAIC, first - 30_000.0, second + 52_000.0)))
    assert apart((found.ra, found.dec), positions[0]) < 1e-9
    assert is_polygon_of(found.corners, positions[1:])
    assert found.pixel_scale == pytest.approx(7.1e-5 * math.sqrt(0.9834 * 1.0004) * 3600.0)


def test_a_chip_without_its_mosaic_has_no_position():
    with pytest.raises(BundleUnusable, match="expected a primary header with CTYPE1 RA---DIS"):
        footprint_of(cards_of_pipeline(CHIP, "WRP"), 4846, 4868, NONE)


@pytest.mark.parametrize("types", [{}, {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, {"CTYPE1": "RA---TAN"}])
def test_other_coordinates_are_no_positions(types):
    assert footprint_of(cards_of(header_of(**types, CRVAL1=1.0, CRVAL2=2.0)), 10, 10, NONE) is None


GOOD = EAST_LEFT | {"CDELT1": -1e-3, "CDELT2": 1e-3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CRVAL1": None}, "expected a number as CRVAL1, got None"),
        ({"CRVAL2": "NaN"}, "expected a number as CRVAL2, got 'NaN'"),
        ({"CDELT1": None}, "expected a number as CDELT1, got None"),
        ({"CDELT2": 0.0}, "expected an image with an area on the sky"),
        ({"CD1_1": 1e-3, "CD2_1": 1e-3}, "expected an image with an area on the sky"),
        ({"PC1_1": 0.0}, "expected an image with an area on the sky"),
        ({"CD1_1": 1e-4, "CD1_2": 3e-4, "CD2_1": 0.7e-4, "CD2_2": 2.1e-4}, "an area on the sky"),
        ({"CDELT1": 200.0, "CDELT2": 200.0}, "an area on the sky"),
        ({"PC001001": 1.0}, "expected a number as PC001002, got None"),
        ({"CDELT1": 1e308, "CRPIX1": -1e308}, "expected an image with an area on the sky"),
    ],
)
def test_coordinates_that_lead_nowhere_are_an_error(changes, message):
    values = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(BundleUnusable, match=message):
        footprint_of(cards_of(header_of(**values)), 10, 10, NONE)


@pytest.mark.parametrize("order", [4, 10**9])
def test_polynomials_of_higher_order_are_an_error(order):
    with pytest.raises(BundleUnusable, match="order 1, 2 or 3 as NPLYTERM"):
        footprint_of(cards_of_pipeline(PIPELINE | {"NPLYTERM": order}, "TAN"), 10, 10, NONE)


def test_powers_beyond_the_range_of_numbers_are_an_error():
    values = PIPELINE | {"NPLYTERM": 3, **SECOND, **THIRD, "CDELT1": 1e200}
    with pytest.raises(BundleUnusable, match="within the range of numbers"):
        footprint_of(cards_of_pipeline(values, "TAN"), 10, 10, NONE)


numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-10, 10), st.just("NaN"))


@given(
    values=st.dictionaries(
        st.sampled_from([*PIPELINE, "CD1_1", "CD2_2", "PC1_1", "CROTA2", "LONPOLE", "NPLYTERM", *SECOND]),
        numbers,
    ),
    kind=st.sampled_from(["TAN", "DIS"]),
)
def test_any_numbers_give_a_position_or_one_error(values, kind):
    header = fits.Header(
        [("CTYPE1", f"RA---{kind}"), ("CTYPE2", f"DEC--{kind}"), *(PIPELINE | values).items()]
    )
    try:
        found = footprint_of(cards_of(header), 100, 100, NONE)
    except BundleUnusable:
        return
    assert all(
        math.isfinite(value) for position in [*found.corners, (found.ra, found.dec)] for value in position
    )
    assert 0.0 <= found.radius <= 180.0
