"""Preview of an update: which filesets it will delete as too old, by rows and markers alone."""

from pathlib import Path

import pytest

from pipeline.config import Product
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.steps.preview import ListingPreview, count_expiring
from tasks.steps import STEPS

OLD, AGAIN = "2009-07-29T00:00:00Z", "2009-08-29T00:00:00Z"
COLUMNS = ("filesetID", "time registered", "type")
KEPT = Product(name="p", select={"keep": "30 days"})


def row(registered: str = OLD) -> FilesetRow:
    fields = ("a", registered, "T")
    return FilesetRow(*fields, COLUMNS, fields)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    LocalListing(layout, "p").replace([row()])
    return layout


def mark(layout: Layout, kind: MarkerKind) -> None:
    mark_done(layout, kind, Fileset.of("p", row()), OLD, {"files": []})


EXPIRING = {
    "here": ([MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED], KEPT, 1),
    "only downloaded": ([MarkerKind.DOWNLOADED], KEPT, 1),
    "only extracted": ([MarkerKind.EXTRACTED], KEPT, 1),
    "marked, but not deleted": ([MarkerKind.EXTRACTED, MarkerKind.EXPIRED], KEPT, 1),
    "deleted": ([MarkerKind.EXPIRED], KEPT, 0),
    "never came": ([], KEPT, 0),
    "wanted": ([MarkerKind.DOWNLOADED, MarkerKind.WANTED], KEPT, 0),
    "without an age": ([MarkerKind.DOWNLOADED], Product(name="p", select={"filesetID": "b"}), 0),
}


@pytest.mark.parametrize("name", EXPIRING)
def test_filesets_that_are_here_and_too_old_are_deleted(name, layout):
    kinds, product, expected = EXPIRING[name]
    for kind in kinds:
        mark(layout, kind)
    assert count_expiring(layout, product, STEPS, ListingPreview([row()], [], set())) == expected


def test_what_is_of_an_earlier_registration_is_not_counted(layout):
    mark(layout, MarkerKind.DOWNLOADED)
    again = ListingPreview([row(AGAIN)], [row(AGAIN)], set())
    assert count_expiring(layout, KEPT, STEPS, again) == 0
    write_marker(layout.marker(MarkerKind.EXTRACTED, "p", "a"), {"registered": AGAIN})
    assert count_expiring(layout, KEPT, STEPS, again) == 1
