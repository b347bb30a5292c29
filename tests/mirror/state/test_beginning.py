"""Beginning of what is selected: ``begin_after``, by the time of registration that is recorded."""

from pathlib import Path

import pytest
import yaml
from support.many_filesets import PRODUCT, row

from pipeline.config import Product
from pipeline.datastore.listing import read_filesets
from pipeline.errors import SettingsError
from pipeline.mirror.state.beginning import find_beginning, record_beginning
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.selection import selected_rows

# Several of one time, one without a time, and one that a mirror lists late.
LISTING = b"""# filesetID|time registered|type|filter|
a|2009-08-01T00:00:00Z|IPP-DIST|r.00000|
b|2009-08-02T00:00:00Z|IPP-DIST|g.00000|
c|2009-08-02T00:00:00Z|IPP-DIST|r.00000|
d|2009-08-02T00:00:00Z|IPP-DIST|r.00000|
e|not a time|IPP-DIST|g.00000|
f|2009-08-04T00:00:00Z|IPP-DIST|r.00000|
g|2009-08-01T12:00:00Z|IPP-DIST|g.00000|
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    LocalListing(layout, PRODUCT).replace(read_filesets(LISTING, "x"))
    return layout


def selected(layout: Layout, product: Product, wanted: str = "") -> str:
    rows = LocalListing(layout, PRODUCT).rows()
    return "".join(row.name for row in selected_rows(rows, product, find_beginning(layout, product), wanted))


BEGINNINGS = {
    "{begin_after: a}": "bcdefg",
    "{begin_after: c}": "def",
    "{begin_after: e}": "fg",
    "{begin_after: f}": "",
    "{begin_after: a, select: {filter: r}}": "cdf",
    "{select: {filter: r}}": "acdf",
    "{begin_after: unknown}": "",
}


@pytest.mark.parametrize("settings", BEGINNINGS)
def test_selected_are_those_registered_after_the_beginning_and_wanted_ones(settings: str, layout: Layout):
    product = Product.model_validate({"name": PRODUCT, **yaml.safe_load(settings)})
    assert selected(layout, product) == BEGINNINGS[settings]
    assert selected(layout, product, "b") == "".join(sorted({*BEGINNINGS[settings], "b"}))


def test_what_was_seen_once_decides_whatever_becomes_of_its_fileset(layout: Layout):
    listing, product = LocalListing(layout, PRODUCT), Product(name=PRODUCT, begin_after="c")
    record_beginning(layout, product)
    listing.drop({"c"})
    assert selected(layout, product) == "def"
    assert record_beginning(layout, product) == find_beginning(layout, product)
    again = read_filesets(LISTING.replace(b"c|2009-08-02", b"c|2009-08-09"), "x")
    listing.add([each for each in again if each.name == "c"])
    # Its new registration is a later one.
    assert selected(layout, product) == "defc"
    other = Product(name=PRODUCT, begin_after="f")
    record_beginning(layout, other)
    assert selected(layout, other) == "c"
    listing.drop({"f"})
    assert selected(layout, other) == "c"


def test_a_setting_that_is_changed_back_has_the_time_that_was_seen_first(layout: Layout):
    listing, product = LocalListing(layout, PRODUCT), Product(name=PRODUCT, begin_after="c")
    record_beginning(layout, product)
    listing.drop({"c"})
    again = read_filesets(LISTING.replace(b"c|2009-08-02", b"c|2009-08-09"), "x")
    listing.add([each for each in again if each.name == "c"])
    record_beginning(layout, Product(name=PRODUCT, begin_after="f"))
    record_beginning(layout, product)
    assert selected(layout, product) == "defc"


DAMAGED = [
    b"",
    b"[]",
    b'{"schema": 1}',
    b'{"schema": 1, "filesets": ["c"]}',
    *(
        b'{"schema": 1, "filesets": {"c": %s}}' % entry
        for entry in (
            b"null",
            b"{}",
            b'{"registered": "2009-08-01T00:00:00Z"}',
            b'{"registered": null, "before": []}',
            b'{"registered": "2009-08-01T00:00:00Z", "before": "c"}',
            b'{"registered": "2009-08-01T00:00:00Z", "before": [["c"]]}',
        )
    ),
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_counts_as_absent_and_is_written_again(content: bytes, layout: Layout):
    product = Product(name=PRODUCT, begin_after="c")
    record_beginning(layout, product)
    whole = layout.beginning(PRODUCT).read_bytes()
    layout.beginning(PRODUCT).write_bytes(content)
    assert selected(layout, product) == "def"
    record_beginning(layout, product)
    assert layout.beginning(PRODUCT).read_bytes() == whole


def test_a_beginning_that_was_never_listed_is_refused(tmp_path: Path):
    layout = Layout(tmp_path)
    product = Product(name=PRODUCT, begin_after="fileset.x")
    record_beginning(layout, product)
    LocalListing(layout, PRODUCT).replace([row(1)])
    said = (
        rf"^product {PRODUCT}: begin_after: expected a fileset of its listing, got fileset\.x\. Did you mean "
    )
    with pytest.raises(SettingsError, match=rf"{said}'fileset\.1'\? Correct it"):
        record_beginning(layout, product)
    assert not layout.beginning(PRODUCT).exists()
