"""Progress of a run: rates, what is left, and how it is shown."""

import threading
from pathlib import Path

import pytest

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.context import RunCounters, StepProgress
from pipeline.mirror.state.layout import Layout
from tasks.runtime.bar import step_time
from tasks.runtime.display import DisplayPolicy, plain_line, progress_displayed, progress_in_file
from tasks.runtime.progress import Progress

COLUMNS = ("filesetID", "time registered", "type", "stage")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Task:
    """As much of a task as the progress reads."""

    def __init__(self, fileset: str, doing: str = "download", fetches: bool = True, shows: bool = False):
        self.task_id = f"{doing}-{fileset}"
        self.subject = f"fileset p/{fileset}"
        self.doing = doing
        self.optional = False
        self.shows_all = shows
        self.of_fileset = ("p", fileset)
        self.fetches = ("p", fileset, "chip") if fetches else None
        self.shown: list[tuple[str, float]] = []
        self.seen = threading.Event()

    def show(self, message: str, share: float) -> None:
        self.shown.append((message, share))
        self.seen.set()


def rows(*names: str) -> list[FilesetRow]:
    return [FilesetRow(name, "t", "T", COLUMNS, (name, "t", "T", "chip")) for name in names]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(tmp_path: Path, clock: Clock) -> Progress:
    """Progress of a run of four filesets; the first is in progress since 10 s, with 600 of 1000 bytes."""
    (tmp_path / "state").mkdir()
    counters = RunCounters()
    progress = Progress(Layout(tmp_path), counters, clock)
    assert progress.state().stage == "listings"
    progress.expect("p", rows("f0", "f1", "f2", "f3"))
    task = Task("f0")
    progress.begin(task)
    progress.update(task, StepProgress("0 of 2 files", 0.0, 0, 1000))
    progress.state()
    clock.now += 10
    counters.count(received=600)
    progress.update(task, StepProgress("1 of 2 files", 0.6, 600, 1000))
    return progress


def test_bytes_left_rate_and_time_left(progress: Progress, clock: Clock):
    progress.state()
    clock.now += 10
    progress.counters.count(received=100)
    state = progress.state()
    assert (state.stage, state.done, state.filesets, state.failed) == ("filesets", 0, 4, 0)
    assert (state.bytes, state.bytes_left, state.bytes_left_known) == (700, 3400, True)
    assert (state.rate, state.seconds_left) == (10, 340)
    [step] = progress.steps()
    assert step.seconds_left == pytest.approx(400 / 60)


def test_no_time_left_is_given_before_the_rate_is_known(progress: Progress, clock: Clock):
    progress.state()
    clock.now += 1
    progress.counters.count(received=600)
    state = progress.state()
    assert state.rate == 600
    assert state.seconds_left is None


def test_a_server_that_is_silent_is_shown_as_such(progress: Progress, clock: Clock):
    progress.state()
    clock.now += 25
    assert progress.state().seconds_without_bytes == 25
    assert "no byte for 25 s" in plain_line(progress)


def test_a_fileset_of_which_no_byte_comes_is_shown_as_such(progress: Progress, clock: Clock):
    """A time left, or a share, that stands still would say that something comes."""
    other = Task("f1")
    progress.begin(other)
    clock.now += 25
    progress.update(other, StepProgress("0 of 2 files", 0.5, 500, 1000))
    first, second = map(step_time, progress.steps(), [clock.now] * 2)
    assert (first, second) == ("no byte for 25 s", "for 25 s")


def test_a_run_without_bytes_to_fetch_counts_filesets(tmp_path: Path, clock: Clock):
    progress = Progress(Layout(tmp_path), RunCounters(), clock)
    progress.expect("p", rows("f0", "f1", "f2", "f3"), to_fetch=False)
    progress.end_fileset("p", "f1")
    progress.begin(Task("f0", doing="extract", fetches=False))
    clock.now += 6
    assert progress.state().seconds_left == 18


