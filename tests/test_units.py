"""Sizes and rates: what is read, what is refused, and how a number of bytes is written."""

from datetime import timedelta

import pytest

from pipeline.units import as_size, parse_rate, parse_size, parse_span

SIZES = {
    "0": 0,
    "1234567": 1_234_567,
    "20 GB": 20 * 10**9,
    "20GB": 20 * 10**9,
    "20 G": 20 * 10**9,
    "1 kB": 1000,
    "1 KB": 1000,
    "1 KiB": 1024,
    "1.5 GiB": 3 * 2**29,
    "0.1 TB": 10**11,
    "2 TiB": 2**41,
    "7 B": 7,
    "  7 MB  ": 7 * 10**6,
    "900000 TB": 9 * 10**17,
    1234567: 1_234_567,
}
NO_SIZES = [True, None, "", 20.5, "20 gb", "GB", "-1 GB", "1e9", "1,5 GB", "20 GB free", [1], "½ GB", "٣ GB"]


@pytest.mark.parametrize("value", SIZES)
def test_sizes(value):
    assert parse_size(value) == SIZES[value]


@pytest.mark.parametrize("value", NO_SIZES)
def test_what_is_no_size(value):
    with pytest.raises(ValueError, match=r"^expected a size such as 20 GB$"):
        parse_size(value)


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("50 MB/s", 50_000_000),
        ("1 KiB/s", 1024),
        (7, 7),
        ("7", 7),
        ("2 MB", 2_000_000),
        (" 1.5 MB /s", 1_500_000),
    ],
)
def test_rates(value, rate):
    assert parse_rate(value) == rate


@pytest.mark.parametrize("value", [*NO_SIZES, "fast", "50 MB/min", "50 MB/s/s"])
def test_what_is_no_rate(value):
    with pytest.raises(ValueError, match=r"^expected a rate such as 50 MB/s$"):
        parse_rate(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "30s": timedelta(seconds=30),
        "15 min": timedelta(minutes=15),
        "15m": timedelta(minutes=15),
        "90 minutes": timedelta(minutes=90),
        "1 hour": timedelta(hours=1),
        "1d 12h": timedelta(hours=36),
        "1d12h": timedelta(hours=36),
        " 1 day  12 hours ": timedelta(hours=36),
        "1.5 weeks": timedelta(days=10.5),
        "2w": timedelta(weeks=2),
        "0s": timedelta(),
        "999999w": timedelta(weeks=999_999),
    }.items(),
)
def test_durations(text, expected):
    assert parse_span(text) == expected


@pytest.mark.parametrize(
    "value", ["", "7", 7, None, "7x", "d", "-7d", "7d or so", "1d,12h", "1e3s", "1000000s", "٣d", "7 D"]
)
def test_what_is_no_duration(value):
    with pytest.raises(ValueError, match=r"^expected a duration such as 90s, 15min"):
        parse_span(value)


def test_a_duration_beyond_the_longest_is_refused():
    with pytest.raises(ValueError, match=r"^expected a duration of at most 999999999 days$"):
        parse_span("999999w " * 150)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_900, "99.9 kB"),
        (123_456, "123 kB"),
        (41_234_567, "41.2 MB"),
        (20e9, "20.0 GB"),
        (-1500, "-1.5 kB"),
        (1e12, "1.0 TB"),
        (1e18, "1000000 TB"),
    ],
)
def test_a_number_of_bytes_as_text(count, text):
    assert as_size(count) == text
