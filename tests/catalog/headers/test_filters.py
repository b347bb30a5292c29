"""Bands of filters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.headers.filters import BANDS, band_of


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
