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
        self._queued: SimpleQueue[TaskProcess] = SimpleQueue()
        self._threads = 0

    def start(self, task: MirrorTask) -> None:
        """Run the task beside the others. Raises RuntimeError when no thread can be started."""
        reporter = TaskStatusReporter(self._scheduler, task.task_id, self._worker_id, None)
        process = TaskProcess(task, self._worker_id, self._results, reporter, check_complete_on_run=True)
        # Before the task is queued: a ThreadPoolExecutor would keep one without a thread, and run it later.
        if len(self.running) == self._threads:
            threading.Thread(target=self._run_queued, name=f"task-{self._threads}", daemon=True).start()
            self._threads += 1
        self.running[task.task_id] = task
        self._queued.put(process)

    def _run_queued(self) -> None:
        while True:
            self._queued.get().run()

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
