"""Coordination of the running update with the workers on other hosts (pipeline/mirror/resources/peers.py)."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from luigi.task_status import PENDING

from pipeline.errors import MachineFault, machine_fault
from pipeline.mirror.resources.peer_files import PeerRegistration, StepDone
from pipeline.mirror.resources.peers import PeerChanges, PeerRegistry
from tasks.runtime.run import Run
from tasks.runtime.schedulers import fail_tasks_of
from tasks.runtime.task import MirrorTask

POLL_SECONDS = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PollPolicy:
    """Polling of peers, in seconds.

    ``failing`` is the time for which their files may be unreadable, as when a file server is restarted.
    """

    pause: float = POLL_SECONDS
    failing: float = 60.0


DEFAULT = PollPolicy()


class NoPeers:
    """Coordination of a run in which no other worker takes part."""

    @property
    def workers(self) -> list[str]:
        """Return no worker."""
        return []

    @property
    def processors(self) -> int:
        """Return 0."""
        return 0

    def poll(self) -> bool:
        """Return False: the peers are unchanged."""
        return False

    def offer(self, task: MirrorTask, added: dict[str, Any]) -> None:
        """Do nothing."""

    def read(self) -> None:
        """Do nothing."""

    def drain(self) -> None:
        """Do nothing."""


class Coordinator(NoPeers):
    """Peers of an update; for use by the thread of its worker.

    ``complete`` is called with the task id and the status of each step that a peer did. Files of the peers
    that cannot be read are read again by the next poll.
    """

    def __init__(
        self,
        run: Run,
        scheduler: Any,
        worker: str,
        complete: Callable[[str, str], None],
        policy: PollPolicy = DEFAULT,
    ) -> None:
        self._run = run
        self._scheduler = scheduler
        self._complete = complete
        self._registry = PeerRegistry(run.context.layout, run.update, worker, run.context.settings)
        self._admitted: list[PeerRegistration] = []
        # Tasks in progress until whose end no peer is admitted.
        self._before_peers: set[str] = set()
        self._poll_at = 0.0
        self._policy = policy
        self._failing_since: float | None = None
        fail_tasks_of(scheduler, run.mirror, lambda worker: worker["name"] in run.last.workers)

    @property
    def workers(self) -> list[str]:
        """Names of the admitted peers in the scheduler."""
        return [peer.worker for peer in self._admitted]

    @property
    def processors(self) -> int:
        """Number of processors of all admitted peers."""
        return sum(peer.processors for peer in self._admitted)

    def poll(self) -> bool:
        """Read the reports of the peers, unless it was done a moment ago, and admit newly registered peers.

        Return True when the admitted peers have changed. Raises MachineFault.
        """
        now = time.monotonic()
        if now < self._poll_at:
            return False
        self._poll_at = now + self._policy.pause
        before = self._admitted
        with self._failing_for_a_while():
            if self._run.stopping.is_set():
                self._registry.end(stopped=True)
            changes = self._changes()
            if exited := {peer.worker for peer in changes.exited}:
                fail_tasks_of(self._scheduler, self._run.mirror, lambda worker: worker["name"] in exited)
            self._admit(changes, newcomers=not self._before_peers)
            self._failing_since = None
        return before != self._admitted

    def offer(self, task: MirrorTask, added: dict[str, Any]) -> None:
        """Add the task for the peers too, if they may do it. ``added`` are the arguments of ``add_task``."""
        pending = added["status"] == PENDING
        if task.before_peers:
            (self._before_peers.add if pending else self._before_peers.discard)(task.task_id)
        if task.for_peers and pending:
            for worker in self.workers:
                self._scheduler.add_task(**added | {"worker": worker})

    def read(self) -> None:
        """Record the steps that peers have reported since the last call. Raises MachineFault."""
        with self._failing_for_a_while():
            self._record(self._registry.reported())

    def drain(self) -> None:
        """Have peers finish the steps in progress, and wait until all have exited, except those that hang."""
        try:
            hanging = self._wait_for_exit()
        except MachineFault as error:
            log.error("%s", error)
            self._run.note(error.exit_code)
            return
        if hanging:
            workers = "1 worker hangs" if hanging == 1 else f"{hanging} workers hang"
            log.warning("%s; this run does not wait, and the next one says more", workers)

    def close(self) -> None:
        """Stop admitting peers."""
        self._registry.close()

    @contextmanager
    def _failing_for_a_while(self) -> Iterator[None]:
        """Leave an OSError in the ``with`` block to the next poll. Raises MachineFault after too long."""
        try:
            yield
        except OSError as error:
            now = time.monotonic()
            if self._failing_since is None:
                self._failing_since = now
                log.warning("files of the workers cannot be read: %s. They are read again.", error)
            elif now - self._failing_since > self._policy.failing:
                raise machine_fault("reading the files of the workers", error) from error

    def _wait_for_exit(self) -> int:
        """Wait until no peer is running; return the number of those that hang. Raises MachineFault."""
        while True:
            with self._failing_for_a_while():
                self._registry.end(stopped=self._run.stopping.is_set())
                changes = self._changes()
                if not changes.running:
                    return changes.hanging
            time.sleep(self._policy.pause)

    def _changes(self) -> PeerChanges:
        changes = self._registry.poll()
        self._record(changes.steps)
        return changes

    def _record(self, steps: list[StepDone]) -> None:
        for step in steps:
            self._run.context.counters.count(received=step.received)
            self._run.note(step.code)
            self._complete(step.task, step.status)

    def _admit(self, changes: PeerChanges, newcomers: bool) -> None:
        """Admit the running peers, as soon as each fileset here keeps to its connections."""
        quota = self._run.context.quota
        quota.share(bool(changes.running or changes.hanging))
        known = [peer for peer in self._admitted if peer in changes.running]
        admitted = changes.running if newcomers and quota.is_kept else known
        if admitted == self._admitted:
            return
        for peer in admitted:
            if peer not in self._admitted:
                log.info("%s takes part", peer)
        for peer in self._admitted:
            if peer not in admitted:
                log.info("%s does not take part any more", peer)
        self._registry.admit(admitted)
        self._admitted = admitted
        self._scheduler.update_resources(**self._run.resources(self.processors))
