"""Tasks that a running task hands on to the worker, a window of them at a time."""

import threading
from collections.abc import Iterator

import luigi
from luigi.scheduler import DONE, FAILED

from pipeline.mirror.context import Tally

# Filesets known to the scheduler at once: each request for work looks at all that is pending.
WINDOW = 32


class Feed:
    """Tasks that a running task hands on to the worker, ``WINDOW`` of them at a time.

    A task is settled when it is done, or when it or what it requires has failed. ``tally`` learns of
    filesets that were done elsewhere.
    """

    def __init__(self, tasks: Iterator[luigi.Task], tally: Tally) -> None:
        self._tasks = tasks
        self._tally = tally
        self._last_of: dict[str, luigi.Task] = {}
        # The steps of each open task, by its id: Luigi takes long to make a task.
        self._open: dict[str, tuple[luigi.Task, ...]] = {}
        self.settled: list[str] = []
        self.failed = 0
        self.ended = threading.Event()

    def next_task(self) -> luigi.Task | None:
        """The next task to hand on; None while enough are open, or when there are no more."""
        if self.ended.is_set() or len(self._open) >= WINDOW:
            return None
        task = next(self._tasks, None)
        if task is None:
            if not self._open:
                self.ended.set()
            return None
        self._open[task.task_id] = (task, *task.deps())
        for step in self._open[task.task_id]:
            self._last_of[step.task_id] = task
        return task

    @property
    def open(self) -> list[luigi.Task]:
        """The tasks that are handed on and not settled."""
        return [last for last, *_ in self._open.values()]

    def has_step(self, task_id: str) -> bool:
        """Whether it is a step of a task that is handed on and not settled."""
        return task_id in self._last_of

    def steps(self, task: luigi.Task) -> tuple[luigi.Task, ...]:
        """The steps of a task that is handed on and not settled; of another one none."""
        return self._open.get(task.task_id, ())

    def settle(self, task_id: str, status: str) -> luigi.Task | None:
        """Take note of a result; the task that goes on from there, if one does."""
        last = self._last_of.get(task_id)
        if last is None or last.task_id not in self._open:
            return None
        if status == DONE and task_id != last.task_id:
            return last
        if status in (DONE, FAILED):
            self.failed += status == FAILED
            self._tally.count(done=status == DONE and not last.did)
            for step in self._open.pop(last.task_id):
                self._last_of.pop(step.task_id, None)
                self.settled.append(step.task_id)
        return None
