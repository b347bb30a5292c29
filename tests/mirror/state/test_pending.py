"""Pending filesets: found by snapshots of the folders of markers, or remembered; the steps to schedule."""

import os
from collections import Counter
from pathlib import Path

import pytest
from support.audit import opened_below
from support.many_filesets import KNOWN, PRODUCT, complete_mirror, mark_downloaded, row, settle

from pipeline.catalog.step import CATALOG
from pipeline.config import Product
from pipeline.errors import ServerUnavailable, SettingsError
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.pending import incomplete, pending_rows, renew_snapshots, steps_to_schedule
from pipeline.mirror.state.steps import Steps
from pipeline.mirror.state.wanted import want_filesets
from pipeline.mirror.steps.download import DOWNLOAD
from pipeline.mirror.steps.extract import EXTRACT

STEPS = Steps((DOWNLOAD, EXTRACT))
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
    read = {path for path in opened if "/" in path}
    # There is no folder of these.
    assert read <= {"skipped/", "withdrawn/", "expired/", "wanted/", "superseded/"}


@pytest.mark.parametrize("kind", [MarkerKind.SKIPPED, MarkerKind.WITHDRAWN])
def test_skipped_and_withdrawn_filesets_are_not_pending(kind, layout):
    write_marker(layout.marker(kind, PRODUCT, "fileset.5"), {})
    assert pending_rows(layout, Product(name=PRODUCT), STEPS) == [row(3), row(8)]


def test_what_the_settings_do_not_select_is_not_pending(layout):
    selecting = Product.model_validate({"name": PRODUCT, "select": {"filesetID": "*.[58]"}})
    assert pending_rows(layout, selecting, STEPS) == [row(5), row(8)]
    unknown = Product.model_validate({"name": PRODUCT, "select": {"keep_dayz": "30"}})
    with pytest.raises(
        SettingsError,
        match=r"expected columns of its listing .*, got keep_dayz\. Did you mean 'keep'\? Correct",
    ):
        pending_rows(layout, unknown, STEPS)


def test_an_optional_step_is_done_for_all_that_is_here(layout):
    """Selected or not, withdrawn or not, but not for what is skipped."""
    steps = Steps((DOWNLOAD, EXTRACT, CATALOG))
    for number in range(20, KNOWN):
        write_marker(layout.marker(MarkerKind.CATALOGED, PRODUCT, f"fileset.{number}"), {"registered": "t"})
    write_marker(layout.marker(MarkerKind.WITHDRAWN, PRODUCT, "fileset.6"), {})
    write_marker(layout.marker(MarkerKind.WITHDRAWN, PRODUCT, "fileset.5"), {})
    write_marker(layout.marker(MarkerKind.SKIPPED, PRODUCT, "fileset.7"), {})
    selecting = Product.model_validate({"name": PRODUCT, "select": {"filesetID": "*.[38]"}})
    assert pending_rows(layout, selecting, steps) == [row(n) for n in range(20) if n not in (5, 7)]
    assert pending_rows(layout, selecting, STEPS) == [row(3), row(8)]


def test_what_is_here_is_unpacked_again(complete):
    """Selected or not; withdrawn, as long as its bundles are here: it cannot be fetched again."""
    for number in (6, 7, 8, 9):
        aside = complete.marker(MarkerKind.SUPERSEDED, PRODUCT, f"fileset.{number}")
        aside.parent.mkdir(exist_ok=True)
        complete.marker(MarkerKind.EXTRACTED, PRODUCT, f"fileset.{number}").rename(aside)
    for number in (6, 9):
        write_marker(complete.marker(MarkerKind.WITHDRAWN, PRODUCT, f"fileset.{number}"), {})
    stored = complete.store(PRODUCT, "fileset.6") / "f"
    stored.parent.mkdir(parents=True)
    stored.touch()
    complete.marker(MarkerKind.DOWNLOADED, PRODUCT, "fileset.8").unlink()
    assert pending(complete, filesetID="*.5") == ["fileset.6", "fileset.7"]


def test_an_optional_step_is_scheduled_again_after_a_required_one(layout):
    write_marker(layout.marker(MarkerKind.CATALOGED, PRODUCT, "fileset.5"), {"registered": "t"})
    to_schedule = steps_to_schedule(layout, PRODUCT, {"fileset.5"}, Steps((DOWNLOAD, EXTRACT, CATALOG)))
    assert [step.name for step in to_schedule.of("fileset.5")] == ["catalog"]


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


@pytest.fixture
def complete(tmp_path: Path) -> Layout:
    """A mirror in which nothing is pending, as an update that found so has left it."""
    layout = complete_mirror(tmp_path / "complete")
    settle(layout, hours=3)
    assert pending(layout) == []
    return layout


def pending(layout: Layout, **select: str) -> list[str]:
    product = Product.model_validate({"name": PRODUCT, "select": select or None})
    return [each.name for each in pending_rows(layout, product, STEPS)]


def is_remembered(layout: Layout) -> bool:
    """Nothing is pending, and neither rows nor names are read for that: only the end of the listing."""
    listing = layout.listing(PRODUCT)
    before, whole = listing.stat(), listing.read_bytes()
    listing.write_bytes(whole.replace(b"fileset.2|", b"fileset.\xff|"))
    os.utime(listing, ns=(before.st_atime_ns, before.st_mtime_ns))
    try:
        return pending(layout) == []
    except ServerUnavailable:
        return False
    finally:
        listing.write_bytes(whole)
        os.utime(listing, ns=(before.st_atime_ns, before.st_mtime_ns))
        LocalListing(layout, PRODUCT).repair()


