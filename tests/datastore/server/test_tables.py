"""Listings as tables of bytes: any bytes can be laid out and searched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datastore.server.pages import render_page
from pipeline.datastore.server.tables import lay_out_product, rows_after

HEADER = b"# filesetID|time registered|type|"
NAMES = st.sampled_from([b"a", b"A", b"aa", b"a b", b"", b" ", b"b+c:d", b"B+C:d", b"\xe9"])
LINES = st.one_of(
    st.just(HEADER),
    st.builds(b"".join, st.lists(st.sampled_from([b"a", b"A", b" ", b"|", b"#", b"\r", b"\t", b"\xe9"]))),
    st.builds(b"%b%b|t|X|".__mod__, st.tuples(st.sampled_from([b"", b" "]), NAMES)),
)
LISTINGS = st.one_of(
    st.binary(max_size=60),
    st.builds(bytes.__add__, st.builds(b"\n".join, st.lists(LINES)), st.sampled_from([b"", b"\n", b"\r\n"])),
)


def below(listing: bytes, name: bytes) -> bytes | None:
    """The rows after a name, read line by line."""
    lines, name = listing.split(b"\n"), name.strip()
    headers = [at for at, line in enumerate(lines) if line.startswith(b"#")]
    named = {at: line.split(b"|")[0].strip() for at, line in enumerate(lines) if at > 0}
    found = [at for at, cell in named.items() if cell == name]
    found = found or [at for at, cell in named.items() if cell.lower() == name.lower()]
    if not name or not found or not any(at < found[-1] for at in headers):
        return None
    header = max(at for at in headers if at < found[-1])
    return b"\n".join([lines[header], *lines[found[-1] + 1 :]])


@given(LISTINGS, NAMES)
def test_the_rows_after_any_name_in_any_listing(listing, name):
    expected, found = below(listing, name), rows_after(listing, name)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.rstrip(b"\n") == expected.rstrip(b"\n")


@given(LISTINGS, st.integers(0, 2))
def test_any_listing_can_be_laid_out_and_shown(listing, depth):
    assert lay_out_product(listing).endswith(b"\n")
    assert "</html>" in render_page(["p", "f"][:depth], listing, 1, rows_per_page=2)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (b"one", [b"Two|t|X|", b"one.b|t|X|", b"TWO|t|X|", b"last|t|X|"]),
        (b"two", [b"last|t|X|"]),
        (b"Two", [b"one.b|t|X|", b"TWO|t|X|", b"last|t|X|"]),
        (b"TWO", [b"last|t|X|"]),
        (b"ONE.B", [b"TWO|t|X|", b"last|t|X|"]),
        (b"LAST", []),
    ],
)
def test_case_decides_only_between_names_that_differ_in_nothing_else(name, rows):
    listing = b"\n".join([HEADER, b"one|t|X|", b"Two|t|X|", b"one.b|t|X|", b"TWO|t|X|", b"last|t|X|", b""])
    assert rows_after(listing, name) == b"".join(line + b"\n" for line in [HEADER, *rows])


def test_of_two_rows_of_one_name_the_later_one_counts():
    assert rows_after(HEADER + b"\na|t|X|\nb|t|X|\na|u|X|\nc|t|X|", b"a") == HEADER + b"\nc|t|X|"


def test_a_long_value_does_not_multiply_the_listing():
    rows = b"".join(b"f%d|t|x|\n" % number for number in range(1000))
    listing = b"# filesetID|time registered|type|\n" + rows + b"last|t|" + b"y" * 60_000 + b"|\n"
    laid_out = lay_out_product(listing)
    assert b"\nlast" + b" " * 7 + b"|t" + b" " * 14 + b"|" + b"y" * 60_000 + b"|\n" in laid_out
    assert b"|x" + b" " * 254 + b"|\n" in laid_out
    assert len(laid_out) < 60_000 + 1002 * 300
