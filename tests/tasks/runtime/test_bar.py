"""Lines of the bar: its columns in windows of several widths."""

from dataclasses import replace

import pytest

from pipeline.mirror.context import StepProgress
from pipeline.reporting.progress import RunProgress
from tasks.runtime.bar import bar_lines
from tasks.runtime.progress import Rate, StepInProgress

NOW = 100.0
RUN = RunProgress(
    time="",
    stage="filesets",
    done=14,
    filesets=64,
    failed=1,
    bytes=16_200_000,
    bytes_left=20_600_000,
    bytes_left_known=True,
    rate=2_900_000,
    seconds_without_bytes=0,
    seconds_left=12_000,
)


class Task:
    """As much of a task as the bar reads."""

    def __init__(self, doing: str, subject: str) -> None:
        self.doing = doing
        self.subject = f"fileset {subject}"
        self.fetches = ("md", subject, "chip") if doing == "download" else None


def step(
    doing: str, subject: str, began: float, moved: float = NOW, rate: int = 0, **progress: object
) -> StepInProgress:
    measured = Rate(NOW - 10)
    measured.add(NOW, 10 * rate)
    return StepInProgress(
        Task(doing, subject), began, measured, moved, StepProgress(**progress) if progress else None
    )


STEPS = [
    step(
        *("download", "md/o4741g0234o.raw.44433.31.1", 95.0, NOW, 551_000),
        message="2 of 6 files, 0.6 of 2.0 MB",
        share=0.29,
        bytes=580_000,
        total=2_000_000,
    ),
    step(
        *("download", "md/o4741g0184o.warp.207001.200035.1", 88.0, 60.0),
        message="0 of 3 files, 0 of 46 MB",
        share=0.0,
        total=45_600_000,
    ),
    step("download", "md/stack.202001.200036.1", 99.0),
    step("extract", "md/o4742g0234o.camera.9001.33.1", 97.0, message="3 of 6 bundles", share=0.5),
]

# One column less than the window has.
OF_60 = """\
[#####--------]   42%   16.2 MB of 36.8 MB  3 h 20 min left
 29% of  2.0 MB  download  o4741g0234o.raw.44433.31.1
  0% of 45.6 MB  download  o4741g0184o.warp.207001.200035.1
                 listing   stack.202001.200036.1
 50%             extract   o4742g0234o.camera.9001.33.1"""
OF_80 = """\
[######---------]   42%  14/64   16.2 MB of 36.8 MB   2.9 MB/s  3 h 20 min left
 29% of  2.0 MB  download  o4741g0234o.raw.44433.31.1                3 s left
  0% of 45.6 MB  download  o4741g0184o.warp.207001.200035.1  no byte for 40 s
                 listing   stack.202001.200036.1                      for 1 s
 50%             extract   o4742g0234o.camera.9001.33.1               for 3 s"""
OF_120 = """\
[#############--------------------]   42%  14 of 64 filesets, 1 failed   16.2 MB of 36.8 MB   2.9 MB/s  3 h 20 min left
 29% of  2.0 MB  download  md/o4741g0234o.raw.44433.31.1          2 of 6 files   551 kB/s          3 s left
  0% of 45.6 MB  download  md/o4741g0184o.warp.207001.200035.1    0 of 3 files             no byte for 40 s
                 listing   md/stack.202001.200036.1                                                 for 1 s
 50%             extract   md/o4742g0234o.camera.9001.33.1      3 of 6 bundles                      for 3 s"""  # noqa: E501


def lines(state: RunProgress = RUN, steps: list[StepInProgress] = STEPS, width: int = 79, height: int = 24):
    return bar_lines(state, steps, "beginning", NOW, width, height)


@pytest.mark.parametrize(("width", "expected"), [(59, OF_60), (79, OF_80), (119, OF_120)])
def test_a_window_has_the_columns_that_there_is_place_for(width, expected):
    assert lines(width=width) == expected.splitlines()


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        (
            {"bytes_left_known": False, "filesets": 123_456, "done": 12_345},
            "[##-------------------]   10%  16.2 MB of ~36.8 MB   2.9 MB/s  ~3 h 20 min left",
        ),
        (
            {"bytes_left_known": False, "seconds_left": 7},
            "[###------------]   22%  14/64  16.2 MB of ~36.8 MB   2.9 MB/s        ~7 s left",
        ),
        (
            {"seconds_without_bytes": 750, "seconds_left": None},
            "[#####---------]   42%   16.2 MB of 36.8 MB             no byte for 12 min 30 s",
        ),
        (
            {"bytes": 0, "bytes_left": 0, "failed": 0},
            "[#######----------------------------]   22%  14 of 64 filesets  3 h 20 min left",
        ),
        (
            {"stage": "ending"},
            "[######---------]   42%  14/64   16.2 MB of 36.8 MB   2.9 MB/s           ending",
        ),
    ],
)
def test_the_columns_of_80_fill_the_line(changes, first):
    [line] = lines(replace(RUN, **changes), [])
    assert line == first
    assert len(line) == 79


@pytest.mark.parametrize("height", [1, 2, 5, 40])
@pytest.mark.parametrize("width", [1, 9, 40, 59, 79, 119, 200])
def test_the_bar_fits_every_window(width, height):
    steps = STEPS * 3
    shown = lines(steps=steps, width=width, height=height)
    assert 1 <= len(shown) <= min(height, 9)
    assert all(len(line) <= width for line in shown)


def test_steps_that_are_not_shown_are_counted():
    assert lines(steps=STEPS * 3)[-1] == "and 5 more in progress"


def test_what_is_done_before_the_filesets_are_known():
    unknown = replace(RUN, filesets=0, done=0, stage="listings")
    assert lines(unknown, []) == ["beginning"]
    listing = step("listing", "md", 98.0)
    assert lines(unknown, [listing]) == [
        "fetching the listing of md",
        "                 listing   md" + "for 2 s".rjust(45),
    ]
    assert lines(unknown, [listing, listing])[0] == "fetching listings"
    assert lines(unknown, STEPS)[0] == "4 steps in progress"
