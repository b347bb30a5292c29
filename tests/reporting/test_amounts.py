"""The rate of downloads by their times and bytes."""

from datetime import UTC, datetime

import pytest

from pipeline.config import HourlyRates
from pipeline.reporting.amounts import Amount, Transferred, limited, mean, rate_of


def download(begin: int, end: int, count: int) -> Transferred:
    """Return a download between two seconds of one minute."""
    return Transferred(*(datetime(2026, 1, 1, 0, 0, at, tzinfo=UTC) for at in (begin, end)), count)


@pytest.mark.parametrize(
    ("downloads", "rate"),
    [
        ([], None),
        ([(0, 0, 100)], 100),
        ([(0, 9, 100)], 10),
        ([(0, 9, 100), (0, 9, 100)], 20),
        ([(0, 9, 100), (50, 59, 100)], 10),
        ([(0, 9, 50), (5, 19, 150)], 10),
        ([(2, 3, 50), (0, 9, 50)], 10),
        ([(9, 0, 10)], 10),
    ],
    ids=["none", "tiny", "one", "beside", "pause", "overlap", "within", "clock set back"],
)
def test_the_rate_is_that_of_the_time_in_which_something_was_fetched(downloads, rate):
    assert rate_of([download(*each) for each in downloads]) == rate


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
