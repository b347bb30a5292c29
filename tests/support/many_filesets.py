"""A mirror of many tiny filesets that are complete, made of listing rows and markers alone."""

import os
import time
from pathlib import Path

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.resources.arrivals import Arrivals
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.state.snapshot import renew_snapshot

PRODUCT = "md"
COLUMNS = ("filesetID", "time registered", "type")
KNOWN = 300
# Each downloaded fileset.
BYTES = 10


def row(number: int, registered: str = "t") -> FilesetRow:
    """The listing row of a fileset."""
    name = f"fileset.{number}"
    return FilesetRow(name, registered, "T", COLUMNS, (name, registered, "T"))


def mark_downloaded(layout: Layout, number: int, size: int = BYTES, stage: str | None = None) -> None:
    """Mark a fileset of ``size`` bytes as downloaded; its marker has a ``stage`` that is given."""
    fileset = Fileset.of(PRODUCT, row(number))
    columns = {"columns": {"stage": stage}} if stage else {}
    files = {"files": [{"name": "f", "bytes": size}]}
    mark_done(layout, MarkerKind.DOWNLOADED, fileset, "t", {**files, **columns})


def complete_mirror(root: Path) -> Layout:
    """Make a mirror with ``KNOWN`` filesets, without snapshots."""
    layout = Layout(root)
    LocalListing(layout, PRODUCT).replace(row(number) for number in range(KNOWN))
    for number in range(KNOWN):
        mark_downloaded(layout, number)
        mark_done(layout, MarkerKind.EXTRACTED, Fileset.of(PRODUCT, row(number)), "t", {"files": []})
    # Changes of this moment could go unnoticed by time: nothing is changed any more.
    arrivals = Arrivals(layout, ByteLocks(layout.arrivals_lock))
    arrivals.settle(PRODUCT)
    for path in (layout.state(PRODUCT) / MarkerKind.DOWNLOADED, layout.arrivals(PRODUCT)):
        os.utime(path, (1, 1))
    arrivals.settle(PRODUCT)
    return layout


def settle(layout: Layout, hours: int = 1) -> None:
    """Write the snapshots of all folders of markers, when nothing has come to them for that many hours."""
    for folder in layout.marker_folders(PRODUCT):
        modify_hours_ago(folder, hours)
        renew_snapshot(folder)


def modify_hours_ago(path: Path, hours: int) -> None:
    """Make the path one that was modified that many hours ago, to the second."""
    modified = int(time.time()) - 3600 * hours
    os.utime(path, (modified, modified))
