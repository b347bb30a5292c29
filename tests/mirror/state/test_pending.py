"""Pending filesets: found by snapshots of the folders of markers; and the steps to schedule for each."""

from collections import Counter

import pytest
from support.audit import opened_below
from support.many_filesets import KNOWN, PRODUCT, row, settle

from pipeline.config import Product
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.pending import incomplete, pending_rows, renew_snapshots, steps_to_schedule
from tasks.steps import STEPS

KINDS = ("downloaded", "extracted", "skipped", "withdrawn")


@pytest.fixture
def layout(layout: Layout) -> Layout:
    """A mirror in which 3 is not downloaded, 5 and 8 are not extracted."""
    layout.marker(MarkerKind.DOWNLOADED, PRODUCT, "fileset.3").unlink()
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.5").write_bytes(b"{")
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.8").unlink()
    return layout


def test_without_snapshots_one_look_at_each_folder_finds_what_is_pending(layout):
    with opened_below(layout.state(PRODUCT)) as opened:
        assert pending_rows(layout, Product(name=PRODUCT), STEPS) == [row(3), row(5), row(8)]
    counts = Counter(opened)
    assert counts["listing.txt"] <= 2
    assert [counts[f"{kind}/"] for kind in KINDS] == [1, 1, 1, 1]
    assert {counts[f"downloaded/fileset.{number}.json"] for number in range(KNOWN) if number != 3} == {1}


def test_with_snapshots_no_folder_is_scanned_and_no_marker_is_read(layout):
    settle(layout)
    renew_snapshots(layout, PRODUCT, STEPS)
    with opened_below(layout.state(PRODUCT)) as opened:
        assert pending_rows(layout, Product(name=PRODUCT), STEPS) == [row(3), row(5), row(8)]
    read = {path for path in opened if path.endswith((".json", "/"))}
    # No fileset is skipped or withdrawn: there is no folder of such.
    assert read <= {"skipped/", "withdrawn/"}


@pytest.mark.parametrize("kind", [MarkerKind.SKIPPED, MarkerKind.WITHDRAWN])
def test_skipped_and_withdrawn_filesets_are_not_pending(kind, layout):
    write_marker(layout.marker(kind, PRODUCT, "fileset.5"), {})
    assert pending_rows(layout, Product(name=PRODUCT), STEPS) == [row(3), row(8)]


def test_what_the_settings_do_not_select_is_not_pending(layout):
    selecting = Product.model_validate({"name": PRODUCT, "select": {"filesetID": "*.[58]"}})
    assert pending_rows(layout, selecting, STEPS) == [row(5), row(8)]
    unknown = Product.model_validate({"name": PRODUCT, "select": {"colour": "red"}})
    with pytest.raises(SettingsError, match=r"expected columns of its listing .*, got colour"):
        pending_rows(layout, unknown, STEPS)


def test_the_last_missing_step_is_scheduled(layout):
    names = {f"fileset.{number}" for number in (1, 3, 5, 1000)}
    to_schedule = steps_to_schedule(layout, PRODUCT, names, STEPS)
    scheduled = {name: [step.name for step in to_schedule.of(name)] for name in names}
    assert scheduled == {
        "fileset.1": [],
        # Extracted in an earlier run, and its marker of the download was lost.
        "fileset.3": ["download"],
        "fileset.5": ["extract"],
        "fileset.1000": ["extract"],
    }
    assert incomplete(layout, PRODUCT, names, STEPS) == names - {"fileset.1"}
    assert incomplete(layout, PRODUCT, names, [STEPS["extract"]]) == {"fileset.5", "fileset.1000"}
