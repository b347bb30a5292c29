"""Run of a worker that takes part in an update of another process."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pipeline.config import read_settings
from pipeline.errors import EXIT_FILESET_FAILED, machine_faults
from pipeline.mirror.context import open_context
from pipeline.mirror.resources.membership import Membership, update_to_join
from pipeline.mirror.resources.peer_files import StepDone
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_note import check_root
from pipeline.units import as_count
from tasks.mirror_config import settings_file
from tasks.runtime.causes import FirstOfEachCause
from tasks.runtime.current import begin_run
from tasks.runtime.opening import shown_and_logged, started_processes
from tasks.runtime.progress import Progress
from tasks.runtime.run import Run
from tasks.runtime.summary_line import fetched
from tasks.runtime.takeover import LastRun
from tasks.steps import STEPS

log = logging.getLogger(__name__)


class PeerRun(Run):
    """Run of a worker that is registered with an update, and does not hold the mirror's lock.

    What precedes and follows the steps, such as the status files and the page, is left to the update.
    """

    def __init__(self, membership: Membership, causes: FirstOfEachCause, *opened: Any) -> None:
        super().__init__(membership.notice.run, *opened)
        self.membership = membership
        self._causes = causes
        self._reported_bytes = 0

    def report(self, task: str, status: str) -> None:
        """Report to the update a step that was done in this process."""
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
        for sentence in self._causes.repeated():
            log.warning("%s", sentence)
        log.info(
            "worker: %s completed here, %d failed; %s",
            *(as_count(counters.done, "fileset"), counters.failed, fetched(counters, self.progress.seconds)),
            extra={"code": self.code},
        )
        self.membership.leave()
        return self.code


@contextmanager
def open_peer_run(worker: str) -> Iterator[PeerRun]:
    """Open the run of this process, registered with the update that runs; ``worker`` is its Luigi worker.

    Raises SettingsError, MachineFault or NoUpdateToJoin.
    """
    config, stopping = settings_file(), threading.Event()
    settings = read_settings(config)
    check_root(config, settings)
    # First, so that nothing is made where no mirror is.
    update_to_join(Layout(settings.mirror.root))
    with ExitStack() as stack:
        context = stack.enter_context(open_context(config, STEPS, stopping.wait, stopping))
        layout, progress = context.layout, Progress(context.layout, context.counters)
        with machine_faults(f"registering with the update of the mirror at {layout.root}"):
            membership = Membership(layout, worker, context.settings)
            processes = stack.enter_context(started_processes(context, stopping))
        # A log of its own: two processes cannot rotate one file.
        log_file = layout.worker_log(socket.gethostname())
        causes = stack.enter_context(shown_and_logged(config, context, progress, log_file))
        run = PeerRun(membership, causes, context, progress, processes, stopping, LastRun())
        context.quota.share(True)
        begin_run(run)
        yield run
