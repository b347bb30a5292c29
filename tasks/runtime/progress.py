"""Progress of a run: which steps are in progress, how many bytes are left, at which rate."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.context import RunCounters, StepProgress
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import utc_now
from pipeline.reporting.backlog import Backlog
from pipeline.reporting.progress import ENDING, FILESETS, LISTINGS, SILENT_SECONDS, RunProgress
from pipeline.units import as_duration

if TYPE_CHECKING:
    from tasks.runtime.task import MirrorTask

# Time over which rates are averaged, and the least time of a rate from which time left is told, in seconds.
RATE_SECONDS = 20.0
LEAST_SECONDS = 5.0


class Rate:
    """Bytes per second over the last ``RATE_SECONDS``, from sums of bytes at times of the monotonic clock."""

    def __init__(self, now: float, total: float = 0) -> None:
        self._sums = deque([(now, total)])

    def add(self, now: float, total: float) -> None:
        """Add the sum of bytes at the time ``now``."""
        self._sums.append((now, total))
        while len(self._sums) > 2 and self._sums[1][0] <= now - RATE_SECONDS:
            self._sums.popleft()

    @property
    def seconds(self) -> float:
        """Time that the rate is of."""
        return self._sums[-1][0] - self._sums[0][0]

    @property
    def value(self) -> float:
        """Bytes per second; 0 before a time has passed."""
        (began, first), (ended, last) = self._sums[0], self._sums[-1]
        return max(0.0, last - first) / (ended - began) if ended > began else 0.0


@dataclass
class StepInProgress:
    """Step of a fileset, or listing of a product, that this process works on.

    ``began`` and ``moved``, when the last byte came, are monotonic.
    """

    task: "MirrorTask"
    began: float
    rate: Rate
    moved: float
    progress: StepProgress | None = None

    @property
    def subject(self) -> str:
        """The fileset or the product."""
        return self.task.subject.partition(" ")[2]

    @property
    def doing(self) -> str:
        """Word for what is done."""
        return self.task.doing

    def silence(self, now: float) -> str:
        """Return for how long no byte has come; empty for a short time, and for a step that fetches none."""
        if self.progress is None or not self.progress.total or now - self.moved <= SILENT_SECONDS:
            return ""
        return f"no byte for {as_duration(now - self.moved)}"

    @property
    def seconds_left(self) -> float | None:
        """Time until all bytes are fetched; None where it is not known."""
        if self.progress is None or not self.progress.total or not self.rate.value:
            return None
        if self.rate.seconds < LEAST_SECONDS:
            return None
        return (self.progress.total - self.progress.bytes) / self.rate.value


@dataclass
class Progress:
    """Progress of one run. Safe for use by several threads. ``clock`` is monotonic."""

    layout: Layout
    counters: RunCounters
    clock: Callable[[], float] = time.monotonic
    # Filesets that were submitted, each counted once.
    filesets: int = field(default=0, init=False)
    # What the run does before its first tasks.
    _before: str = field(default="beginning", init=False)
    _is_ending: bool = field(default=False, init=False)
    _task: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._backlog = Backlog(self.layout)
        self._began = self.clock()
        self._rate = Rate(self._began)
        self._moved = (0, self._began)
        # By the ids of the tasks.
        self._steps: dict[str, StepInProgress] = {}
        self._overviews: dict[str, MirrorTask] = {}
        # By product: all filesets that were submitted, and those of them that have not ended.
        self._submitted: dict[str, set[str]] = defaultdict(set)
        self._left: dict[str, set[str]] = defaultdict(set)
        self._failed: set[tuple[str, str]] = set()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self._began

    def begin_run(self, task: str) -> None:
        """Note Luigi's name of the first task of the run."""
        self._task = task

    def wait_for(self, what: str) -> None:
        """Note for what the run waits before its first tasks."""
        self._before = what

    def begin_ending(self) -> None:
        """Note that nothing more is started: what is in progress is finished, then the run ends."""
        self._is_ending = True

    def expect(self, product: str, rows: Sequence[FilesetRow], *, to_fetch: bool = True) -> None:
        """Add filesets that are submitted, and may still have to be fetched if ``to_fetch``.

        Those that were submitted before count once; those of them that have ended are in progress again.
        """
        with self._lock:
            left = self._left[product]
            rows = [row for row in rows if row.name not in left]
            left.update(row.name for row in rows)
            self._failed.difference_update((product, row.name) for row in rows)
            new = left - self._submitted[product]
            self._submitted[product] |= new
            self.filesets += len(new)
        if to_fetch:
            self._backlog.expect(product, rows)

    def end_fileset(self, product: str, fileset: str) -> None:
        """Note that a fileset is complete or has failed."""
        with self._lock:
            self._left[product].discard(fileset)

    def begin(self, task: "MirrorTask") -> None:
        """Note that a task has started in this process."""
        now = self.clock()
        with self._lock:
            if task.doing:
                self._steps[task.task_id] = StepInProgress(task, now, Rate(now), now)
            elif task.shows_all:
                self._overviews[task.task_id] = task

    def update(self, task: "MirrorTask", progress: StepProgress) -> None:
        """Note the progress of a task; that of one that the worker has not started is ignored."""
        now = self.clock()
        with self._lock:
            if (step := self._steps.get(task.task_id)) is None:
                return
            is_first = step.progress is None
            if step.progress is None or step.progress.bytes != progress.bytes:
                step.moved = now
            step.progress = progress
            if is_first:
                step.rate = Rate(now, progress.bytes)
            step.rate.add(now, progress.bytes)
        if is_first and task.fetches:
            self._backlog.begin(*task.fetches, progress.total)

    def end(self, task: "MirrorTask") -> None:
        """Note that a task has ended in this process."""
        with self._lock:
            self._steps.pop(task.task_id, None)
            self._overviews.pop(task.task_id, None)

    def complete(self, task: "MirrorTask", failed: bool) -> None:
        """Note that a task is done or has failed, in this process or another one."""
        if task.fetches:
            self._backlog.end(*task.fetches[:2])
        if failed and task.of_fileset and not task.optional:
            with self._lock:
                self._failed.add(task.of_fileset)

    def steps(self) -> list[StepInProgress]:
        """Return the steps in progress; the one that began first is the first."""
        with self._lock:
            return sorted(self._steps.values(), key=lambda step: step.began)

    def knows_filesets(self) -> bool:
        """Return True once the filesets of all products whose listings were asked for are known."""
        return bool(self.filesets) and all(step.doing != "listing" for step in self.steps())

    @property
    def doing(self) -> str:
        """Activity of the run while its filesets are not known, and no step is in progress."""
        return "looking for what is to be done" if self._overviews else self._before

    def overviews(self) -> list["MirrorTask"]:
        """Return the running tasks that show the progress of the run."""
        with self._lock:
            return list(self._overviews.values())

    def state(self) -> RunProgress:
        """Return the numbers of the run, of which the rate is that since earlier calls. Raises OSError."""
        now, moved = self.clock(), self.counters.bytes + self.counters.adopted_bytes
        if not self._moved[0]:
            # From the first byte on.
            self._rate = Rate(now, moved)
        self._rate.add(now, moved)
        if moved != self._moved[0]:
            self._moved = (moved, now)
        backlog = self._backlog.left()
        fetching = [step.progress for step in self.steps() if step.progress and step.progress.total]
        left = backlog.bytes + sum(each.total - each.bytes for each in fetching)
        with self._lock:
            filesets = self.filesets
            done = filesets - sum(map(len, self._left.values()))
        return RunProgress(
            time=utc_now(),
            stage=ENDING if self._is_ending else FILESETS if filesets else LISTINGS,
            done=done,
            filesets=filesets,
            failed=len(self._failed),
            bytes=moved,
            bytes_left=round(left),
            bytes_left_known=not backlog.rough,
            rate=round(self._rate.value),
            seconds_without_bytes=round(now - self._moved[1]) if fetching else 0,
            seconds_left=self._seconds_left(left, backlog.rough, filesets - done, done),
            task=self._task,
            fetched=self.counters.bytes,
        )

    def _seconds_left(self, bytes_left: float, rough: int, filesets: int, done: int) -> int | None:
        """Return the time for the bytes that are left; without any, for the filesets."""
        if bytes_left:
            is_known = self._rate.value and self._rate.seconds >= LEAST_SECONDS
            return round(bytes_left / self._rate.value) if is_known else None
        if rough:
            return None
        return round(filesets * (self.clock() - self._began) / done) if done else None
