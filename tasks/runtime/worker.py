"""Luigi's worker with threads instead of a forked process for each task.

A thread only waits for the step that it sends to one of the run's own processes (``processes.py``).
``docs/luigi.md`` has the reasons.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event
from typing import Any

import luigi
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import WORKER_STATE_DISABLED
from luigi.task_register import Register
from luigi.task_status import DONE, FAILED, RUNNING
from luigi.worker import Worker

from pipeline.errors import (
    EXIT_FILESET_FAILED,
    EXIT_NOT_SCHEDULED,
    MirrorError,
    SettingsError,
    machine_faults,
)
from pipeline.mirror.resources.update_lock import record_products
from pipeline.mirror.state.pause import refuse_when_paused
from pipeline.names import some
from tasks.runtime.coordinator import POLL_SECONDS, Coordinator, NoPeers
from tasks.runtime.current import or_exit
from tasks.runtime.display import line_displayed
from tasks.runtime.ending import RunEnd
from tasks.runtime.offered import offered_step
from tasks.runtime.opening import open_run
from tasks.runtime.run import Run
from tasks.runtime.runner import TaskRunner
from tasks.runtime.schedulers import CentralScheduler, LocalScheduler, fail_tasks_of
from tasks.runtime.signals import StopSignals
from tasks.runtime.summary import update_summary
from tasks.runtime.task import MirrorTask

# After so long without a task from the scheduler, all is submitted again: one that was restarted has lost it.
RESUBMIT_SECONDS = 2.0
# Tasks in progress that the message at a request to stop names.
NAMED_AT_STOP = 3

log = logging.getLogger(__name__)


class MirrorWorker(Worker):
    """Luigi's worker for one update of the mirror; ``worker_processes`` 0: one for each step that fits.

    ``scheduler_line`` says which scheduler is used. It is logged once nothing speaks against the run.
    """

    _run: Run
    _run_end: RunEnd

    def __init__(
        self, scheduler: LocalScheduler | CentralScheduler, worker_processes: int, scheduler_line: str = ""
    ) -> None:
        slots = worker_processes
        super().__init__(scheduler=scheduler, worker_processes=slots, no_install_shutdown_handler=True)
        # Luigi adds the calls of a scheduler to its client at run time.
        self._client: Any = scheduler
        # Luigi keeps all calls of add_task for a summary that is not printed here.
        self._add_task_history = deque(maxlen=0)  # type: ignore[assignment]
        self._scheduler_line = scheduler_line
        self._root: Any = None
        self._registering = False
        self._resubmit_at = time.monotonic() + RESUBMIT_SECONDS
        self._peers = NoPeers()
        self._has_refused = False
        self._is_finished = False
        # Closes what the run has opened.
        self._open = ExitStack()
        # Memory must not grow with the number of tasks.
        Register.disable_instance_cache()

    def __enter__(self) -> "MirrorWorker":
        self._run = or_exit(self._open_run)
        self._runner = TaskRunner(self._id, self._client, self._run.results)
        super().__enter__()
        StopSignals(self._stop)
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        try:
            return bool(super().__exit__(kind, value, trace))
        finally:
            stopping = Event()
            if self._is_finished:
                # The run has ended: a signal ends what follows from it.
                StopSignals(stopping.set)
            self._peers.close()
            self._open.close()
            if self._is_finished:
                self._follow_up(stopping)

    def _follow_up(self, stopping: Event) -> None:
        """Do what follows from the run, whose lock is released, until ``stopping`` is set."""
        if not self._run.stopping.is_set():
            with line_displayed("drawing the map of the sky"):
                self._run_end.conclude(stopping)
        with line_displayed("drawing the page"):
            self._run_end.renew_page(stopping)

    def _open_run(self) -> Run:
        self._run_end = self._open.enter_context(open_run())
        return self._run_end.run

    def _stop(self) -> None:
        self._run.stop()
        if self._registering:
            # Nothing is in progress, and a scheduler that does not answer is not waited for.
            raise SystemExit(self._finish())
        log.info(
            "stopping after what is in progress: %s. Ctrl-C (or the signal) again ends at once; either way "
            "the next run goes on from there.",
            self._in_progress(),
        )

    def _in_progress(self) -> str:
        """Return the subjects of the running tasks, the first ones by name."""
        subjects = [task.subject for task in self._runner.running.values() if not task.only_waits]
        return some(subjects, NAMED_AT_STOP) or "nothing"

    def add(self, task: luigi.Task, multiprocess: bool = False, processes: int = 0) -> bool:
        """Schedule the task; before the first one, make sure that the server and the scheduler respond."""
        if self._root is None:
            # The command line was read before the run began.
            task = self._root = task.clone(mirror=self._run.mirror)
            self._run.progress.begin_run(task.task_family)
            or_exit(self._request_products)
            record_products(self._run.context.layout, self._root.fetches_wanted_of)
            self._register_resources()
        return bool(super().add(task, multiprocess, processes))

    def _request_products(self) -> None:
        """Determine what the first task requires; end the run when the server does not say it.

        Raises SettingsError, or Paused.
        """
        if self._root.pausable:
            refuse_when_paused(self._run.context.layout)
        try:
            self._root.deps()
            self._root.complete()
        except SettingsError:
            raise
        except MirrorError as error:
            self._log_scheduler()
            self._run.refuse(error)
            raise SystemExit(self._finish()) from None
        self._log_scheduler()

    def _log_scheduler(self) -> None:
        if self._scheduler_line:
            log.info("%s", self._scheduler_line)

    def _register_resources(self) -> None:
        """Register the resources with the scheduler; end the run when no scheduler responds."""
        self._registering = True
        killed = self._run.last.killed
        try:
            self._client.update_resources(**self._run.resources())
            if killed:
                fail_tasks_of(
                    self._client,
                    self._run.mirror,
                    lambda it: all(it.get(key) == killed[key] for key in ("host", "pid")),
                )
        except RPCError as error:
            self._run.lose_scheduler(error)
            raise SystemExit(self._finish()) from None

    def run(self) -> bool:
        """Work until all is done or the run stops; end the program with the exit code of the run."""
        self._registering = False
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
        code = self._finish()
        self._is_finished = True
        raise SystemExit(code)

    def _prepare(self) -> bool:
        """Prepare for the first task; return False when there is nothing to do."""
        if self._root and self._root.takes_peers and isinstance(self._client, RemoteScheduler):
            with machine_faults("preparing for workers on other hosts"):
                self._peers = Coordinator(self._run, self._client, self._id, self._complete_elsewhere)
        return True

    def _work(self) -> None:
        """Run tasks until none is left; after a request to stop, only the last steps of what was started."""
        while True:
            self._resubmit_if_needed()
            self._submit()
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

    def _resubmit_if_needed(self) -> None:
        """Submit all again after a peer came or went, and when the scheduler has had no task for a while."""
        changed = self._peers.poll()
        if not self._run.stopping.is_set() and (changed or time.monotonic() > self._resubmit_at):
            self._resubmit_at = time.monotonic() + RESUBMIT_SECONDS
            self._resubmit()

    def _resubmit(self) -> None:
        """Register the resources and the tasks in flight again, except for those that run here."""
        self._client.prune()
        self._client.update_resources(**self._run.resources(self._peers.processors))
        # A task that has failed elsewhere must not be added again.
        self._peers.read()
        for task in self._run.window.idle(self._runner.running):
            self.add(task)

    def _submit(self) -> None:
        """Submit the tasks that the window has room for."""
        for more in self._root.more_tasks() if self._root and not self._run.stopping.is_set() else ():
            self._run.window.open(iter([more]))
        while not self._run.stopping.is_set() and (task := self._run.window.submit()) is not None:
            if not self.add(task):
                self._complete(task.task_id, FAILED)

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

    def _resumable(self) -> list[MirrorTask]:
        steps: list[Any] = self._run.window.resumable(self._runner.running)
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

    @property
    def _processes(self) -> int:
        """Number of processes that take part in the update."""
        return 1 + len(self._peers.workers)

    def _start(self, task: MirrorTask) -> None:
        self._run.progress.begin(task)
        self._runner.start(task)
        self._scheduled_tasks[task.task_id] = task
        self._resubmit_at = time.monotonic() + RESUBMIT_SECONDS
        self._run.window.start(task.task_id)

    def _take_results(self, seconds: float | None) -> None:
        """Take the results that are there; wait at most so long for the first."""
        for result in self._runner.take_results(seconds):
            self._report(*result)

    def _report(self, task: MirrorTask, status: str, explanation: str) -> None:
        """Send the result of a task to the scheduler."""
        self._run.progress.end(task)
        if status == DONE:
            self._note_complete(task)
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
        task_id, status = result["task_id"], result["status"]
        self._peers.offer(self._scheduled_tasks[task_id], result)
        if status in (DONE, FAILED):
            self._complete(task_id, status)

    def _note_complete(self, task: MirrorTask) -> None:
        """Note that a task was done; one that was done before the run is not noted."""
        if task.completes:
            self._run_end.notices.complete(*task.completes)

    def _complete_elsewhere(self, task_id: str, status: str) -> None:
        """Note the result of a task that a peer did."""
        if status == DONE and (task := self._scheduled_tasks.get(task_id)):
            self._note_complete(task)
        self._complete(task_id, status)

    def _complete(self, task_id: str, status: str) -> None:
        """Note the result of a task in the window, and forget the tasks that nothing needs any more."""
        if task := self._scheduled_tasks.get(task_id):
            self._run.progress.settle(task, status == FAILED)
        released = self._run.window.complete(task_id, status)
        # The result of a task that was done elsewhere, and runs here as well, is still to come.
        over = [each for each in released if each not in self._runner.running]
        self._client.forget_completed(over)
        for each in over:
            self._scheduled_tasks.pop(each, None)

    def _finish_running(self, take_results: Callable[[None], Any]) -> None:
        """Wait for the running tasks; release those that only wait once all others are done."""
        while self._runner.slots_used:
            take_results(None)
        self._peers.drain()
        self._run.window.abort()
        while self._runner.running:
            take_results(None)

    def _finish(self) -> int:
        """Write what the run leaves behind; return its exit code."""
        if self._root is None:
            return self._run_end.finish(update_summary)
        return self._run_end.finish(self._root.summary, self._root.task_family)

    def _conclude(self) -> None:
        if self._run.code == 0 and self._root and not self._root.complete():
            failed = self._run.context.counters.failed
            code = EXIT_FILESET_FAILED if failed else EXIT_NOT_SCHEDULED
            self._run.note(code, "filesets failed" if failed else "the scheduler did not schedule all tasks")
