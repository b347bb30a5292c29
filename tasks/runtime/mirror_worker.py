"""Worker of a run that holds the lock of the mirror: registers its tasks, and decides how it ends."""

import logging
from threading import Event
from typing import Any

import luigi
from luigi.rpc import RemoteScheduler, RPCError
from luigi.task_status import DONE, FAILED

from pipeline.errors import (
    EXIT_FILESET_FAILED,
    EXIT_NOT_SCHEDULED,
    MirrorError,
    SettingsError,
    machine_faults,
)
from pipeline.mirror.resources.update_lock import record_products
from pipeline.mirror.state.pause import refuse_when_paused
from tasks.runtime.coordinator import Coordinator, NoPeers
from tasks.runtime.current import or_exit
from tasks.runtime.display import line_displayed
from tasks.runtime.ending import RunEnd
from tasks.runtime.opening import open_run
from tasks.runtime.run import Run
from tasks.runtime.schedulers import CentralScheduler, LocalScheduler, fail_tasks_of
from tasks.runtime.summary_line import update_summary
from tasks.runtime.task import MirrorTask
from tasks.runtime.worker import ThreadWorker

log = logging.getLogger(__name__)


class MirrorWorker(ThreadWorker):
    """Worker of an update, or of another run that holds the lock.

    ``scheduler_line`` says which scheduler is used. It is logged once nothing speaks against the run.
    """

    _run_end: RunEnd

    def __init__(
        self, scheduler: LocalScheduler | CentralScheduler, worker_processes: int, scheduler_line: str = ""
    ) -> None:
        super().__init__(scheduler, worker_processes)
        self._scheduler_line = scheduler_line
        self._root: Any = None
        self._registering = False
        self._peers = NoPeers()

    def _open_run(self) -> Run:
        self._run_end = self._open.enter_context(open_run(self._cut_short))
        return self._run_end.run

    def _stop(self) -> None:
        if self._registering:
            # Nothing is in progress, and a scheduler that does not answer is not waited for.
            self._run.stop()
            self._end_run()
        super()._stop()

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
            self._end_run()
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
            self._end_run()

    def run(self) -> bool:
        """Work until all is done or the run stops; end the program with the exit code of the run."""
        self._registering = False
        return super().run()

    def _prepare(self) -> bool:
        """Prepare for the first task; return False when there is nothing to do."""
        if self._root and self._root.takes_peers and isinstance(self._client, RemoteScheduler):
            with machine_faults("preparing for workers on other hosts"):
                self._peers = Coordinator(self._run, self._client, self._id, self._complete_elsewhere)
                self._open.callback(self._peers.close)
        return True

    def _poll(self) -> None:
        self._resubmit_if_needed()
        self._submit()

    def _resubmit_if_needed(self) -> None:
        """Submit all again after a peer came or went, and when the scheduler has had no task for a while."""
        changed = self._peers.poll()
        if not self._run.stopping.is_set() and (changed or self._is_quiet):
            self._expect_tasks()
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
        """Submit the tasks that the window takes."""
        for more in self._root.more_tasks() if self._root and not self._run.stopping.is_set() else ():
            self._run.window.submit(iter([more]))
        while not self._run.stopping.is_set() and (task := self._run.window.take_next()) is not None:
            if not self.add(task):
                self._complete(task.task_id, FAILED)

    def _resumable(self) -> list[MirrorTask]:
        steps: list[Any] = self._run.window.resumable(self._runner.running)
        return steps

    @property
    def _processes(self) -> int:
        """Number of processes that take part in the update."""
        return 1 + len(self._peers.workers)

    def _report(self, task: MirrorTask, status: str, explanation: str) -> None:
        if status == DONE:
            self._note_complete(task)
        super()._report(task, status, explanation)

    def _add_task(self, *args: Any, **result: Any) -> None:
        task = self._scheduled_tasks[result["task_id"]]
        super()._add_task(*args, **result)
        self._peers.offer(task, result)

    def _note_complete(self, task: MirrorTask) -> None:
        """Note that a task was done; one that was done before the run is not noted."""
        if task.completes:
            self._run_end.notifications.complete(*task.completes)

    def _complete_elsewhere(self, task_id: str, status: str) -> None:
        """Note the result of a task that a peer did."""
        if status == DONE and (task := self._scheduled_tasks.get(task_id)):
            self._note_complete(task)
        self._complete(task_id, status)

    def _complete(self, task_id: str, status: str) -> None:
        """Note the result of a task in the window, and forget the tasks that nothing needs any more."""
        if task := self._scheduled_tasks.get(task_id):
            self._run.progress.complete(task, status == FAILED)
        released = self._run.window.complete(task_id, status)
        # The result of a task that was done elsewhere, and runs here as well, is still to come.
        over = [each for each in released if each not in self._runner.running]
        self._client.forget_completed(over)
        for each in over:
            self._scheduled_tasks.pop(each, None)

    def _drain(self) -> None:
        self._peers.drain()

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

    def _follow_up(self, stopping: Event) -> None:
        """Do what follows from the run, whose lock is released, until ``stopping`` is set."""
        if not self._run.stopping.is_set():
            with line_displayed("drawing the map of the sky"):
                self._run_end.conclude(stopping)
        with line_displayed("drawing the page"):
            self._run_end.renew_page(stopping)
