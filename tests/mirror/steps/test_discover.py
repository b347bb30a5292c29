"""Discovery: how little is opened when a mirror knows many filesets, and which steps become pending."""

import os
from pathlib import Path

from support.audit import opened_below
from support.many_filesets import KNOWN, PRODUCT, row

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.steps.discover import discover_product
from tasks.steps import STEPS


class Listings:
    """A server that has some rows after the last one that is known."""

    url = "http://x"

    def __init__(self, *rows: FilesetRow) -> None:
        self.rows = rows

    def filesets(self, product: str, since: str) -> list[FilesetRow]:
        assert (product, since) == (PRODUCT, f"fileset.{KNOWN - 2}")
        return [row(KNOWN - 1), *self.rows]


def test_discovery_of_nothing_opens_no_marker_and_scans_no_folder_of_done_filesets(layout):
    path = layout.listing(PRODUCT)
    before = path.stat()
    # Reading more than the end of the listing fails.
    path.write_bytes(path.read_bytes().replace(b"fileset.2|", b"fileset.\xff|"))
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    with opened_below(layout.state(PRODUCT)) as opened:
        assert discover_product(layout, Listings(), PRODUCT, "run", STEPS, whole=False) == 0
    # The folder itself is flushed when the marker of the discovery is written.
    assert {name for name in opened if not name.endswith(".writing")} == {
        *("listing.txt", "listing.json", "withdrawn.snapshot", "withdrawn/", "."),
    }
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_discovery_of_a_few_looks_up_those_alone(layout):
    again = row(7, registered="later")
    new = [row(KNOWN), again, row(KNOWN + 1)]
    with opened_below(layout.state(PRODUCT)) as opened:
        assert discover_product(layout, Listings(*new), PRODUCT, "run", STEPS, whole=False) == 3
    looked_up = {Path(name).stem for name in opened if "fileset" in name and not name.endswith(".writing")}
    assert looked_up == {each.name for each in new}
    assert [name for name in opened if name.endswith("/")] == ["withdrawn/"]
    expected = [row(number) for number in range(KNOWN) if number != 7] + new
    assert list(LocalListing(layout, PRODUCT).rows()) == expected
    for step in STEPS:
        assert len(list((layout.state(PRODUCT) / step.marker).iterdir())) == KNOWN - 1
    assert layout.marker(MarkerKind.SUPERSEDED, PRODUCT, "fileset.7").exists()
