"""Times in headers, compared with astropy."""

from datetime import UTC, datetime

import pytest
from astropy.io import fits
from astropy.time import Time, TimeDelta
from astropy.utils import iers
from hypothesis import given
from hypothesis import strategies as st
from support.fits_headers import cards_of

from pipeline.catalog.headers.cards import Cards
from pipeline.catalog.headers.times import mjd_of, start_of

NONE = Cards(b"")


def within(mjd):
    """Return the time with half a millisecond of tolerance."""
    return pytest.approx(mjd, abs=0.0005 / 86_400.0, rel=0)


@pytest.fixture(autouse=True)
def _no_download():
    with iers.conf.set_temp("auto_download", False):
        yield


def start(values, primary=None):
    return start_of(cards_of_values(values), cards_of_values(primary or {}))


def cards_of_values(values):
    return cards_of(fits.Header(list(values.items())))


@pytest.mark.parametrize("scale", ["UTC", "TAI", "TT"])
@given(mjd=st.floats(51_200.0, 62_000.0))
def test_numbers_are_in_the_scale_of_timesys(scale, mjd):
    utc = Time(mjd, format="mjd", scale=scale.lower(), precision=9).utc.isot
    assert start({"MJD-OBS": mjd, "TIMESYS": scale}) == within(mjd_of(utc, None))


@pytest.mark.parametrize("day", [53_736, 54_832, 56_109, 57_204, 57_754])
@pytest.mark.parametrize("seconds", [-86_400.0, -60.0, -0.5, 0.5, 1.5, 40.0])
def test_seconds_around_leap_seconds(day, seconds):
    tai = Time(day, format="mjd", scale="utc", precision=9).tai + TimeDelta(seconds, format="sec")
    assert start({"MJD-OBS": tai.mjd, "TIMESYS": "TAI"}) == within(mjd_of(tai.utc.isot, None))


@given(
    moment=st.datetimes(datetime(1901, 1, 1), datetime(2099, 12, 31)),
    form=st.sampled_from(["whole", "blank", "split"]),
)
def test_dates_are_read_in_the_forms_of_headers(moment, form):
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
    day, clock = text.split("T")
    cards = {
        "whole": {"DATE-OBS": text},
        "blank": {"DATE-OBS": f"{day} {clock}"},
        "split": {"DATE-OBS": day, "UTC-OBS": clock},
    }[form]
    days = (moment.replace(tzinfo=UTC) - datetime(1858, 11, 17, tzinfo=UTC)).total_seconds() / 86_400.0
    assert start(cards) == pytest.approx(days, abs=1e-9, rel=0)


NOON = 55_041.5


@pytest.mark.parametrize(
    ("values", "primary", "expected"),
    [
        ({}, {"MJD-OBS": NOON}, NOON),
        ({"MJD-OBS": NOON}, {"MJD-OBS": 50_000.0}, NOON),
        ({"MJD-OBS": 0.0, "DATE-OBS": "2009-07-29T12:00:00"}, {}, NOON),
        ({"MJD-OBS": "NaN"}, {"DATE-OBS": "2009-07-29T12:00:00.000"}, NOON),
        ({"DATE-OBS": "2009-07-29"}, {}, 55_041.0),
        ({"DATE-OBS": "2009-02-30"}, {"MJD-OBS": NOON}, NOON),
        ({"DATE-OBS": "29/07/09"}, {}, None),
        ({"SHUTOUTC": "2009-07-29T12:00:00", "TIMESYS": "TAI"}, {}, NOON),
        ({"SHUTOUTC": "2009-07-29T13:00:00", "SHMDOUTC": "2009-07-29T12:00:00"}, {}, NOON),
        ({"HIERARCH FPA.TIME": NOON}, {}, NOON),
        ({"HIERARCH FPA.TIME": NOON + 34 / 86_400}, {"PSFORMAT": "SKYCELL"}, NOON),
        ({"MJD-OBS": NOON + 34 / 86_400}, {"TIMESYS": "TAI"}, NOON),
        ({"MJD-OBS": NOON + 34 / 86_400, "TIMESYS": "IAT"}, {}, NOON),
        ({"MJD-OBS": NOON + 66.184 / 86_400, "TIMESYS": "TDB"}, {}, NOON),
        ({"MJD-OBS": NOON + 15 / 86_400, "TIMESYS": "GPS"}, {}, NOON),
        ({"MJD-OBS": NOON, "TIMESYS": "UT1"}, {}, NOON),
        ({"MJD-OBS": NOON, "TIMESYS": "UTC"}, {"PSFORMAT": "SKYCELL"}, NOON),
        ({"MJD-OBS": NOON + 34 / 86_400, "PSFORMAT": "SKYCELL"}, {}, NOON),
        ({"TIMESYS": "TAI"}, {"MJD-OBS": NOON, "TIMESYS": "UTC"}, NOON),
        ({"TIMESYS": "TAI"}, {"MJD-OBS": NOON + 34 / 86_400}, NOON),
        ({}, {}, None),
    ],
)
def test_the_first_sensible_time_counts(values, primary, expected):
    found = start(values, primary)
    assert found == (expected if expected is None else pytest.approx(expected, abs=1e-9, rel=0))


@given(
    text=st.text("0129-:T. Zx\n\xb2", max_size=30),
    clock=st.one_of(st.none(), st.text("0129:. x", max_size=12)),
)
def test_any_text_is_a_date_or_none(text, clock):
    for date in (text, f"2009-07-29{text}"):
        assert isinstance(mjd_of(date, clock), float | None)
