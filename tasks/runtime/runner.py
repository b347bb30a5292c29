"""Luigi tasks in threads, and the results that they put into a queue."""

import threading
from queue import SimpleQueue
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

    def take_result(self, seconds: float | None) -> tuple[MirrorTask, str, str] | None:
        """Return the next task that has ended, its status and an explanation; None when woken.

        Raises queue.Empty when nothing came within the time.
        """
        result = self._results.get(seconds != 0, seconds)
        if result is None:
            return None
        task_id, status, explanation, *_ = result
        return self.running.pop(task_id), status, explanation

    @property
    def slots_used(self) -> int:
        """Number of running tasks, without those that only wait."""
        return sum(not task.only_waits for task in self.running.values())

    def held(self, resource: str) -> int:
        """Return how much of the resource the running tasks hold."""
        return sum(task.resources.get(resource, 0) for task in self.running.values())
