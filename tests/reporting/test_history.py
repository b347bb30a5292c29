"""History of the runs of a mirror."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.mirror.state.layout import Layout
from pipeline.reporting.history import (
    FetchRate,
    RunRecord,
    append_record,
    bytes_per_day,
    fetch_rate,
    read_history,
)

FIRST = RunRecord(
    start="2026-07-01T00:00:00Z",
    end="2026-07-01T00:00:09Z",
    code=30,
    filesets=2,
    bytes=700,
    seconds=9.5,
    failures=1,
    task="UpdateMirror",
    reason="product p: 1 of 3 pending filesets failed",
    left=3,
)
SECOND = replace(
    FIRST, start="2026-07-02T00:00:00Z", end="2026-07-02T00:00:01Z", code=0, failures=0, reason="", left=None
)
HEADER = "start,end,code,filesets,bytes,seconds,failures,task,reason,left"


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(tmp_path)


def test_a_row_for_each_run(layout):
    for record in (FIRST, SECOND):
        append_record(layout, record)
    assert layout.history.read_text().splitlines() == [
        HEADER,
        "2026-07-01T00:00:00Z,2026-07-01T00:00:09Z,30,2,700,9.5,1,UpdateMirror,"
        "product p: 1 of 3 pending filesets failed,3",
        "2026-07-02T00:00:00Z,2026-07-02T00:00:01Z,0,2,700,9.5,0,UpdateMirror,,",
    ]
    assert read_history(layout) == [FIRST, SECOND]


def test_a_long_reason_is_shortened_and_shows_it(layout):
    for reason in ("x" * 300, "x" * 301):
        append_record(layout, replace(FIRST, reason=reason))
    assert [record.reason for record in read_history(layout)] == ["x" * 300, f"{'x' * 299}…"]


def test_no_file_and_no_run(layout):
    assert read_history(layout) == []


@pytest.mark.parametrize("left", [b"2026-07-03T00:", b"start,en"], ids=["a row", "the header"])
def test_what_a_power_cut_left_of_a_row_is_cut_off(left, layout):
    if not left.startswith(b"start"):
        append_record(layout, FIRST)
    else:
        layout.history.parent.mkdir()
    with open(layout.history, "ab") as file:
        file.write(left)
    append_record(layout, SECOND)
    assert read_history(layout)[-1] == SECOND
    assert layout.history.read_text().startswith(HEADER + "\n2026-07")
    assert left.decode() + "2026" not in layout.history.read_text()


@pytest.mark.parametrize(
    "damaged",
    ["x", "a,b,c,d,e,f,g,h,i", "2026-07-01T00:00:00,2026-07-01T00:00:00Z,0,0,0,0,0,t,r", "\x00\udcff", ""],
)
def test_damaged_rows_are_left_out(damaged, layout):
    append_record(layout, FIRST)
    with open(layout.history, "ab") as file:
        file.write(damaged.encode("utf-8", "surrogateescape") + b"\n")
    append_record(layout, SECOND)
    assert read_history(layout) == [FIRST, SECOND]


def test_a_reason_is_a_part_of_one_line(layout):
    append_record(layout, replace(FIRST, reason='got "a,b"\n\x1b[31m' + "x" * 999))
    lines = layout.history.read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].isprintable()
    [record] = read_history(layout)
    assert record.reason.startswith('got "a,b"\\n\\x1b[31mx')
    assert len(record.reason) < 320


def test_rotation_keeps_one_file_beside(layout):
    for day in range(1, 10):
        append_record(layout, replace(FIRST, start=f"2026-07-0{day}T00:00:00Z"), rotate_at=500)
    files = {path.name: len(path.read_text().splitlines()) for path in layout.history.parent.iterdir()}
    assert files == {"history.csv": 2, "history.csv.1": 5}
    assert [record.start[8:10] for record in read_history(layout)] == ["05", "06", "07", "08", "09"]


def test_an_empty_folder_in_its_place_gives_way(layout):
    layout.history.mkdir(parents=True)
    append_record(layout, FIRST)
    assert read_history(layout) == [FIRST]


def test_bytes_per_day():
    now = datetime(2026, 7, 5, tzinfo=UTC)
    assert bytes_per_day([FIRST, SECOND], now) == 1400 / 4
    # Of the last days alone.
    assert bytes_per_day([FIRST, SECOND], now + timedelta(days=27)) == 700 / 30
    assert bytes_per_day([FIRST], datetime(2026, 7, 1, 23, tzinfo=UTC)) is None
    assert bytes_per_day([FIRST], now + timedelta(days=99)) is None
    assert bytes_per_day([], now) is None


def run(day: int, count: int, seconds: float, task: str = "UpdateMirror") -> RunRecord:
    """Return a run of a day of July that fetched so many bytes."""
    times = {"start": f"2026-07-{day:02}T00:00:00Z", "end": f"2026-07-{day:02}T01:00:00Z"}
    return replace(FIRST, bytes=count, seconds=seconds, task=task, **times)


def on_days(rate: float, runs: int, first: int, last: int) -> FetchRate:
    return FetchRate(rate, runs, f"2026-07-{first:02}T00:00:00Z", f"2026-07-{last:02}T01:00:00Z")


RATES = {
    "no run": ([], None),
    "nothing fetched": ([run(1, 0, 90)], None),
    "shorter than ten seconds": ([run(1, 36_000, 1), run(2, 36_000, 9.9)], None),
    "one": ([run(1, 1000, 10)], on_days(100, 1, 1, 1)),
    "bytes by seconds of all": ([run(1, 1000, 10), run(2, 9000, 40)], on_days(200, 2, 1, 2)),
    "short ones beside": ([run(1, 1000, 10), *[run(2, 30, 1)] * 20], on_days(100, 1, 1, 1)),
    "little fetched beside": ([run(1, 5000, 50), *[run(2, 499, 60)] * 20], on_days(100, 1, 1, 1)),
    "a tenth of the largest": ([run(1, 5000, 50), run(2, 500, 50)], on_days(55, 2, 1, 2)),
    "the last ten": ([run(1, 900, 10), *[run(2, 100, 10)] * 10], on_days(10, 10, 2, 2)),
    "too long ago": (
        [replace(run(1, 9000, 10), end="2026-06-01T00:00:00Z"), run(3, 10, 10)],
        on_days(1, 1, 3, 3),
    ),
    "reads the disk": (
        [
            run(1, 1000, 10),
            *[run(2, 900, 900, task) for task in ("VerifyMirror", "CompareMirror", "AdoptMirror")],
        ],
        on_days(100, 1, 1, 1),
    ),
    "of one fileset": ([run(1, 1000, 10, "GetFilesets")], on_days(100, 1, 1, 1)),
    "a clock that was wrong": ([replace(run(1, 1000, 10), end="?"), run(2, 1000, 20)], on_days(50, 1, 2, 2)),
}


@pytest.mark.parametrize("name", RATES)
def test_the_rate_is_that_of_the_last_runs_that_fetched_much(name):
    records, rate = RATES[name]
    assert fetch_rate(records) == rate
