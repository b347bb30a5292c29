"""Housekeeping: the record of a finished product, and what a killed run left behind."""

from support.audit import opened_below
from support.many_filesets import BYTES, KNOWN, PRODUCT, mark_downloaded, settle

from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.steps.housekeeping import finish_product, remove_half_written


def test_the_record_of_a_product_has_its_bytes(layout):
    finish_product(layout, PRODUCT, "one", failed=0)
    record = read_marker(layout.updated(PRODUCT))
    assert (record["run"], record["failed"], record["bytes"]) == ("one", 0, BYTES * KNOWN)
    mark_downloaded(layout, KNOWN, size=7)
    with opened_below(layout.marker_folder(MarkerKind.DOWNLOADED, PRODUCT)) as opened:
        finish_product(layout, PRODUCT, "two", failed=3)
    assert [path for path in opened if path.endswith(".json")] == [f"fileset.{KNOWN}.json"]
    record = read_marker(layout.updated(PRODUCT))
    assert (record["run"], record["failed"], record["bytes"]) == ("two", 3, BYTES * KNOWN + 7)


def test_where_nothing_changed_no_folder_of_markers_is_scanned(layout):
    settle(layout)
    for kind in (MarkerKind.VERIFIED, MarkerKind.COMPARED):
        write_marker(layout.marker(kind, PRODUCT, "fileset.1"), {"problems": []})
    with opened_below(layout.state(PRODUCT)) as opened:
        remove_half_written(layout)
        finish_product(layout, PRODUCT, "two", failed=0)
    assert {path for path in opened if path.endswith("/")} == {"./"}
    record = read_marker(layout.updated(PRODUCT))
    assert (record["run"], record["bytes"]) == ("two", BYTES * KNOWN)


def test_half_written_files_are_removed(layout):
    settle(layout)
    left = [
        layout.state(PRODUCT) / MarkerKind.EXTRACTED / ".abc.writing",
        layout.state(PRODUCT) / ".listing.writing",
        layout.root / "state" / ".x.writing",
    ]
    for path in left:
        path.write_bytes(b"{")
    write_marker(layout.root / "status" / "other.json", {})
    remove_half_written(layout)
    assert not any(path.exists() for path in left)
    assert (layout.root / "status" / "other.json").exists()
    assert len(layout.marked(MarkerKind.EXTRACTED, PRODUCT)) == KNOWN
