"""A failure is known to all workers of its update, and to that update only."""

from pathlib import Path

from pipeline.errors import ContentMismatch
from pipeline.mirror.state.failures import (
    BackOff,
    clear_failure,
    failed_in,
    failures,
    has_failed,
    record_failure,
)
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset
from tasks.steps import STEPS

FILESET = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:01Z")
AGAIN = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:02Z")


def test_a_failure_belongs_to_a_run_and_a_registration(tmp_path: Path):
    layout = Layout(tmp_path)
    assert not has_failed(layout, FILESET, "one")
    record_failure(layout, FILESET, "download", ContentMismatch("wrong"), "one", BackOff(every_run=5))
    assert has_failed(layout, FILESET, "one")
    assert not has_failed(layout, FILESET, "two")
    assert not has_failed(layout, AGAIN, "one")
    clear_failure(layout, FILESET)
    assert not has_failed(layout, FILESET, "one")


def test_success_of_a_step_removes_the_record_of_that_step_and_of_earlier_ones(tmp_path: Path):
    layout, (download, extract) = Layout(tmp_path), STEPS
    for failed, succeeded, left in [
        (download, download, []),
        (download, extract, []),
        (extract, extract, []),
        (extract, download, ["extract"]),
    ]:
        record_failure(layout, FILESET, failed.name, ContentMismatch("wrong"), "one", BackOff(every_run=5))
        clear_failure(layout, FILESET, STEPS.up_to(succeeded))
        assert [record["step"] for record in failures(layout, "p")] == left


def test_a_record_of_a_step_that_is_no_name_stops_nothing(tmp_path: Path):
    layout = Layout(tmp_path)
    record = {"fileset": FILESET.name, "registered": FILESET.registered, "files": [], "step": ["download"]}
    write_marker(layout.marker(MarkerKind.FAILED, "p", FILESET.name), record)
    assert failed_in(failures(layout, "p"), ["download", "extract"]) == []
    clear_failure(layout, FILESET, STEPS)
    clear_failure(layout, FILESET)
    assert failures(layout, "p") == []
