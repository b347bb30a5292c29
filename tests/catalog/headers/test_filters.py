"""Bands of filters."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.headers.filters import BANDS, GPC1_BANDS, band_of


@pytest.mark.parametrize(
    ("name", "band"),
    [
        *((f"{band}.00000", band) for band in BANDS),
        *((band, band) for band in BANDS),
        *((f"{band}P1", band) for band in BANDS),
        ("r_PS1", "r"),
        ("R.00001", "r"),
        (" i.00000 ", "i"),
        ("?.00000", "z"),
        ("OPEN", None),
        ("open", None),
        ("red", None),
        ("gri", None),
        ("u.00000", None),
        ("r.", None),
        ("", None),
        (None, None),
    ],
)
def test_the_band_is_the_letter_of_a_filter_of_the_camera(name, band):
    assert band_of(name) == band


@given(name=st.text("grizywGP1S_.0? "))
def test_any_name_has_a_band_or_none(name):
    assert band_of(name) in {*BANDS, None}


def test_the_bands_of_the_survey_follow_one_another_and_w_holds_the_first_three():
    edges = [GPC1_BANDS[band] for band in "grizy"]
    assert all(first[0] < second[0] < first[1] + 2e-9 < second[1] for first, second in pairwise(edges))
    blue, red = GPC1_BANDS["w"]
    assert edges[0][0] < blue < edges[1][0] and edges[2][0] < red < edges[2][1]
