"""Numbers of the line that ends a run: they add up, and each fileset is counted once."""

import pytest

from pipeline.mirror.context import RunCounters
from tasks.runtime.summary_line import (
    Ending,
    comparison_summary,
    fetched,
    get_summary,
    update_summary,
    verification_summary,
)


def counters(**numbers: int) -> RunCounters:
    counted = RunCounters()
    counted.count(**numbers)
    return counted


def test_the_selected_filesets_are_complete_failed_skipped_and_left():
    run = counters(new=7, selected=10, done=4, failed=2, skipped=1)
    expected = "7 discovered, 10 selected: 4 extracted, 2 failed, 1 skipped, 3 left"
    assert update_summary(run, Ending("extracted", code=30)) == expected


def test_the_complete_ones_have_the_word_of_the_last_step():
    expected = "0 discovered, 1 selected: 1 downloaded, 0 failed, 0 skipped, 0 left"
    assert update_summary(counters(selected=1, done=1), Ending("downloaded")) == expected


def test_a_run_that_was_stopped():
    expected = "0 discovered, 3 selected: 1 extracted, 0 failed, 0 skipped; stopped with 2 left"
    assert update_summary(counters(selected=3, done=1), Ending("extracted", stopped=True)) == expected


@pytest.mark.parametrize(
    ("new", "code", "expected"),
    [
        (0, 0, "none new, all that are selected complete"),
        (0, 20, "none tried"),
        (7, 0, "7 discovered, none selected"),
    ],
)
def test_a_run_in_which_nothing_was_to_be_done(new, code, expected):
    assert update_summary(counters(new=new), Ending("extracted", code=code)) == expected


def test_named_filesets():
    nothing = "none to be fetched of those that are named"
    assert get_summary(counters(new=2), Ending("extracted")) == nothing
    assert get_summary(counters(), Ending("extracted", code=20)) == "none tried"
    assert get_summary(counters(new=2), Ending("extracted", code=40)) == "2 discovered, none tried"
    run = counters(selected=2, done=1, failed=1, optional_failed=1)
    numbers = "0 discovered, 2 wanted: 1 extracted, 1 failed, 0 skipped, 0 left"
    assert get_summary(run, Ending("extracted")) == f"{numbers}; 1 failed in optional steps"


def test_bytes_and_time():
    assert fetched(counters(received=2000), 1.26) == "2.0 kB fetched in 1.3 s"
    assert fetched(counters(), 1.26) == "nothing fetched in 1.3 s"


def test_optional_steps_and_adopted_files_come_after_the_filesets():
    run = counters(selected=1, done=1, optional_failed=1, adopted=2, adopted_bytes=3000, left=4)
    assert update_summary(run, Ending("extracted")).partition("; ")[2] == (
        "1 failed in optional steps; 2 files (3.0 kB) adopted, 4 others left"
    )


def test_the_filesets_here_are_sound_repaired_damaged_and_left():
    run = counters(here=9, sound=4, repaired=2, damaged=1)
    expected = "9 here: 4 sound, 2 repaired, 1 with problems, 2 left"
    assert verification_summary(run, Ending("extracted")) == expected
    expected = "9 here: 4 sound, 2 repaired, 1 with problems; stopped with 2 left"
    assert verification_summary(run, Ending("extracted", stopped=True)) == expected
    assert comparison_summary(run, Ending("extracted")) == (
        "9 here, compared with upstream: 4 the same there, 2 corrected there and fetched, "
        "1 corrected there and not fetched, 2 left"
    )
