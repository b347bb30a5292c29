"""Selection of rows of a product listing by the settings."""

from datetime import UTC, datetime, timedelta

import pytest
import yaml

from pipeline.config import Product
from pipeline.datastore.listing import FilesetRow, read_filesets
from pipeline.mirror.state.selection import (
    empty_selection,
    in_order,
    is_expired,
    is_selected,
    old_filesets,
    priorities,
)

LISTING = b"""# filesetID|time registered|type|stage|filter|target_id|
a|2009-07-31T23:59:59Z|IPP-DIST|camera|r.00000|1|
b|2009-08-01T00:00:00Z|IPP-DIST|Camera|g.00000|12|
c|2009-08-02T00:00:00Z|table|null|null|null|
d|not a time|IPP-DIST|stack|r.00000|2|
e|2009-08-03T00:00:00Z|IPP-DIST|
# filesetID|time registered|type|filter|
f|2009-08-04T00:00:00Z|IPP-DIST|r.00000|
"""


def selected(select: str) -> str:
    """The names of the rows that are selected, one letter each; ``select`` is YAML."""
    settings = Product.model_validate({"name": "p", "select": yaml.safe_load(select)})
    return "".join(row.name for row in read_filesets(LISTING, "x") if is_selected(row, settings))


SELECTED = {
    "null": "abcdef",
    "{}": "abcdef",
    "{stage: camera}": "a",
    "{stage: [camera, Camera]}": "ab",
    "{stage: '[cC]amera'}": "ab",
    "{stage: 's*'}": "d",
    "{stage: '*'}": "abd",
    "{stage: 'null'}": "",
    "{filter: 'r.?????'}": "adf",
    "{filter: 'r'}": "adf",
    "{filter: [g, y]}": "b",
    "{filter: '[gr]'}": "abdf",
    "{filter: R}": "",
    "{filter: r.0}": "",
    "{filesetID: ''}": "",
    "{filter: 'r.*', stage: [camera, warp]}": "a",
    "{filter: 'g*', type: table}": "",
    "{type: table}": "c",
    "{target_id: 1}": "a",
    "{target_id: [1, 2]}": "ad",
    "{target_id: '1*'}": "ab",
    "{filesetID: '[a-c]'}": "abc",
    "{nonsense: '*'}": "",
    "{registered_after: 2009-08-01}": "bcef",
    "{registered_before: 2009-08-01}": "a",
    "{registered_after: 2009-08-01, registered_before: 2009-08-03}": "bc",
    "{registered_after: 2009-08-02T00:00:01Z}": "ef",
    "{registered_after: '2009-08-03T02:00:00+02:00'}": "ef",
    "{registered_before: 2009-08-02 00:00:00}": "ab",
    "{registered_after: 1970-01-01}": "abcef",
    "{registered_after: 2009-08-01, filter: 'r.*'}": "f",
    "[{stage: camera}, {registered_after: 2009-08-03}]": "aef",
    "[{stage: nothing}, {filter: g, priority: 5}]": "b",
}


@pytest.mark.parametrize("select", SELECTED)
def test_which_filesets_are_selected(select):
    assert selected(select) == SELECTED[select]


def test_the_time_of_registration_is_no_column_of_its_own():
    assert selected("{'time registered': '2009-08-0[12]*'}") == "bc"


def test_a_row_needs_no_columns_when_nothing_is_selected():
    row = FilesetRow("a", "null", "T", ("filesetID", "time registered", "type"), ("a", "null", "T"))
    assert is_selected(row, Product(name="p"))


ORDERS = {
    "{}": "dabcef",
    "{order: newest}": "fecbad",
    "{priority: 7, order: oldest}": "dabcef",
    "{select: {filter: r, priority: 3}}": "daf",
    "{select: [{filter: r}, {type: 'IPP-DIST', priority: 1}, {}]}": "dabefc",
    "{select: [{filter: r, priority: -1}, {}]}": "dabcef",
    "{select: [{filter: r, priority: -1}, {stage: '*'}, {}], priority: -2, order: newest}": "fadecb",
}


@pytest.mark.parametrize("settings", ORDERS)
def test_the_highest_priority_of_a_matching_selection_comes_first(settings):
    product = Product.model_validate({"name": "p", **yaml.safe_load(settings)})
    rows = [row for row in read_filesets(LISTING, "x") if is_selected(row, product)]
    ordered = in_order(rows, product, priorities(rows, product), failed=())
    assert "".join(row.name for row in ordered) == ORDERS[settings]


def test_filesets_that_failed_come_last_of_their_priority():
    settings = {"name": "p", "select": [{"filter": "r", "priority": 1}, {}], "order": "newest"}
    rows, product = read_filesets(LISTING, "x"), Product.model_validate(settings)
    ordered = in_order(rows, product, priorities(rows, product), failed={"f", "e"})
    assert "".join(row.name for row in ordered) == "adfcbe"


