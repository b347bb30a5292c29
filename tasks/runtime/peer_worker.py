"""Worker for an update that runs in another process: ``luigi --module tasks UpdateMirror --assistant``.

A peer does steps of filesets that the update has added to the scheduler, and nothing else: the update alone
fetches listings, submits filesets and determines the outcome of the run.
"""

import logging
import os
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

import luigi
from luigi.rpc import RemoteScheduler
from luigi.task_status import DONE, FAILED

from pipeline.errors import EXIT_ALREADY_RUNNING, EXIT_NOT_SCHEDULED, MirrorError
from pipeline.mirror.resources.membership import PeerState
from pipeline.mirror.resources.peer_files import HUNG_SECONDS
from tasks.runtime.peer_run import PeerRun, open_peer_run
from tasks.runtime.signals import restore_terminal
from tasks.runtime.task import MirrorTask
from tasks.runtime.worker import ThreadWorker

POLL_SECONDS = 0.3
# So many consecutive failures are more likely a fault of this machine than of the filesets.
FAILURES_IN_A_ROW = 4

log = logging.getLogger(__name__)


class NoCentralScheduler(MirrorError):
    """No central scheduler, from which a peer gets the tasks of its update."""

    exit_code = EXIT_NOT_SCHEDULED


class PeerWorker(ThreadWorker):
    """Luigi's worker for the steps of an update that runs in another process.

    For Luigi's scheduler a peer is an ordinary worker: an assistant in the sense of Luigi would also get the
    tasks of other mirrors.
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
        """Schedule nothing, which is left to the update."""
        return True

    def _open_run(self) -> PeerRun:
        if not isinstance(self._client, RemoteScheduler):
            raise NoCentralScheduler(
                "--assistant: expected the central scheduler of the update, got a local one. Leave out "
                "--local-scheduler, or name the update's with --scheduler-host; this worker did nothing."
            )
        return self._open.enter_context(open_peer_run(self._id))

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
        """Return True if the scheduler lists the update's worker; log an error otherwise."""
        notice = self._run.membership.notice
        if notice.worker in {worker["name"] for worker in self._client.worker_list(include_running=False)}:
            return True
        log.error(
            "expected the scheduler of the update of process %s on %s, got another. "
            "Name it with --scheduler-host and --scheduler-port; this worker did nothing.",
            *(notice.pid, notice.host),
        )
        self._run.note(EXIT_NOT_SCHEDULED)
        return False

    def _watch(self) -> None:
        """Poll the state of this peer; exit at once when the update is gone or continues without it."""
        checked = time.monotonic()
        while not self._left.wait(POLL_SECONDS):
            if time.monotonic() - checked > HUNG_SECONDS:
                self._abort("it was suspended for too long, and the update continues without it")
            try:
                state = self._run.membership.state()
                self._run.membership.beat()
            except OSError:
                continue  # a file system over the network may fail for a while
            checked = time.monotonic()
            if state is PeerState.LOST and not self._left.is_set():
                self._abort("the update that it takes part in is gone")
            elif state is PeerState.ENDING:
                self._end()
            elif state is PeerState.ADMITTED:
                self._admitted.set()

    def _abort(self, why: str) -> NoReturn:
        """Exit as if killed, which is safe at any instant."""
        log.error("this worker ends at once: %s. Others take over the filesets in progress.", why)
        restore_terminal()
        os._exit(EXIT_NOT_SCHEDULED if self._admitted.is_set() else EXIT_ALREADY_RUNNING)

    def _end(self) -> None:
        if self._run.membership.notice.stopped and not self._run.stopping.is_set():
            self._run.stop()
        self._ending.set()
        self._run.results.put(None)

    def _finish(self) -> int:
        return self._run.finish()

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
        """Report to the update first: a reported failure does not count as lost."""
        self._run.report(task.task_id, status)
        following = task.following
        if status == DONE and following is not None:
            self._following[following.task_id] = following
        failed = status == FAILED and not task.optional
        complete = not failed and (following is None or status == FAILED)
        self._run.context.counters.count(done=complete, failed=failed)
        self._failures = self._failures + 1 if failed else 0
        if self._failures == FAILURES_IN_A_ROW:
            log.error("%d filesets in a row failed here: this worker ends.", self._failures)
            self._ending.set()
        super()._report(task, status, explanation)

    def _complete(self, task_id: str, status: str) -> None:
        """Forget the task; the scheduler hands it out again if necessary."""
        if task := self._scheduled_tasks.pop(task_id, None):
            self._run.progress.complete(task, status == FAILED)

    def _poll(self) -> None:
        """Forget the next steps that other workers have done, after a while without a task."""
        if self._run.stopping.is_set() or not self._is_quiet:
            return
        self._expect_tasks()
        # Markers over the network may be unreadable for a while: such a step is looked at again.
        with suppress(OSError):
            self._following = {key: task for key, task in self._following.items() if not task.complete()}
