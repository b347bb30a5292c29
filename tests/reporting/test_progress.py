"""Progress of a run, as its file and as text."""

import json
import os
from dataclasses import asdict, replace

import pytest

from pipeline.mirror.state.layout import Layout
from pipeline.reporting.history import RunRecord
from pipeline.reporting.progress import (
    RunProgress,
    progress_text,
    read_progress,
    remove_progress,
    run_so_far,
    write_progress,
)

SINCE = "2026-07-10T11:00:00Z"
PROGRESS = RunProgress(
    time="2026-07-10T12:00:00Z",
    stage="filesets",
    done=3,
    filesets=10,
    failed=1,
    bytes=2_000_000,
    bytes_left=6_000_000,
    bytes_left_known=True,
    rate=100_000,
    seconds_without_bytes=0,
    seconds_left=60,
)


@pytest.fixture
def layout(tmp_path) -> Layout:
    (tmp_path / "state").mkdir()
    return Layout(tmp_path)


def test_the_file_is_that_of_the_process_that_holds_the_lock(layout: Layout):
    assert read_progress(layout, os.getpid(), SINCE) is None
    write_progress(layout, PROGRESS)
    assert read_progress(layout, os.getpid(), SINCE) == PROGRESS
    assert read_progress(layout, os.getpid() + 1, SINCE) is None
    assert read_progress(layout, os.getpid(), "2026-07-10T12:00:01Z") is None
    for no_time in ("then", "2026-07-10T12:00:00"):
        write_progress(layout, replace(PROGRESS, time=no_time))
        assert read_progress(layout, os.getpid(), SINCE) is None
    assert [path.name for path in (layout.root / "state").iterdir()] == ["progress.json"]
    remove_progress(layout)
    remove_progress(layout)
    assert read_progress(layout, os.getpid(), SINCE) is None


def test_a_run_that_is_killed_has_the_row_of_its_last_progress(layout: Layout):
    assert run_so_far(layout, os.getpid(), SINCE) is None
    write_progress(layout, replace(PROGRESS, fetched=1_500_000, task="AdoptMirror"))
    assert run_so_far(layout, os.getpid(), SINCE) == RunRecord(
        SINCE, PROGRESS.time, 137, 2, 1_500_000, 3600.0, 1, "AdoptMirror", "killed"
    )
    assert run_so_far(layout, os.getpid() + 1, SINCE) is None
    for damaged in ({"time": "then"}, {"fetched": "x"}, {"failed": None}):
        write_progress(layout, replace(PROGRESS, **damaged))
        assert run_so_far(layout, os.getpid(), SINCE) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", "more", "less"])
def test_a_damaged_file_is_ignored(content, layout: Layout):
    whole = {"pid": os.getpid(), **asdict(PROGRESS)}
    less = {name: value for name, value in whole.items() if name != "rate"}
    content = {"more": json.dumps({**whole, "x": 1}), "less": json.dumps(less)}.get(content, content)
    layout.progress.write_text(content)
    assert read_progress(layout, os.getpid(), SINCE) is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            "3 of 10 filesets, 1 failed, 2.0 MB done, about 6.0 MB left, 100 kB/s, 1 min 0 s left",
        ),
        ({"stage": "listings"}, "reading listings"),
        (
            {"bytes_left_known": False, "seconds_left": None, "failed": 0},
            "3 of 10 filesets, 2.0 MB done, roughly 6.0 MB left, 100 kB/s",
        ),
        (
            {"seconds_without_bytes": 25, "seconds_left": None},
            "3 of 10 filesets, 1 failed, 2.0 MB done, about 6.0 MB left, no byte for 25 s",
        ),
        ({"bytes": 0, "bytes_left": 0}, "3 of 10 filesets, 1 failed, 1 min 0 s left"),
        (
            {"done": 0, "filesets": 1, "failed": 0, "bytes": 0, "bytes_left": 0, "seconds_left": None},
            "0 of 1 fileset",
        ),
        ({"bytes": 0, "bytes_left": 0, "stage": "ending"}, "3 of 10 filesets, 1 failed, ending"),
    ],
)
def test_the_text(changes, text):
    assert progress_text(replace(PROGRESS, **changes)) == text


def test_the_share_is_of_bytes_and_of_filesets_where_no_byte_is_to_be_fetched():
    assert PROGRESS.share == pytest.approx(0.9 * 0.25 + 0.1 * 0.3)
    assert replace(PROGRESS, bytes_left=0).share == pytest.approx(0.9 + 0.1 * 0.3)
    assert replace(PROGRESS, bytes_left_known=False).share == 0.3
    assert replace(PROGRESS, bytes=0, bytes_left=0).share == 0.3
    assert replace(PROGRESS, bytes_left=0, filesets=0, done=0).share == 0
