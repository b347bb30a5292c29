"""Near names."""

import pytest

from pipeline.near_names import did_you_mean, nearest

KNOWN = ["md-all-rel-200907", "threepi-all-200908", "pstampresults", "MD01"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("md-all-rel-20090", ["md-all-rel-200907"]),
        ("MD-ALL-REL-200907", ["md-all-rel-200907"]),
        ("md01", ["MD01"]),
        ("-all-", ["md-all-rel-200907", "threepi-all-200908"]),
        ("stamp", ["pstampresults"]),
        ("md01_stack", ["MD01"]),
        ("md", []),
        ("", []),
        ("something else", []),
        ("MD01" * 100, []),
    ],
)
def test_the_nearest_names(name, near):
    assert nearest(name, KNOWN) == near


def test_no_more_names_than_are_asked_for():
    assert nearest("stack.12", [f"stack.{number}" for number in range(100)], 2) == ["stack.12", "stack.2"]


def test_the_sentence():
    assert did_you_mean("-all-", KNOWN) == " Did you mean 'md-all-rel-200907' or 'threepi-all-200908'?"
    assert did_you_mean("abc", ["abcd", "abce", "abcf"]) == " Did you mean 'abcf', 'abce' or 'abcd'?"
    assert did_you_mean("nothing like that", KNOWN) == ""
