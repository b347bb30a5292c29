"""Luigi tasks in threads, and the results that they put into a queue."""

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from luigi.worker import TaskProcess, TaskStatusReporter

from tasks.runtime.task import MirrorTask


class TaskRunner:
    """Runs tasks in threads; ``results`` are those of ``TaskProcess``, and None to wake their reader."""

    def __init__(
        self, worker_id: str, scheduler: Any, results: "SimpleQueue[tuple[Any, ...] | None]"
    ) -> None:
        self.running: dict[str, MirrorTask] = {}
        self._worker_id = worker_id
        self._scheduler = scheduler
        self._results = results

    def start(self, task: MirrorTask) -> None:
        """Run the task beside the others. Raises RuntimeError when no thread can be started."""
        reporter = TaskStatusReporter(self._scheduler, task.task_id, self._worker_id, None)
        process = TaskProcess(task, self._worker_id, self._results, reporter, check_complete_on_run=True)
        # A pool would keep a task for which it cannot start a thread, and run it later.
        threading.Thread(target=process.run, name=f"task {task.task_id}", daemon=True).start()
        self.running[task.task_id] = task

    def take_results(self, seconds: float | None) -> list[tuple[MirrorTask, str, str]]:
        """Return the tasks that have ended, their statuses and explanations.

        Wait at most so many seconds for the first, or until woken; None waits without end.
        """
        results = []
        with suppress(Empty):
            results.append(self._results.get(timeout=seconds))
            while True:
                results.append(self._results.get_nowait())
        ended = [result[:3] for result in results if result is not None]
        return [(self.running.pop(task_id), status, explanation) for task_id, status, explanation in ended]

    @property
    def slots_used(self) -> int:
        """Number of running tasks, without those that only wait."""
        return sum(not task.only_waits for task in self.running.values())

    def held(self, resource: str) -> int:
        """Return how much of the resource the running tasks hold."""
        return sum(task.resources.get(resource, 0) for task in self.running.values())
