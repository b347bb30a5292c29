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


@pytest.mark.parametrize("name", ["o4712g0007o.chip.47127", "x4712g0007o.chip.4712", "o4712g0007o.chop.4712"])
def test_of_very_many_names(name):
    """A character too many, or another one at the begin or in the middle."""
    names = [f"o{4000 + number}g0007o.chip.{4000 + number}" for number in range(5000)]
    assert nearest(name, names, 1) == ["o4712g0007o.chip.4712"]


def test_the_sentence():
    assert did_you_mean("-all-", KNOWN) == " Did you mean 'md-all-rel-200907' or 'threepi-all-200908'?"
    assert did_you_mean("abc", ["abcd", "abce", "abcf"]) == " Did you mean 'abcf', 'abce' or 'abcd'?"
    assert did_you_mean("nothing like that", KNOWN) == ""
