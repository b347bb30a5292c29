"""A mirror of many tiny filesets that are complete, made of listing rows and markers alone."""

import os
from pathlib import Path

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.resources.arrivals import Arrivals
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset, mark_done

PRODUCT = "md"
COLUMNS = ("filesetID", "time registered", "type")
KNOWN = 300
# Each downloaded fileset.
BYTES = 10


def row(number: int, registered: str = "t") -> FilesetRow:
    """The listing row of a fileset."""
    name = f"fileset.{number}"
    return FilesetRow(name, registered, "T", COLUMNS, (name, registered, "T"))


def mark_downloaded(layout: Layout, number: int, size: int = BYTES, minute: int = 0) -> None:
    """Mark a fileset of ``size`` bytes as downloaded that many minutes ago."""
    fileset = Fileset.of(PRODUCT, row(number))
    mark_done(layout, MarkerKind.DOWNLOADED, fileset, "t", {"files": [{"name": "f", "bytes": size}]})
    path = layout.marker(MarkerKind.DOWNLOADED, PRODUCT, fileset.name)
    modified = path.stat().st_mtime_ns - minute * 60 * 10**9
    os.utime(path, ns=(modified, modified))


def complete_mirror(root: Path) -> Layout:
    """Make a mirror with ``KNOWN`` filesets, a hundred of them downloaded in each minute."""
    layout = Layout(root)
    LocalListing(layout, PRODUCT).replace(row(number) for number in range(KNOWN))
    for number in range(KNOWN):
        mark_downloaded(layout, number, minute=1 + number // 100)
        mark_done(layout, MarkerKind.EXTRACTED, Fileset.of(PRODUCT, row(number)), "t", {"files": []})
    # Changes of this moment could go unnoticed by time: nothing is changed any more.
    arrivals = Arrivals(layout, ByteLocks(layout.arrivals_lock))
    arrivals.settle(PRODUCT)
    for path in (layout.state(PRODUCT) / MarkerKind.DOWNLOADED, layout.arrivals(PRODUCT)):
        os.utime(path, (1, 1))
    arrivals.settle(PRODUCT)
    return layout


def invalidate_checksums(layout: Layout) -> None:
    """Let every marker lose its mtime checksum: to look at one is to open it."""
    for path in layout.state(PRODUCT).glob("*/*.json"):
        os.utime(path, (1, 1))
