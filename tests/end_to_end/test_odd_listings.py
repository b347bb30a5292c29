"""Rows of a listing that no publisher should write: odd columns, free text, names that are none."""

import json

import pytest
from support.follower import Follower
from support.summary_line import numbers
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"
ROWS = """
# filesetID|time registered|type|stage|stage|filter|
twice|2009-07-30T00:00:00Z|IPP-DIST|chip|warp|null|surplus|
# filesetID|time registered|type|
short|2009-07-30T00:00:01Z||
"""


def test_the_marker_has_the_columns_by_which_filesets_are_selected(upstream: Upstream, follower: Follower):
    for name in ("twice", "short"):
        upstream.add(PRODUCT, name, [File("a.fits", b"a")])
    (upstream.folder / PRODUCT / "index.txt").write_text(ROWS.lstrip() + "\n")
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stage": ["chip"]}}]
    assert follower.update().code == 0
    assert follower.marked("downloaded", PRODUCT) == {"twice"}
    marker = json.loads((follower.root / "state" / PRODUCT / "downloaded" / "twice.json").read_text())
    assert marker["columns"] == {
        "filesetID": "twice",
        "time registered": "2009-07-30T00:00:00Z",
        "type": "IPP-DIST",
        "stage": "chip",
        "filter": "null",
    }


ODD_ROWS = b"""\
# filesetID|time registered|type|stage|comment|
plain|2009-07-30T00:00:00Z|TABLE|chip|fine|
.|2009-07-30T00:00:01Z|TABLE|chip|fine|
..|2009-07-30T00:00:02Z|TABLE|chip|fine|
|2009-07-30T00:00:03Z|TABLE|chip|fine|
a/b|2009-07-30T00:00:04Z|TABLE|chip|fine|
text|2009-07-30T00:00:05Z|TABLE|chip|d\xe9j\xe0 vu # and
a line end|
too few|
twice|2009-07-30T00:00:06Z|TABLE|chip|fine|
twice|2009-07-30T00:00:07Z|TABLE|warp|fine|
last|2009-07-30T00:00:08Z|TABLE|chip|fine|
"""


def test_an_odd_row_costs_itself_alone(upstream: Upstream, follower: Follower):
    good = {"plain", "text", "twice", "last"}
    for name in good:
        upstream.add(PRODUCT, name, [File("a.fits", b"a")])
    (upstream.folder / PRODUCT / "index.txt").write_bytes(ODD_ROWS)
    follower.mirror["products"] = [PRODUCT]
    for new in (8, 0):
        result = follower.update()
        assert result.code == 30, result.output
        assert f"filesets: {new} discovered, " in result.output
        assert "Traceback" not in result.output
        assert follower.marked("downloaded", PRODUCT) == good
        for name in (".", "..", "", "a/b"):
            assert f"'.' or '..', got {name!r}" in result.output
    marker = json.loads((follower.root / "state" / PRODUCT / "downloaded" / "twice.json").read_text())
    assert (marker["registered"], marker["columns"]["stage"]) == ("2009-07-30T00:00:07Z", "warp")


DAMAGED_ROWS = ["two|2009|", "#two|2009-07-29T00:00:02Z|TABLE|"]


@pytest.mark.parametrize("damage", DAMAGED_ROWS)
def test_a_damaged_row_withdraws_nothing_and_is_asked_for_again(
    damage: str, upstream: Upstream, follower: Follower
):
    for name in ("one", "two", "three", "four"):
        upstream.add(PRODUCT, name, [File("a.fits", b"a")], type="TABLE")
    listing = upstream.folder / PRODUCT / "index.txt"
    whole = listing.read_text()
    (row,) = (line for line in whole.splitlines() if line.startswith("two|"))
    follower.mirror |= {"on_removed": "delete", "delete_at_most": 1.0}
    for known in (False, True):
        listing.write_text(whole.replace(row, damage), "latin-1")
        result = follower.update()
        assert (result.code, result.output.count("The row is left out.")) == (30, 1), result.output
        assert f"/{PRODUCT}/index.txt, line 3: expected " in result.output
        assert ("two" in follower.marked("downloaded", PRODUCT)) == known
        assert follower.marked("downloaded", PRODUCT) >= {"one", "three", "four"}
        follower.mirror["on_removed"] = "keep"
        listing.write_text(whole)
        assert follower.update().code == 0
        assert follower.marked("downloaded", PRODUCT) == {"one", "two", "three", "four"}
        follower.mirror["on_removed"] = "delete"


def test_a_damaged_row_is_named_once_although_the_list_is_fetched_again(upstream, server, follower):
    upstream.add(PRODUCT, "one", [File("a.fits", b"a", listed={"md5": "0" * 32})], type="TABLE")
    listing = upstream.folder / PRODUCT / "index.txt"
    listing.write_text(listing.read_text().rstrip("\n") + "\ntwo|2009|\n")
    result = follower.update()
    assert (result.code, result.output.count("The row is left out.")) == (30, 1), result.output
    assert [request.target for request in server.requests].count(f"/ds/{PRODUCT}/index.txt") == 2


def test_a_damaged_row_of_the_root_is_named(upstream, follower):
    upstream.add(PRODUCT, "one", [File("a.fits", b"a")], type="TABLE")
    root = upstream.folder / "index.txt"
    root.write_text(root.read_text().rstrip("\n") + "\nother|none|2009|\n")
    result = follower.update()
    assert result.code == 30, result.output
    assert "/index.txt, line 3: expected at least 5 fields, got 3" in result.output
    assert follower.marked("downloaded", PRODUCT) == {"one"}


STATE_NAMES = ["filesets.lock", "update.lock", "root.txt", "verified.json", "a.writing"]
NO_NAMES = ["..", ".", "a/b", "control\x01", "x" * 300]


def test_an_odd_name_of_a_product_costs_that_product_alone(upstream: Upstream, follower: Follower):
    for product in (*STATE_NAMES, PRODUCT):
        upstream.add(product, "f", [File("a.fits", b"a")], type="TABLE")
    root = upstream.folder / "index.txt"
    rows = "".join(f"{name}|f|2009-07-29T00:00:00Z|TABLE|test|\n" for name in NO_NAMES)
    root.write_text(root.read_text().rstrip("\n") + f"\n{rows}")
    for summary in (numbers(6, 6, 6), "none tried"):
        result = follower.update()
        assert result.code == 30, result.output
        assert f"filesets: {summary}; " in result.output
        assert "Traceback" not in result.output
        assert result.output.count("The product is left out") == len(NO_NAMES)
    held = {path.split("/")[0] for path in follower.content("store")}
    assert held == {*STATE_NAMES, PRODUCT}
    follower.mirror["products"] = [*STATE_NAMES, PRODUCT]
    again = follower.update()
    assert (again.code, again.output.count("\n")) == (0, 1), again.output