def test_where_nothing_has_changed_nothing_is_read(complete):
    assert is_remembered(complete)
    # Markers that are written again have the same names.
    mark_downloaded(complete, 7)
    settle(complete, hours=2)
    assert is_remembered(complete)


def remove_marker(layout: Layout) -> None:
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.7").unlink()


def replace_marker(layout: Layout) -> None:
    folder = layout.marker_folder(MarkerKind.DOWNLOADED, PRODUCT)
    (folder / "fileset.7.json").rename(folder / "fileset.-7.json")


def add_row(layout: Layout) -> None:
    LocalListing(layout, PRODUCT).add([row(KNOWN)])


def rename_in_row(layout: Layout) -> None:
    listing = layout.listing(PRODUCT)
    listing.write_bytes(listing.read_bytes().replace(b"fileset.7|", b"fileset.x|"))


@pytest.mark.parametrize("is_young", [False, True])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (remove_marker, "fileset.7"),
        (replace_marker, "fileset.7"),
        (add_row, f"fileset.{KNOWN}"),
        (rename_in_row, "fileset.x"),
    ],
)
def test_whatever_has_changed_is_found(change, found, is_young, complete):
    change(complete)
    if not is_young:
        settle(complete, hours=2)
    assert pending(complete) == [found]
    assert pending(complete) == [found], "only that nothing is pending is remembered"


@pytest.mark.parametrize("kind", [MarkerKind.SKIPPED, MarkerKind.WITHDRAWN])
def test_a_fileset_that_is_skipped_or_withdrawn_no_more_is_pending(kind, complete):
    mark = complete.marker(kind, PRODUCT, "fileset.7")
    write_marker(mark, {})
    remove_marker(complete)
    settle(complete, hours=2)
    assert pending(complete) == []
    assert is_remembered(complete)
    mark.unlink()
    settle(complete, hours=1)
    assert pending(complete) == ["fileset.7"]


def test_another_selection_is_applied(complete):
    remove_marker(complete)
    settle(complete, hours=2)
    assert pending(complete, filesetID="*.8") == []
    assert pending(complete, filesetID="*.[78]") == ["fileset.7"]
    with pytest.raises(SettingsError, match="got colour"):
        pending(complete, colour="red")


def test_another_list_of_steps_is_applied(complete):
    remove_marker(complete)
    settle(complete, hours=2)
    product = Product(name=PRODUCT)
    assert pending_rows(complete, product, [STEPS["download"]]) == []
    assert pending_rows(complete, product, STEPS) == [row(7)]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": 1}', None])
def test_a_lost_or_damaged_cache_is_written_again(damage, complete):
    cache = complete.nothing_pending(PRODUCT)
    if damage is None:
        cache.unlink()
    else:
        cache.write_bytes(damage)
    assert not is_remembered(complete)
    assert pending(complete) == []
    assert is_remembered(complete)


def test_a_cache_that_cannot_be_written_is_done_without(complete):
    cache = complete.nothing_pending(PRODUCT)
    cache.unlink()
    (cache / "full").mkdir(parents=True)
    assert pending(complete) == []


def test_what_is_wanted_is_pending_whatever_is_selected(complete):
    remove_marker(complete)
    settle(complete, hours=2)
    assert pending(complete, filesetID="none") == []
    want_filesets(complete, PRODUCT, ["fileset.7", "fileset.8"], by="me")
    assert pending(complete, filesetID="none") == ["fileset.7"]
    settle(complete, hours=2)
    assert pending(complete, filesetID="none") == ["fileset.7"]


def test_a_beginning_applies_although_its_fileset_is_complete(complete):
    for number in (7, 200):
        complete.marker(MarkerKind.EXTRACTED, PRODUCT, f"fileset.{number}").unlink()
    settle(complete, hours=2)
    found = pending_rows(complete, Product(name=PRODUCT, begin_after="fileset.100"), STEPS)
    assert [each.name for each in found] == ["fileset.200"]
    assert pending_rows(complete, Product(name=PRODUCT, begin_after="fileset.200"), STEPS) == []
    assert len(pending_rows(complete, Product(name=PRODUCT), STEPS)) == 2
    with pytest.raises(SettingsError, match="got nothing"):
        pending_rows(complete, Product(name=PRODUCT, begin_after="nothing"), STEPS)


def test_a_beginning_whose_record_is_gone_is_recorded_again_and_decides(complete):
    """Nothing else changes: by the record no fileset came after it, by the listing some did."""
    complete.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.200").unlink()
    settle(complete, hours=2)
    product, record = Product(name=PRODUCT, begin_after="fileset.100"), complete.beginning(PRODUCT)
    later = {"registered": "2030-01-01T00:00:00Z", "before": [f"fileset.{number}" for number in range(KNOWN)]}
    write_marker(record, {"product": PRODUCT, "filesets": {"fileset.100": later}})
    assert pending_rows(complete, product, STEPS) == pending_rows(complete, product, STEPS) == []
    record.unlink()
    assert pending_rows(complete, product, STEPS) == [row(200)]
    assert record.exists()
