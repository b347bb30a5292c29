"""Positions, angles, times and durations as people write them."""

from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline.terms import angle, instant, night, position, since

NOW = datetime(2009, 8, 8, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ra", "dec"),
    [
        ("160.685 41.269", 160.685, 41.269),
        ("160.685,-41.269", 160.685, -41.269),
        (" 0  +90 ", 0, 90),
        ("360 -9e1", 360, -90),
        ("10:42:44.3 +41:16:09", 160.684583333, 41.269166667),
        ("10:42:44.3 41:16:09", 160.684583333, 41.269166667),
        ("10 42 44.3 +41 16 09", 160.684583333, 41.269166667),
        ("10h42m44.3s +41d16m09s", 160.684583333, 41.269166667),
        ("10h42m44.3s, +41°16'09\"", 160.684583333, 41.269166667),
        ("00:00:00 -00:30:00", 0, -0.5),
        ("12:30 -0:06", 187.5, -0.1),
        ("23:59:59.999 -89:59:59.9", 359.999995833, -89.999972222),
    ],
)
def test_positions(text, ra, dec):
    assert position(text) == pytest.approx((ra, dec), abs=1e-8)


NO_POSITIONS = [
    "",
    "10",
    "10 20 30",
    "a b",
    "10:60:00 1:00:00",
    "10:00:60 1:0:0",
    "nan 0",
    "10 inf",
    "10h 20",
]
OUTSIDE = ["361 0", "-1 0", "0 90.1", "24:00:01 0:0:0", "10:00:00 -91:00:00"]


@pytest.mark.parametrize("text", NO_POSITIONS)
def test_texts_that_are_no_position(text):
    with pytest.raises(ValueError, match="expected a position 'RA DEC' in degrees such as") as caught:
        position(text)
    assert str(caught.value).endswith(f"got {text!r}")


@pytest.mark.parametrize("text", OUTSIDE)
def test_positions_outside_of_the_sphere(text):
    with pytest.raises(ValueError, match="expected a right ascension from 0 to 360 degrees"):
        position(text)


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("0.5", 0.5),
        ("5arcmin", 5 / 60),
        ("5 ArcMin", 5 / 60),
        ('30"', 30 / 3600),
        ("30 arcsec", 30 / 3600),
        ("3'", 0.05),
        (".5deg", 0.5),
        ("1e-3", 0.001),
        ("180", 180),
        ("0", 0),
    ],
)
def test_angles(text, degrees):
    assert angle(text) == pytest.approx(degrees, rel=1e-12)


@pytest.mark.parametrize("text", ["", "x", "5 parsec", "inf", "nan", "5 arcmin 3", "-1", "181", "1e400"])
def test_texts_that_are_no_radius(text):
    with pytest.raises(ValueError, match=r"expected an? (angle such as 5arcmin|radius from 0 to 180)"):
        angle(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2009-07-29", datetime(2009, 7, 29, tzinfo=UTC)),
        ("2009-07-29T08:30", datetime(2009, 7, 29, 8, 30, tzinfo=UTC)),
        ("2009-07-29 08:30:15.5Z", datetime(2009, 7, 29, 8, 30, 15, 500_000, tzinfo=UTC)),
        ("2009-07-29T00:30-10:00", datetime(2009, 7, 29, 10, 30, tzinfo=UTC)),
    ],
)
def test_times(text, expected):
    assert instant(text) == expected


@pytest.mark.parametrize("text", ["", "july", "2009-02-30", "29.7.2009", "0001-01-01T00:00+14:00"])
def test_texts_that_are_no_time(text):
    with pytest.raises(ValueError, match="expected a date or a time") as caught:
        instant(text)
    assert repr(text) in str(caught.value)


def test_nights():
    assert night(" 2009-07-29 ") == date(2009, 7, 29)
    for text in ("2009-07-29T10:00", "20090729", "55041", ""):
        with pytest.raises(ValueError, match="expected a night as its UTC date"):
            night(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("7d 12h", NOW - timedelta(days=7, hours=12)),
        ("1w2d3h4m", NOW - timedelta(days=9, hours=3, minutes=4)),
        ("90min", NOW - timedelta(minutes=90)),
        ("1.5 d", NOW - timedelta(hours=36)),
        ("2009-07-29", datetime(2009, 7, 29, tzinfo=UTC)),
    ],
)
def test_ages(text, expected):
    assert since(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "7", "7x", "d", "-7d", "7d or so", "999999999w", "999999w" * 150, "2009-13-01"]
)
def test_texts_that_are_no_age(text):
    with pytest.raises(ValueError, match="expected a duration"):
        since(text, NOW)
