"""Numbers of the line that ends a run: they add up, and each fileset is counted once."""

from pipeline.mirror.context import RunCounters
from tasks.runtime.summary import update_summary, verification_summary


def counters(**numbers: int) -> RunCounters:
    counted = RunCounters()
    counted.count(**numbers)
    return counted


def test_the_selected_filesets_are_complete_failed_skipped_and_left():
    run = counters(new=7, selected=10, done=4, failed=2, skipped=1)
    expected = "7 discovered, 10 selected: 4 extracted, 2 failed, 1 skipped, 3 left"
    assert update_summary(run, "extracted", stopped=False) == expected


def test_the_complete_ones_have_the_word_of_the_last_step():
    expected = "0 discovered, 1 selected: 1 downloaded, 0 failed, 0 skipped, 0 left"
    assert update_summary(counters(selected=1, done=1), "downloaded", stopped=False) == expected


def test_a_run_that_was_stopped():
    expected = "0 discovered, 3 selected: 1 extracted, 0 failed, 0 skipped, stopped, 2 left"
    assert update_summary(counters(selected=3, done=1), "extracted", stopped=True) == expected


def test_optional_steps_and_adopted_files_come_after_the_filesets():
    run = counters(selected=1, done=1, optional_failed=1, adopted=2, adopted_bytes=3000, left=4)
    assert update_summary(run, "extracted", stopped=False).partition("; ")[2] == (
        "1 failed in optional steps; 2 files (3.0 kB) adopted, 4 others left"
    )


def test_the_filesets_here_are_sound_repaired_damaged_and_left():
    run = counters(here=9, sound=4, repaired=2, damaged=1)
    expected = "9 here: 4 sound, 2 repaired, 1 with problems, 2 left"
    assert verification_summary(run, "extracted", stopped=False) == expected
