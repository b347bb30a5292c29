"""Geometry on the sphere, against mocpy and against the plane of a projection."""

import math
import random
from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mocpy import MOC
from support.image_rows import from_plane, square

from pipeline.catalog.sky import (
    ORDER,
    Cone,
    flat_scales,
    pixel_of,
    ranges_of_cone,
    size_class,
)

# Near the poles and where ra passes 360 more often than a uniform choice would be.
ras = st.one_of(st.floats(0, 360), st.sampled_from([0.0, 1e-9, 90.0, 359.9999999, 360.0]))
decs = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, -89.9999, 0.0, 41.8103149, 89.99, 90.0]))
radii = st.floats(-5, math.log10(60)).map(lambda exponent: 10**exponent)
CORNERS = [(1, 1), (1, -1), (-1, -1), (-1, 1)]


def separation(one, other):
    return Cone(*one, 0).separation(*other)


def position_at(ra, dec, distance, angle):
    """The position at that distance (degrees) in the direction of the angle (radians)."""
    plane = math.tan(math.radians(min(distance, 89)))
    return from_plane(ra, dec, plane * math.sin(angle), plane * math.cos(angle))


def test_pixels_are_those_of_mocpy():
    numbers = random.Random(1)
    places = [(numbers.uniform(0, 360), math.degrees(math.asin(numbers.uniform(-1, 1)))) for _ in range(2000)]
    caps = [
        (numbers.uniform(0, 360), sign * (90 - 10 ** numbers.uniform(-8, 1)))
        for sign in (1, -1)
        for _ in range(500)
    ]
    for place in places + caps:
        ra, dec = (np.array([angle]) * u.deg for angle in place)
        ((first, last),) = MOC.from_lonlat(ra, dec, max_norder=ORDER).to_depth29_ranges
        assert (first, last) == (pixel_of(*place), pixel_of(*place) + 1), place


@pytest.mark.parametrize(
    "place", [(0, 90), (359, 90), (12, -90), (0, 0), (360, 0), (90, 0), (45, 41.8103149)]
)
def test_pixels_of_corners_of_the_sphere_are_numbers_of_pixels(place):
    assert 0 <= pixel_of(*place) < 12 << 2 * ORDER


@given(ras, decs, radii, st.floats(0, 1), st.floats(0, 2 * math.pi), st.integers(12, 64))
def test_ranges_of_a_cone_hold_each_position_in_it(ra, dec, radius, share, angle, most):
    ranges = ranges_of_cone(ra, dec, radius, most)
    assert len(ranges) <= most
    assert all(last < first for (_, last), (first, _) in pairwise(ranges))
    place = position_at(ra, dec, share * radius, angle)
    assert any(first <= pixel_of(*place) <= last for first, last in ranges)


@given(ras, decs, st.floats(1e-4, 10))
def test_ranges_of_a_cone_are_little_more_than_the_cone(ra, dec, radius):
    pixels = sum(last - first + 1 for first, last in ranges_of_cone(ra, dec, radius))
    share = pixels / (12 << 2 * ORDER)
    assert share < 2.5 * (1 - math.cos(math.radians(radius))) / 2


def test_ranges_of_the_whole_sphere():
    assert ranges_of_cone(10, 20, 180) == [(0, (12 << 2 * ORDER) - 1)]


@given(ras, decs, st.floats(0.001, 20), st.floats(-3, 3), st.floats(-3, 3))
def test_a_position_is_in_an_image_where_it_is_in_its_plane(ra, dec, side, x, y):
    half = math.tan(math.radians(side) / 2)
    assume(min(abs(abs(x) - 1), abs(abs(y) - 1)) > 0.01)
    corners = [angle for i, j in CORNERS for angle in from_plane(ra, dec, i * half, j * half)]
    cone = Cone(*from_plane(ra, dec, x * half, y * half), 0)
    is_inside = abs(x) < 1 and abs(y) < 1
    assert cone.meets_polygon(corners) == is_inside
    other_way = [angle for i, j in reversed(CORNERS) for angle in from_plane(ra, dec, i * half, j * half)]
    assert cone.meets_polygon(other_way) == is_inside


@given(ras, decs, st.floats(0.001, 10), st.floats(-4, 4), st.floats(-4, 4), st.floats(0, 4))
def test_a_cone_meets_an_image_where_it_reaches_its_nearest_point(ra, dec, side, x, y, reach):
    half = math.tan(math.radians(side) / 2)
    corners = [angle for i, j in CORNERS for angle in from_plane(ra, dec, i * half, j * half)]
    centre = from_plane(ra, dec, x * half, y * half)
    inside = [from_plane(ra, dec, i * half / 40, j * half / 40) for i in range(-40, 41) for j in (-40, 40)]
    inside += [from_plane(ra, dec, j * half / 40, i * half / 40) for i in range(-40, 41) for j in (-40, 40)]
    nearest = 0 if max(abs(x), abs(y)) <= 1 else min(separation(centre, place) for place in inside)
    radius = reach * side
    # The sampled points are up to a fortieth of the image apart.
    assume(abs(radius - nearest) > 0.03 * side)
    assert Cone(*centre, radius).meets_polygon(corners) == (radius > nearest)


@pytest.mark.parametrize("place", [(0, 0), (359.95, 0), (0.05, 0), (120, 90), (300, -90), (10, 89.95)])
def test_images_at_the_ends_of_the_axes(place):
    ra, dec = place
    footprint = [float(angle) for angle in square(ra, dec, 0.3).split()]
    assert Cone(ra, dec, 0).meets_polygon(footprint)
    assert not Cone((ra + 180) % 360, -dec, 0).meets_polygon(footprint), "the antipode"
    beside = position_at(ra, dec, 0.18, 0)
    assert not Cone(*beside, 0).meets_polygon(footprint)
    assert Cone(*beside, 0.05).meets_polygon(footprint)


def test_a_position_on_an_edge_or_a_corner_is_covered():
    footprint = [10.0, -1.0, 12.0, -1.0, 12.0, 1.0, 10.0, 1.0]
    assert Cone(10, 0, 0).meets_polygon(footprint)
    assert Cone(12, 1, 0).meets_polygon(footprint)
    assert not Cone(9.999999, 0, 0).meets_polygon(footprint)


@given(ras, decs, st.floats(1e-3, 12), st.floats(0, 1), st.floats(0, 2 * math.pi))
def test_the_flat_bound_is_below_the_separation(ra, dec, reach, share, angle):
    scales = flat_scales(ra, dec, reach)
    assume(scales)
    a, d = position_at(ra, dec, share * reach, angle)
    bound = scales[0] * (a - ra) ** 2 + scales[1] * (d - dec) ** 2
    assert bound <= (separation((ra, dec), (a, d)) + 1e-7) ** 2


@given(st.floats(0, 180))
def test_size_classes_bound_the_radius(radius):
    size = size_class(radius)
    assert radius <= 2.0**size
    assert size == -14 or radius > 2.0 ** (size - 1)
