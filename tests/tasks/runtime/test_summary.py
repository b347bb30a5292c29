"""Numbers of the line that ends a run: they add up, and each fileset is counted once."""

from pipeline.mirror.context import RunCounters
from tasks.runtime.summary import update_summary, verification_summary


def counters(**numbers: int) -> RunCounters:
    counted = RunCounters()
    counted.count(**numbers)
    return counted


def test_the_filesets_due_are_completed_failed_and_left():
    run = counters(new=7, due=9, done=4, failed=2)
    expected = "7 discovered, 9 due: 4 completed, 2 failed, 3 left; 1 skipped"
    assert update_summary(run, 1, stopped=False) == expected


def test_a_run_that_was_stopped():
    expected = "0 discovered, 3 due: 1 completed, 0 failed, stopped, 2 left; 0 skipped"
    assert update_summary(counters(due=3, done=1), 0, stopped=True) == expected


def test_optional_steps_and_adopted_files_come_after_the_filesets():
    run = counters(due=1, done=1, optional_failed=1, adopted=2, adopted_bytes=3000, left=4)
    assert update_summary(run, 0, stopped=False).partition("; ")[2] == (
        "0 skipped, 1 failed in optional steps; 2 files (3.0 kB) adopted, 4 others left"
    )


def test_the_filesets_here_are_sound_repaired_damaged_and_left():
    run = counters(due=9, sound=4, repaired=2, damaged=1)
    expected = "9 here: 4 sound, 2 repaired, 1 with problems, 2 left; 0 skipped"
    assert verification_summary(run, 0, stopped=False) == expected
