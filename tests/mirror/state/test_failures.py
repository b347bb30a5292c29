"""Failure records: of one update, one registration and one step; and when the next attempt is due."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import ContentMismatch, FilesFailed, MachineFault, ServerUnavailable
from pipeline.mirror.state.failures import (
    LONGEST_PAUSE,
    BackOff,
    clear_failure,
    clear_failures_except,
    failed_in,
    failures,
    has_failed,
    is_postponed,
    record_failure,
    retry_failures,
)
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.pending import postponed
from tasks.steps import STEPS

FILESET = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:01Z")
AGAIN = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:02Z")
OTHER = Fileset("p", "o2.chip.1.1.1", "2009-07-29T00:00:03Z")
WRONG = ContentMismatch("wrong")
BACK_OFF = BackOff(every_run=5)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_a_failure_belongs_to_a_run_and_a_registration(layout):
    assert not has_failed(layout, FILESET, "one")
    record_failure(layout, FILESET, "download", WRONG, "one", BACK_OFF)
    assert has_failed(layout, FILESET, "one")
    assert not has_failed(layout, FILESET, "two")
    assert not has_failed(layout, AGAIN, "one")
    clear_failure(layout, FILESET)
    assert not has_failed(layout, FILESET, "one")


def test_attempts_at_another_step_are_counted_from_the_start(layout):
    for step, attempts in [("download", 1), ("download", 2), ("extract", 1), ("extract", 2)]:
        record_failure(layout, FILESET, step, WRONG, "one", BACK_OFF)
        (record,) = failures(layout, "p")
        assert (record["step"], record["attempts"], record["faults"]) == (step, attempts, attempts)
    clear_failure(layout, FILESET, ["download"])
    assert failures(layout, "p"), "it is the record of another step"
    clear_failure(layout, FILESET, ["download", "extract"])
    assert failures(layout, "p") == []


def test_records_are_told_apart_by_their_step(layout):
    record_failure(layout, FILESET, "download", WRONG, "one", BACK_OFF)
    record_failure(layout, OTHER, "extract", WRONG, "one", BACK_OFF)
    of_download, of_extract = failures(layout, "p")
    without_step = {key: value for key, value in of_extract.items() if key != "step"}
    records = [of_download, of_extract, without_step]
    assert failed_in(records, ["download"]) == [of_download, without_step]
    assert failed_in(records, ["extract"]) == [of_extract, without_step]
    clear_failures_except(layout, "p", {OTHER.name})
    assert failures(layout, "p") == [of_extract]


@pytest.mark.parametrize("error", [ServerUnavailable("no answer"), MachineFault("the disk is full")])
def test_a_fault_of_the_server_or_this_machine_postpones_nothing(error, layout):
    for _ in range(10):
        record_failure(layout, FILESET, "download", error, "one", BackOff(every_run=1))
    (record,) = failures(layout, "p")
    assert (record["attempts"], record["faults"]) == (10, 0)
    assert postponed(layout, "p", STEPS) == {}


def test_one_file_at_fault_is_a_fault_of_the_fileset(layout):
    error = FilesFailed({"a": ServerUnavailable("no answer"), "b": WRONG})
    record_failure(layout, FILESET, "download", error, "one", BackOff(every_run=1))
    (record,) = failures(layout, "p")
    assert record["faults"] == 1
    later = f". It is tried again from {record['next_try']} on."
    assert record["files"] == [
        {"file": "a", "reason": f"no answer{later}", "kind": "network"},
        {"file": "b", "reason": f"wrong{later}", "kind": "upstream"},
    ]
    assert postponed(layout, "p", STEPS) == {FILESET.name: record["next_try"]}


@pytest.mark.parametrize(
    ("ahead", "waits"),
    [
        (timedelta(0), False),
        (timedelta(hours=1), True),
        (LONGEST_PAUSE - timedelta(seconds=1), True),
        (LONGEST_PAUSE + timedelta(hours=1), False),
        (timedelta(days=365 * 14), False),
        (timedelta(days=-30), False),
    ],
)
def test_a_next_try_beyond_any_pause_was_recorded_by_a_wrong_clock(ahead, waits):
    assert is_postponed({"next_try": (datetime.now(UTC) + ahead).isoformat()}) is waits


@pytest.mark.parametrize("next_try", [None, "", "soon", 5, [], "2999-01-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_next_try_postpones_nothing(next_try):
    assert not is_postponed({"next_try": next_try})
    assert not is_postponed({})


@pytest.mark.parametrize(
    ("faults", "hours"), [(2, None), (3, 1), (4, 2), (5, 4), (10, 128), (11, 168), (12, 168), (10**6, 168)]
)
def test_the_pause_doubles_up_to_the_longest(faults, hours):
    before = datetime.now(UTC)
    due = BackOff(every_run=3).next_try(faults)
    if hours is None:
        assert due is None
        return
    pause = timedelta(hours=hours)
    second = timedelta(seconds=1)
    assert before + pause - second <= datetime.fromisoformat(due) <= datetime.now(UTC) + pause


NEXT_RUN = "wrong. The next run tries again."


def reason_of(layout: Layout) -> str:
    [record] = failures(layout, "p")
    [file] = record["files"]
    return file["reason"]


def test_the_reason_says_when_the_fileset_is_tried_again(layout):
    back_off = BackOff(every_run=2)
    error = ContentMismatch(NEXT_RUN)
    assert record_failure(layout, FILESET, "download", error, "one", back_off) is None
    assert reason_of(layout) == NEXT_RUN
    due = record_failure(layout, FILESET, "download", error, "two", back_off)
    assert due is not None
    assert reason_of(layout) == f"wrong. It is tried again from {due} on."
    assert retry_failures(layout, "p", lambda _: True) == (1, 1)
    assert reason_of(layout) == NEXT_RUN
