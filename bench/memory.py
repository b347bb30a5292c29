"""Memory of a command and all its children together, sampled while they run."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_SECONDS = 0.05
# A central scheduler grows slowly, and reading the state of many pages slows it down.
_SCHEDULER_EVERY = 40
_PROC = Path("/proc")


class PeakMemory:
    """Sampler of the memory of a tree of processes, in bytes, inside a ``with`` block.

    ``beside`` are children of this process that do not count; neither does the first process of the tree,
    which only starts the others. A page that several processes share is counted once (PSS).
    """

    def __init__(self, pid: int, beside: set[int]) -> None:
        self.course: list[int] = []
        # Samples, fewer of them, of Luigi's central scheduler if this process started one; 0 without one.
        self.scheduler: list[int] = []
        self._pid = pid
        self._beside = beside
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        for sample in itertools.count():
            if self._ended.wait(_SECONDS):
                return
            launchers = set(_children(self._pid)) - self._beside
            counted = [pid for launcher in launchers for pid in _below(launcher)]
            self.course.append(sum(map(_share, counted)))
            if sample % _SCHEDULER_EVERY == 0:
                schedulers = [pid for pid in launchers if "tasks.runtime.luigid" in _command(pid)]
                self.scheduler.append(sum(map(_share, schedulers)))

    @property
    def bytes(self) -> int:
        """Highest sample."""
        return max(self.course)


def at_a_tenth_and_at_the_end(course: list[int]) -> tuple[int, int]:
    """Return the memory after a tenth of the time, and the highest in the last tenth."""
    return course[len(course) // 10], max(course[-len(course) // 10 :])


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _below(child)


def _children(pid: int) -> list[int]:
    """Return the children of all threads of the process; none when the process has ended."""
    found: list[int] = []
    for path in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def _command(pid: int) -> list[str]:
    """Return the arguments of the process's command; none when the process has ended."""
    try:
        return (_PROC / str(pid) / "cmdline").read_text().split("\0")
    except OSError:
        return []


def _share(pid: int) -> int:
    """Return the proportional set size (bytes) of the process; 0 when the process has ended."""
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