def test_the_task_of_the_run_and_bytes_that_were_not_adopted(tmp_path: Path, clock: Clock):
    counters = RunCounters(bytes=70, adopted_bytes=7)
    progress = Progress(Layout(tmp_path), counters, clock)
    progress.begin_run("AdoptMirror")
    state = progress.state()
    assert (state.task, state.fetched, state.bytes) == ("AdoptMirror", 70, 77)


def test_filesets_are_known_once_no_listing_is_in_progress(tmp_path: Path, clock: Clock):
    progress = Progress(Layout(tmp_path), RunCounters(), clock)
    overview, listing = (
        Task("", doing="", fetches=False, shows=True),
        Task("q", doing="listing", fetches=False),
    )
    assert (progress.knows_filesets(), progress.doing) == (False, "beginning")
    progress.begin(overview)
    assert progress.doing == "looking for what is to be done"
    progress.begin(listing)
    progress.expect("p", rows("f0"))
    assert not progress.knows_filesets()
    progress.end(listing)
    assert progress.knows_filesets()


def test_what_ended_is_not_in_progress_and_failures_are_counted(progress: Progress):
    first, second = Task("f0"), Task("f1")
    progress.complete(first, failed=False)
    progress.end(first)
    progress.complete(second, failed=True)
    state = progress.state()
    assert (state.bytes_left, state.failed) == (2000, 1)
    assert progress.steps() == []


def test_each_fileset_counts_once_however_often_it_is_submitted(progress: Progress):
    """As one that an update fetches, and that is asked for by name meanwhile: f0 is in progress, f1 waits."""
    progress.expect("p", rows("f0", "f1", "other"))
    progress.expect("q", rows("f0"))
    state = progress.state()
    assert (state.done, state.filesets, state.bytes_left) == (0, 6, 5400)
    for name in ("f0", "f0", "other"):
        progress.end_fileset("p", name)
    state = progress.state()
    assert (state.done, state.filesets) == (2, 6)


def test_a_fileset_that_is_submitted_again_after_its_end_is_in_progress_again(progress: Progress):
    progress.complete(Task("f1"), failed=True)
    progress.end_fileset("p", "f1")
    assert (progress.state().done, progress.state().filesets, progress.state().failed) == (1, 4, 1)
    progress.expect("p", rows("f1"))
    assert (progress.state().done, progress.state().filesets, progress.state().failed) == (0, 4, 0)
    progress.complete(Task("f1"), failed=True)
    progress.complete(Task("f1"), failed=True)
    assert progress.state().failed == 1


def test_the_plain_line(progress: Progress):
    for number in range(1, 5):
        progress.begin(Task(f"f{number}"))
    assert plain_line(progress).endswith(
        "; in progress: download p/f0 (60%), download p/f1, download p/f2 and 2 more"
    )


def test_lines_the_file_and_the_page(progress: Progress, capsys, clock: Clock):
    """The page shows the whole run, and each step that takes a second or more."""
    overview = Task("", doing="", fetches=False, shows=True)
    progress.begin(overview)
    long, young = Task("f1"), Task("f2")
    progress.begin(long)
    progress.update(long, StepProgress("1 of 2 files", 0.5, 500, 1000))
    clock.now += 1
    progress.begin(young)
    progress.update(young, StepProgress("0 of 2 files", 0.0, 0, 1000))
    policy = DisplayPolicy(line=0.01, file=0.01, page=0.01)
    with progress_displayed(progress, "plain", policy), progress_in_file(progress, policy):
        assert overview.seen.wait(30)
        assert long.seen.wait(30)
        while not (progress.layout.progress.exists() and "of 4 filesets" in capsys.readouterr().out):
            pass
    assert not progress.layout.progress.exists()
    message, share = overview.shown[0]
    assert message.startswith("0 of 4 filesets, 600 bytes done")
    assert 0 < share < 1
    assert set(long.shown) == {("1 of 2 files", 0.5)}
    assert young.shown == []
