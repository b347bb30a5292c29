"""An assistant: ``luigi --module tasks UpdateMirror --assistant`` takes part in the update that is running.

It does steps of filesets that the update has handed to the scheduler, and nothing else: what is new, what
is settled and how it ends is the business of the update.
"""

import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import luigi
from luigi.rpc import RemoteScheduler
from luigi.scheduler import DONE, FAILED
from luigi.task_register import Register

from pipeline.errors import EXIT_ALREADY_RUNNING, EXIT_FILESET_FAILED, EXIT_NOT_SCHEDULED, MirrorError
from pipeline.mirror.resources.peers import HUNG_SECONDS, Assistance, Standing, StepDone
from pipeline.units import as_size
from tasks.runtime.run import Run, begin_run
from tasks.runtime.window import WINDOW
from tasks.runtime.worker import MirrorWorker

_LOOK_SECONDS = 0.3
# So many failures one after the other are this machine's, more likely than the filesets'.
_FAILURES_IN_A_ROW = 4

log = logging.getLogger("ipp-mirror")


class NoCentralScheduler(MirrorError):
    """An assistant gets its work from the central scheduler of the update."""

    exit_code = EXIT_NOT_SCHEDULED


class AssistantRun(Run):
    """One run of an assistant: registered with the update, instead of holding the mirror."""

    assistance: Assistance

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._told = 0
        super().__init__()
        self.site.shares.share(True)

    def _take_hold(self) -> None:
        self.assistance = Assistance(self.site.layout, self._worker, self.site.settings)

    def _show_life(self) -> None:
        """The worker's watch does, as soon as it is there."""

    @property
    def update(self) -> str:
        """That of the one which it assists."""
        return self.assistance.notice.run

    @property
    def log_file(self) -> Path:
        """Its own: two processes cannot rotate one file."""
        return self.site.layout.assistant_log(socket.gethostname())

    def report(self, task: str, status: str) -> None:
        """Tell the update of a step that was done here."""
        received, self._told = self.site.tally.bytes - self._told, self.site.tally.bytes
        code = self.code if self.code > EXIT_FILESET_FAILED else 0
        self.assistance.report(StepDone(task, status, received, code))

    def finish(self) -> int:
        """Write the summary line and take leave, now that nothing is in hand; the exit code."""
        tally = self.site.tally
        if tally.failed:
            self.note(EXIT_FILESET_FAILED)
        log.info(
            "assisted: %d filesets completed here, %d failed; %s fetched in %.1f s",
            *(tally.done, tally.failed, as_size(tally.bytes), self.seconds),
        )
        self.assistance.leave()
        return self.code


class AssistantWorker(MirrorWorker):
    """Luigi's worker for one assistant."""

    _run: AssistantRun

    def __init__(self, **settings: Any) -> None:
        # To Luigi it is no assistant but a worker as any other: it is to get what the update hands to it,
        # not whatever else a scheduler has, which may serve other mirrors too.
        super().__init__(**settings)
        self._left = threading.Event()
        self._admitted = threading.Event()
        self._failures = 0

    def add(self, task: luigi.Task, multiprocess: bool = False, processes: int = 0) -> bool:
        """Schedule nothing: the update does."""
        return True

    def _begin(self) -> AssistantRun:
        if not isinstance(self._scheduler, RemoteScheduler):
            raise NoCentralScheduler(
                "--assistant: expected the central scheduler of the update, got a local one. Leave out "
                "--local-scheduler, or name the update's with --scheduler-host; this assistant did nothing."
            )
        return begin_run(lambda: AssistantRun(self._id))

    def _make_ready(self) -> bool:
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        if not self._knows_the_update():
            return False
        while not (self._admitted.is_set() or self._stop_requesting_work):
            self._admitted.wait(_LOOK_SECONDS)
        return True

    def _conclude(self) -> None:
        self._left.set()

    def _knows_the_update(self) -> bool:
        """Whether the scheduler is the one of the update."""
        notice = self._run.assistance.notice
        if notice.worker in {worker["name"] for worker in self._scheduler.worker_list(include_running=False)}:
            return True
        log.error(
            "expected the scheduler of the update that process %s on %s does, got another. "
            "Name it with --scheduler-host and --scheduler-port; this assistant did nothing.",
            *(notice.pid, notice.host),
        )
        self._run.note(EXIT_NOT_SCHEDULED)
        return False

    def _watch(self) -> None:
        """Look after the update. Without it, or when it goes on without this one, end at once."""
        heard = time.monotonic()
        while not self._left.wait(_LOOK_SECONDS):
            if time.monotonic() - heard > HUNG_SECONDS:
                self._abandon("hung too long for the update to count on it")
            try:
                standing = self._run.assistance.standing()
                self._run.assistance.beat()
            except OSError:
                continue  # a file system over the network, perhaps
            heard = time.monotonic()
            if standing is Standing.LOST and not self._left.is_set():
                self._abandon("the update that it assisted is gone")
            elif standing is Standing.ENDING:
                self._phase_out()
            elif standing is Standing.ADMITTED:
                self._admitted.set()

    def _abandon(self, why: str) -> NoReturn:
        """End as if killed, which is safe at any instant, and safer than to go on."""
        log.error("this assistant ends at once: %s. What it had in hand is taken over.", why)
        os._exit(EXIT_NOT_SCHEDULED if self._admitted.is_set() else EXIT_ALREADY_RUNNING)

    def _phase_out(self) -> None:
        if self._run.assistance.notice.stopped:
            self._run.stop()
        if not self._stop_requesting_work:
            self._start_phasing_out()
            self._task_result_queue.wake()

    @property
    def _sharers(self) -> int:
        return 1 + len(self._run.assistance.notice.admitted)

    def _has_its_fill(self) -> bool:
        return self._has_its_share(self._held()) and not self._begun

    def _keep_alive(self, _: Any) -> bool:
        return not self._stop_requesting_work

    def _sleeper(self) -> Any:
        while True:
            self._run.stopping.wait(_LOOK_SECONDS)
            yield

    def _add_task(self, *args: Any, **result: Any) -> None:
        """Told to the update first: it must not take for lost what the scheduler knows to have failed."""
        if result["task_id"] in self._running_tasks and result["status"] in (DONE, FAILED):
            self._run.report(result["task_id"], result["status"])
            self._look_at_oneself(result["status"])
        super()._add_task(*args, **result)
        following = self._scheduled_tasks[result["task_id"]].following
        if result["status"] == DONE and following is not None:
            self._scheduled_tasks[following.task_id] = self._begun[following.task_id] = following
        if len(self._scheduled_tasks) > 4 * WINDOW:
            self._let_go()

    def _let_go(self) -> None:
        """Forget what others did, or what was done here: memory must not grow with the number of filesets."""
        self._begun = {key: task for key, task in self._begun.items() if not task.complete()}
        in_hand = self._begun.keys() | self._running_tasks.keys()
        self._scheduled_tasks = {key: self._scheduled_tasks[key] for key in in_hand}
        Register.clear_instance_cache()

    def _look_at_oneself(self, status: str) -> None:
        """Take no more work when everything fails here."""
        self._failures = self._failures + 1 if status == FAILED else 0
        if self._failures == _FAILURES_IN_A_ROW:
            log.error("%d filesets failed here, one after the other: this assistant ends.", self._failures)
            self._start_phasing_out()
