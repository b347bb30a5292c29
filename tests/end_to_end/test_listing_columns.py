"""Columns of a listing that no publisher should write: repeated and empty names, short and long rows."""

import json

from support.follower import Follower
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