@pytest.mark.parametrize(("order", "expected"), [("oldest", "cadbe"), ("newest", "ebdac")])
def test_the_order_is_that_of_registration_where_a_listing_is_in_order_of_arrival(order, expected):
    columns = ("filesetID", "time registered", "type")
    times = {"a": 3, "b": 5, "c": 1, "d": 3, "e": 5}
    rows = [
        FilesetRow(name, f"2009-08-0{day}T00:00:00Z", "T", columns, (name,)) for name, day in times.items()
    ]
    product = Product.model_validate({"name": "p", "order": order})
    assert (
        "".join(row.name for row in in_order(rows, product, dict.fromkeys(times, 0), failed=())) == expected
    )


def aged(**ages: int) -> list[FilesetRow]:
    """Rows of one letter, registered so many days ago."""
    columns = ("filesetID", "time registered", "type", "stage")
    now = datetime.now(UTC)
    times = {name: f"{now - timedelta(days=age):%Y-%m-%dT%H:%M:%SZ}" for name, age in ages.items()}
    return [FilesetRow(name, time, "T", columns, (name, time, "T", "chip")) for name, time in times.items()]


EXPIRING = {
    "{keep: 30 days}": ("a", "bc"),
    "{keep: 6 weeks, stage: chip}": ("ab", "c"),
    "{keep: 30 days, stage: warp}": ("", ""),
    "[{keep: 30 days}, {keep: 1000 hours}]": ("ab", "c"),
    "[{keep: 30 days}, {filesetID: c}]": ("ac", "b"),
    "{filesetID: a}": ("a", ""),
}


@pytest.mark.parametrize("select", EXPIRING)
def test_a_fileset_expires_when_it_is_too_old_for_each_selection_that_matches_it(select):
    product = Product.model_validate({"name": "p", "select": yaml.safe_load(select)})
    rows = aged(a=29, b=31, c=50)
    chosen = "".join(row.name for row in rows if is_selected(row, product))
    expired = "".join(row.name for row in rows if is_expired(row, product))
    assert (chosen, expired) == EXPIRING[select]
    old = old_filesets(product, ((row.name, row.registered) for row in rows))
    assert {row.name for row in rows if is_expired(row, product)} <= old


EMPTY = {
    "{stage: camra}": "select matches 0 of 6 filesets; stage has Camera, camera, no value, stack (nearest: "
    "camera)",
    "{filter: R}": "select matches 0 of 6 filesets; filter has g.00000, no value, r.00000",
    "{stage: warps, filter: r}": "select matches 0 of 6 filesets; stage has Camera, camera, no value, stack; "
    "filter has g.00000, no value, r.00000",
    "{registered_after: 2020-01-01}": "select matches 0 of 6 filesets; none is of that time",
    "[{stage: warp}, {filter: y, stage: chip}]": "select matches 0 of 6 filesets; stage has Camera, camera, "
    "no value, stack; filter has g.00000, no value, r.00000",
    "[{stage: warp}, {stage: stack}]": None,
    "{stage: stack}": None,
    "{stage: stack, keep: 1 days}": None,
    "{keep: 1 days}": None,
    "{stage: warp, keep: 1 days}": "select matches 0 of 6 filesets; stage has Camera, camera, no value, "
    "stack",
    "{clean: no, unknown: no}": "select matches 0 of 6 filesets; clean: not known of 6 filesets, left out "
    "by `unknown: no`",
    "{stage: stack, clean: no, unknown: no}": "select matches 0 of 6 filesets; stage has Camera, camera, no "
    "value, stack; clean: not known of 1 fileset, left out by `unknown: no`",
    "{stage: stack, clean: no}": None,
    "null": None,
}


@pytest.mark.parametrize("select", EMPTY)
def test_a_selection_that_matches_nothing_names_the_values_that_there_are(select):
    product = Product.model_validate({"name": "p", "select": yaml.safe_load(select)})
    assert empty_selection(product, read_filesets(LISTING, "x")) == EMPTY[select]
    assert empty_selection(product, []) is None
    if not (EMPTY[select] or select in EMPTY_IN_PART):
        assert empty_selection(product, read_filesets(LISTING, "x"), each=True) is None


STAGES = "stage has Camera, camera, no value, stack"
EMPTY_IN_PART = {
    "[{stage: warp}, {stage: stack}]": f"select, selection 1 of 2, matches 0 of 6 filesets; {STAGES}",
    "[{stage: stack}, {stage: x}, {registered_after: 2020-01-01}]": "select, selection 2, 3 of 3, matches "
    f"0 of 6 filesets; {STAGES}",
}


@pytest.mark.parametrize("select", EMPTY_IN_PART)
def test_each_selection_of_several_is_to_match_something(select):
    product = Product.model_validate({"name": "p", "select": yaml.safe_load(select)})
    rows = read_filesets(LISTING, "x")
    assert empty_selection(product, rows, each=True) == EMPTY_IN_PART[select]
    assert empty_selection(product, rows) is None


def test_of_many_values_some_are_named():
    header = b"# filesetID|time registered|type|exp_name|\n"
    rows = read_filesets(header + b"".join(b"f%02d|t|T|o%02d|\n" % (i, i) for i in range(50)), "x")
    product = Product.model_validate({"name": "p", "select": {"exp_name": "none"}})
    shown = ", ".join(f"o{number:02}" for number in range(8))
    assert empty_selection(product, rows) == f"select matches 0 of 50 filesets; exp_name has {shown}, …"
