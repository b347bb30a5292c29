"""Amounts of filesets, and rates within a limit."""

import pytest

from pipeline.config import HourlyRates
from pipeline.reporting.amounts import Amount, limited, mean


def test_a_fileset_like_others_is_their_mean():
    assert mean([Amount(2, 10, 4), Amount(4, 30, 0)]) == Amount(3, 20, 2)


LIMITED = [
    (None, None, None),
    (50.0, None, 50.0),
    (None, 20, 20.0),
    (50.0, 20, 20.0),
    (10.0, 20, 10.0),
    (None, HourlyRates(hours=((0, 720, 10),)), None),
    (None, HourlyRates(hours=((0, 720, 10),), default=30), 20.0),
    (50.0, HourlyRates(hours=((0, 360, 10),)), 40.0),
    (20.0, HourlyRates(hours=((0, 720, 10),), default=30), 15.0),
]


@pytest.mark.parametrize(("rate", "limit", "expected"), LIMITED)
def test_the_rate_within_a_limit_is_that_of_an_average_day(rate, limit, expected):
    assert limited(rate, limit) == expected
