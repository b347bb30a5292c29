"""A failure is known to all workers of its update, and to that update only."""

from pathlib import Path

from pipeline.errors import ContentMismatch
from pipeline.mirror.state.failures import clear_failure, has_failed, record_failure
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import Fileset

FILESET = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:01Z")
AGAIN = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:02Z")


def test_a_failure_belongs_to_a_run_and_a_registration(tmp_path: Path):
    layout = Layout(tmp_path)
    assert not has_failed(layout, FILESET, "one")
    record_failure(layout, FILESET, ContentMismatch("wrong"), "one", every_run=5)
    assert has_failed(layout, FILESET, "one")
    assert not has_failed(layout, FILESET, "two")
    assert not has_failed(layout, AGAIN, "one")
    clear_failure(layout, FILESET)
    assert not has_failed(layout, FILESET, "one")
