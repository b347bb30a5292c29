"""A worker for the update that runs elsewhere: ``luigi --module tasks UpdateMirror --assistant``.

It does steps of filesets that the update has added to the scheduler, and nothing else: the update alone asks
for listings, submits filesets and decides how the run ends.
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
from luigi.task_status import DONE, FAILED

from pipeline.errors import EXIT_ALREADY_RUNNING, EXIT_FILESET_FAILED, EXIT_NOT_SCHEDULED, MirrorError
from pipeline.mirror.resources.peers import HUNG_SECONDS, Membership, PeerState, StepDone
from pipeline.units import as_size
from tasks.runtime.run import Run, begin_run
from tasks.runtime.task import MirrorTask
from tasks.runtime.worker import MirrorWorker

POLL_SECONDS = 0.3
# So many failures one after the other are more likely a fault of this machine than of the filesets.
FAILURES_IN_A_ROW = 4

log = logging.getLogger(__name__)


class NoCentralScheduler(MirrorError):
    """A worker gets its tasks from the central scheduler of the update."""

    exit_code = EXIT_NOT_SCHEDULED


class PeerRun(Run):
    """One run of a worker that is registered with an update, and does not hold the mirror's lock."""

    membership: Membership

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._reported_bytes = 0
        super().__init__()
        self.context.quota.share(True)

    def _acquire(self) -> None:
        self.membership = Membership(self.context.layout, self._worker, self.context.settings)

    def _start_heartbeat(self) -> None:
        """Do nothing: the thread that watches the update touches the registration."""

    @property
    def update(self) -> str:
        """Identifier of the update that this worker takes part in."""
        return self.membership.notice.run

    @property
    def log_file(self) -> Path:
        """Path of a log of its own: two processes cannot rotate one file."""
        return self.context.layout.worker_log(socket.gethostname())

    def completed(self) -> int:
        """Return how many filesets were completed here or failed here."""
        return self.context.counters.done + self.context.counters.failed

    def report(self, task: str, status: str) -> None:
        """Report a step that was done here to the update."""
        received, self._reported_bytes = (
            self.context.counters.bytes - self._reported_bytes,
            self.context.counters.bytes,
        )
        code = self.code if self.code > EXIT_FILESET_FAILED else 0
        self.membership.report(StepDone(task, status, received, code))

    def finish(self) -> int:
        """Write the summary line, and end the registration; return the exit code."""
        counters = self.context.counters
        if counters.failed:
            self.note(EXIT_FILESET_FAILED)
        log.info(
            "worker: %d filesets completed here, %d failed; %s fetched in %.1f s",
            *(counters.done, counters.failed, as_size(counters.bytes), self.seconds),
        )
        self.membership.leave()
        return self.code


class PeerWorker(MirrorWorker):
    """Luigi's worker for the steps of an update that runs elsewhere.

    To Luigi it is a worker as any other, not an assistant: one of those gets all that a scheduler has, also
    the tasks of other mirrors.
    """

    _run: PeerRun

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._left = threading.Event()
        self._admitted = threading.Event()
        self._ending = threading.Event()
        self._failures = 0
        # The next steps of filesets of which this worker did a step.
        self._following: dict[str, MirrorTask] = {}

    def add(self, task: luigi.Task, multiprocess: bool = False, processes: int = 0) -> bool:
        """Schedule nothing: the update does."""
        return True

    def _begin_run(self) -> PeerRun:
        if not isinstance(self._client, RemoteScheduler):
            raise NoCentralScheduler(
                "--assistant: expected the central scheduler of the update, got a local one. Leave out "
                "--local-scheduler, or name the update's with --scheduler-host; this worker did nothing."
            )
        return begin_run(lambda: PeerRun(self._id))

    def _prepare(self) -> bool:
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        if not self._is_scheduler_of_update():
            return False
        while not (self._admitted.is_set() or self._ending.is_set() or self._run.stopping.is_set()):
            self._admitted.wait(POLL_SECONDS)
        return True

    def _conclude(self) -> None:
        self._left.set()

    def _is_scheduler_of_update(self) -> bool:
        """Return True if the update's worker is known to the scheduler; log an error otherwise."""
        notice = self._run.membership.notice
        if notice.worker in {worker["name"] for worker in self._client.worker_list(include_running=False)}:
            return True
        log.error(
            "expected the scheduler of the update that process %s on %s does, got another. "
            "Name it with --scheduler-host and --scheduler-port; this worker did nothing.",
            *(notice.pid, notice.host),
        )
        self._run.note(EXIT_NOT_SCHEDULED)
        return False

    def _watch(self) -> None:
        """Watch the update. When it is gone, or goes on without this worker, end at once."""
        heard = time.monotonic()
        while not self._left.wait(POLL_SECONDS):
            if time.monotonic() - heard > HUNG_SECONDS:
                self._abandon("it hung too long for the update to count on it")
            try:
                state = self._run.membership.state()
                self._run.membership.beat()
            except OSError:
                continue  # a file system over the network may fail for a while
            heard = time.monotonic()
            if state is PeerState.LOST and not self._left.is_set():
                self._abandon("the update that it takes part in is gone")
            elif state is PeerState.ENDING:
                self._end()
            elif state is PeerState.ADMITTED:
                self._admitted.set()

    def _abandon(self, why: str) -> NoReturn:
        """End as if killed, which is safe at any instant."""
        log.error("this worker ends at once: %s. What it had in progress is taken over.", why)
        os._exit(EXIT_NOT_SCHEDULED if self._admitted.is_set() else EXIT_ALREADY_RUNNING)

    def _end(self) -> None:
        if self._run.membership.notice.stopped and not self._run.stopping.is_set():
            self._run.stop()
        self._ending.set()
        self._run.results.put(None)

    @property
    def _is_finishing(self) -> bool:
        return self._ending.is_set() or super()._is_finishing

    def _is_over(self) -> bool:
        return self._is_finishing and super()._is_over()

    @property
    def _processes(self) -> int:
        return 1 + len(self._run.membership.notice.admitted)

    def _resumable(self) -> list[MirrorTask]:
        return list(self._following.values())

    def _start(self, task: MirrorTask) -> None:
        self._following.pop(task.task_id, None)
        super()._start(task)

    def _report(self, task: MirrorTask, status: str, explanation: str) -> None:
        """Report to the update first: it must not take for lost what the scheduler knows to have failed."""
        self._run.report(task.task_id, status)
        following = task.following
        if status == DONE and following is not None:
            self._following[following.task_id] = following
        failed = status == FAILED and not task.optional
        self._run.context.counters.count(done=status == DONE and following is None, failed=failed)
        self._failures = self._failures + 1 if status == FAILED else 0
        if self._failures == FAILURES_IN_A_ROW:
            log.error("%d filesets failed here, one after the other: this worker ends.", self._failures)
            self._ending.set()
        super()._report(task, status, explanation)

    def _complete(self, task_id: str, status: str) -> None:
        """Forget the task: the scheduler names it again if it is to be done again."""
        self._scheduled_tasks.pop(task_id, None)

    def _resubmit(self) -> None:
        """Forget the next steps that others have done."""
        self._following = {key: task for key, task in self._following.items() if not task.complete()}
