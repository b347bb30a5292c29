"""Luigi's worker with threads instead of a forked process for each task.

A thread only waits for the step that it sends to one of the run's own processes (``processes.py``).
``docs/luigi.md`` has the reasons.
"""

import json
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event
from typing import Any, NoReturn, Self

from luigi.rpc import RPCError
from luigi.scheduler import WORKER_STATE_DISABLED
from luigi.task_register import Register
from luigi.task_status import DONE, FAILED, RUNNING
from luigi.worker import Worker

from pipeline.names import some
from tasks.runtime.coordinator import POLL_SECONDS
from tasks.runtime.current import or_exit
from tasks.runtime.offered import offered_step
from tasks.runtime.run import Run
from tasks.runtime.runner import TaskRunner
from tasks.runtime.schedulers import CentralScheduler, LocalScheduler
from tasks.runtime.signals import StopSignals
from tasks.runtime.task import MirrorTask

# After so long without a task from the scheduler, it may have been restarted, and have lost all tasks.
QUIET_SECONDS = 2.0
# Tasks in progress that the message at a request to stop names.
NAMED_AT_STOP = 3

log = logging.getLogger(__name__)


class ThreadWorker(Worker, ABC):
    """Worker of one run: asks a scheduler for tasks, runs them, and reports their results.

    ``worker_processes`` 0: one for each step that fits. Subclasses say which run it is, and where its tasks
    come from.
    """

    _run: Run

    def __init__(self, scheduler: LocalScheduler | CentralScheduler, worker_processes: int) -> None:
        slots = worker_processes
        super().__init__(scheduler=scheduler, worker_processes=slots, no_install_shutdown_handler=True)
        # Luigi adds the calls of a scheduler to its client at run time.
        self._client: Any = scheduler
        # Luigi keeps all calls of add_task for a summary that is not printed here.
        self._add_task_history = deque(maxlen=0)  # type: ignore[assignment]
        self._quiet_at = time.monotonic() + QUIET_SECONDS
        self._has_refused = False
        self._is_finished = False
        # Set by a signal once the outcome of the run stands: ends its hooks, and what follows from it.
        self._cut_short = Event()
        # Closes what the run has opened.
        self._open = ExitStack()
        # Memory must not grow with the number of tasks.
        Register.disable_instance_cache()

    def __enter__(self) -> Self:
        self._run = or_exit(self._open_run)
        self._runner = TaskRunner(self._id, self._client, self._run.results)
        super().__enter__()
        self._signals = StopSignals(self._stop)
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        try:
            return bool(super().__exit__(kind, value, trace))
        finally:
            if self._is_finished:
                # The run has ended: a signal ends what follows from it, also after one that stopped the run.
                StopSignals(self._cut_short.set)
            self._open.close()
            if self._is_finished:
                self._follow_up(self._cut_short)

    @abstractmethod
    def _open_run(self) -> Run:
        """Return the run, closed with ``_open``. Raises MirrorError."""

    @abstractmethod
    def _prepare(self) -> bool:
        """Prepare for the first task; return False when there is nothing to do."""

    @abstractmethod
    def _poll(self) -> None:
        """Take in what has changed, before tasks are requested."""

    @property
    @abstractmethod
    def _processes(self) -> int:
        """Number of processes that take part in the update."""

    @abstractmethod
    def _resumable(self) -> list[MirrorTask]:
        """Return the next steps of filesets of which this process did a step."""

    @abstractmethod
    def _complete(self, task_id: str, status: str) -> None:
        """Note that a task is done or has failed."""

    def _drain(self) -> None:
        """Wait for other processes, once nothing occupies a slot here."""

    @abstractmethod
    def _conclude(self) -> None:
        """Determine the outcome, once no task is running."""

    @abstractmethod
    def _finish(self) -> int:
        """Write what the run leaves behind; return its exit code."""

    def _follow_up(self, stopping: Event) -> None:
        """Do what follows from a run that has ended, until ``stopping`` is set."""

    def _stop(self) -> None:
        self._run.stop()
        log.info(
            "stopping after what is in progress: %s. Ctrl-C (or the signal) again ends at once; either way "
            "the next run goes on from there.",
            self._in_progress(),
        )

    def _in_progress(self) -> str:
        """Return the subjects of the running tasks, the first ones by name."""
        subjects = [task.subject for task in self._runner.running.values() if not task.only_waits]
        return some(subjects, NAMED_AT_STOP) or "nothing"

    def run(self) -> bool:
        """Work until all is done or the run stops; end the program with the exit code of the run."""
        try:
            if self._prepare():
                self._add_worker()
                self.set_worker_processes(self.worker_processes or self._run.slots)
                self._work()
                self._finish_running(self._take_results)
            self._client.flush()
        except RPCError as error:
            self._run.lose_scheduler(error)
            self._finish_running(self._runner.take_results)
        except Exception as error:
            self._run.abort(error)
            self._finish_running(self._runner.take_results)
        self._conclude()
        self._end_run()

    def _end_run(self) -> NoReturn:
        """Write what the run leaves behind; end the program with the exit code of the run."""
        # The outcome stands: a signal neither stops the run nor ends it a second time.
        self._signals.redirect(self._cut_short.set)
        code = self._finish()
        self._is_finished = True
        raise SystemExit(code)

    def _work(self) -> None:
        """Run tasks until none is left; after a request to stop, only the last steps of what was started."""
        while True:
            self._poll()
            for task in self._next_tasks():
                self._start(task)
            if self._is_over():
                return
            self._client.flush()
            self._take_results(POLL_SECONDS)

    @property
    def _is_finishing(self) -> bool:
        """True while only the last steps of what was started are done."""
        return self._run.stopping.is_set()

    def _is_over(self) -> bool:
        if self._is_finishing:
            return not (self._runner.slots_used or self._resumable())
        return not self._runner.running

    @property
    def _is_quiet(self) -> bool:
        """True when the scheduler has had no task for a while."""
        return time.monotonic() > self._quiet_at

    def _expect_tasks(self) -> None:
        """Give the scheduler time for the next task."""
        self._quiet_at = time.monotonic() + QUIET_SECONDS

    def _next_tasks(self) -> list[MirrorTask]:
        """Return the tasks to start: as many as there are free slots, or fewer."""
        free = max(0, self.worker_processes - self._runner.slots_used)
        return self._next_steps(free) if self._is_finishing else self._requested_tasks(free)

    def _next_steps(self, most: int) -> list[MirrorTask]:
        """Return next steps of filesets of which this process did a step; claim them from the scheduler."""
        steps = self._resumable()[:most]
        for step in steps:
            self._client.add_task(worker=self._id, task_id=step.task_id, status=RUNNING)
        return steps

    def _requested_tasks(self, most: int) -> list[MirrorTask]:
        """Return the tasks that the scheduler hands out."""
        running = self._runner.running
        works = self._client.get_works(min(most, self._fair_share()), self._id, self.host, list(running))
        if any(work.get("worker_state") == WORKER_STATE_DISABLED for work in works):
            self._run.stop()
        offered = [work for work in works if work["task_id"] not in {None, *running}]
        return [task for work in offered if (task := self._task(work)) is not None]

    def _fair_share(self) -> int:
        """Return how many tasks this process takes before it is the turn of another one."""
        if self._processes == 1:
            return self.worker_processes
        free = self._run.fair_share(self._processes) - self._runner.held("connections")
        return max(free, min(1, len(self._resumable())))

    def _task(self, work: dict[str, Any]) -> MirrorTask | None:
        """Return the offered task; None for one that is refused."""
        task_id = work["task_id"]
        task: MirrorTask | None = self._scheduled_tasks.get(task_id) or offered_step(work, self._run.mirror)
        if task is None:
            self._refuse(work)
        return task

    def _refuse(self, work: dict[str, Any]) -> None:
        """Report an offered task as failed: the scheduler takes it for running."""
        log.log(
            logging.DEBUG if self._has_refused else logging.WARNING,
            "the scheduler offers task %.100r of module %.100r, which is no step of this mirror: refused. "
            "Another program has added it; this run goes on.",
            *(work["task_id"], work.get("task_module")),
        )
        self._has_refused = True
        self._client.add_task(worker=self._id, task_id=work["task_id"], status=FAILED, runnable=False)

    def _start(self, task: MirrorTask) -> None:
        self._run.progress.begin(task)
        self._runner.start(task)
        self._scheduled_tasks[task.task_id] = task
        self._expect_tasks()
        self._run.window.start(task.task_id)

    def _take_results(self, seconds: float | None) -> None:
        """Take the results that are there; wait at most so long for the first."""
        for result in self._runner.take_results(seconds):
            self._report(*result)

    def _report(self, task: MirrorTask, status: str, explanation: str) -> None:
        """Send the result of a task to the scheduler."""
        self._run.progress.end(task)
        self._add_task(
            worker=self._id,
            task_id=task.task_id,
            status=status,
            expl=json.dumps(explanation),
            resources=task.process_resources(),
            runnable=None,
            params=task.to_str_params(),
            family=task.task_family,
            module=task.task_module,
            retry_policy_dict={"retry_count": task.retry_count},
        )

    def _add_task(self, *args: Any, **result: Any) -> None:
        """Send a task to the scheduler: one that is to be done, or one that has ended."""
        super()._add_task(*args, **result)
        if result["status"] in (DONE, FAILED):
            self._complete(result["task_id"], result["status"])

    def _finish_running(self, take_results: Callable[[None], Any]) -> None:
        """Wait for the running tasks; release those that only wait once all others are done."""
        while self._runner.slots_used:
            take_results(None)
        self._drain()
        self._run.window.abort()
        while self._runner.running:
            take_results(None)
