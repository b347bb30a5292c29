"""One run of the program while it works: what its tasks share, its exit code, and how it stops."""

import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import luigi

from pipeline.datastore.client import ListingClient
from pipeline.datastore.listing import LeftOut
from pipeline.errors import (
    EXIT_FILESET_FAILED,
    EXIT_NOT_SCHEDULED,
    EXIT_STOPPED,
    HostileName,
    MirrorError,
)
from pipeline.mirror.context import Report, RunContext
from pipeline.mirror.resources.volumes import volume_of
from pipeline.mirror.state.operands import check_products
from pipeline.mirror.state.root_format import short_id
from pipeline.names import checked_segment
from tasks.runtime.errors import DiskFull, Stopped, VolumeFull, as_mirror_error
from tasks.runtime.outage import OutageWatch, server_answers
from tasks.runtime.processes import (
    UNPACKED_AT_ONCE,
    UNPACKED_PER_CORE,
    Processes,
    ProcessLost,
    Work,
    get_listing,
)
from tasks.runtime.progress import Progress
from tasks.runtime.takeover import LastRun
from tasks.runtime.wanted_watch import WantedWatch
from tasks.runtime.window import TaskWindow

log = logging.getLogger(__name__)


class Run:
    """State that the tasks of one run share while it works (``opening.py`` and ``ending.py`` do the rest).

    ``update`` identifies the update that the run is, or takes part in. ``processes`` are those that fetch and
    those that unpack. ``last`` is the run before this one; a worker of an update knows none.
    """

    def __init__(
        self,
        update: str,
        context: RunContext,
        progress: Progress,
        processes: tuple[Processes, Processes],
        stopping: threading.Event,
        last: LastRun,
    ) -> None:
        self.update = update
        self.code = 0
        # First message of those with the highest code.
        self.reason = ""
        self.stopping = stopping
        self.last = last
        self.progress = progress
        # Results of tasks, for the worker; None wakes the worker. Safe for use in a signal handler.
        self.results: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        # Stands for the mirror in the tasks and the resources of Luigi's scheduler.
        self.mirror = short_id(context.layout)
        self._fetching, self._unpacking = processes
        self.context = replace(context, listings=self._listings(context))
        # More tasks than slots, so that no slot waits for the next task.
        self.window = TaskWindow(2 * self.slots, self._end_task)
        self.wanted = WantedWatch(context.layout)
        self._products: list[str] | None = None
        self._ended_by: Stopped | None = None
        self._outages = OutageWatch(
            lambda: context.counters.bytes,
            lambda product: server_answers(self.context, product),
            lambda product: volume_of(context.layout, context.settings, product),
        )

    def _listings(self, context: RunContext) -> ListingClient:
        """Return a client of listings that are fetched in the process with the connections."""
        upstream = context.upstream
        return ListingClient(
            upstream.url, lambda url: self.do("connections", get_listing, url), upstream.retry_policy
        )

    @property
    def slots(self) -> int:
        """Number of concurrent steps: one for each connection and each extraction."""
        return self.context.settings.source.connections + UNPACKED_AT_ONCE

    def resources(self, processors_elsewhere: int = 0) -> dict[str, int]:
        """Return the resources that Luigi's scheduler divides among the tasks of all workers."""
        unpackers = UNPACKED_AT_ONCE + UNPACKED_PER_CORE * processors_elsewhere
        connections = self.context.settings.source.connections
        return resources_of(self.mirror, {"connections": connections, "unpackers": unpackers})

    def fair_share(self, processes: int) -> int:
        """Return the number of connections of this process when that many processes take part."""
        return -(-self.context.settings.source.connections // processes)

    def products(self, only: tuple[str, ...] = ()) -> list[str]:
        """Return the products to update, placed on their volumes.

        Raises SettingsError when ``only`` names another one, or one cannot be placed.
        """
        if self._products is None:
            left_out = LeftOut()
            settings = self.context.settings
            if settings.mirror.products is None:
                self.progress.wait_for(f"fetching the list of products from {settings.source.url}")
            products = [name for name in self.context.products(left_out) if self._is_usable(name)]
            # Under the lock, and before the first task of a product.
            self.context.place(products)
            self._products = products
            self.report_left_out(left_out)
        check_products(only, self._products, self.context.settings, "Nothing was started.")
        return list(only) or self._products

    @property
    def known_products(self) -> list[str] | None:
        """All products to update; None before they were asked for."""
        return self._products

    def report_left_out(self, left_out: LeftOut) -> None:
        """Log the rows that were left out of a listing; a damaged one counts as a fileset that failed."""
        for message in left_out.messages():
            log.warning("%s", message)
        if left_out.damaged:
            self.note(EXIT_FILESET_FAILED)

    def _is_usable(self, product: str) -> bool:
        """Return True if the product's name can be a path; log and note the failure of another one."""
        try:
            checked_segment(product, "product that the root lists")
        except HostileName as error:
            log.error("%s. The product is left out.", error)
            self.note(EXIT_FILESET_FAILED)
            return False
        return True

    def submit(self, tasks: Iterator[luigi.Task]) -> None:
        """Run the tasks in the worker; wait until each is done or has failed, or until the run stops."""
        submission = self.window.submit(tasks)
        self.results.put(None)
        submission.wait()

    def do(self, resource: str, work: Work, argument: Any, report: Report = lambda _: None) -> Any:
        """Do the work in one of the processes that have the resource. Raises MirrorError.

        The loss of a process stops the run.
        """
        processes = self._fetching if resource == "connections" else self._unpacking
        try:
            return processes.do(work, argument, report)
        except ProcessLost:
            self.note(EXIT_FILESET_FAILED, "a process of this run was killed")
            self._stop_processes()
            raise

    def count_step(self, product: str, error: MirrorError | None, *, asked: bool) -> None:
        """Count a required step that was done, or failed; ``asked`` is True if the step asks the server.

        Too many failures in a row end the run, or the work on the products of a volume that is full.
        """
        if error is None:
            self._outages.succeeded(product, asked=asked)
        elif reason := self._outages.failed(error, product, asked=asked):
            if isinstance(reason, VolumeFull):
                log.error("%s", reason)
                self.note(reason.exit_code, str(reason))
            else:
                self._end_early(reason)

    def is_full(self, product: str) -> bool:
        """Return True if the product lies on a volume without disk space: no more of it is started."""
        return self._outages.is_full(product)

    def _end_early(self, reason: Stopped) -> None:
        """Stop the run, as all filesets that are left would fail."""
        # The reason alone stays in the history, where the run has ended.
        log.error("%s This run ends after what is in progress.", reason)
        self._ended_by = reason
        self.note(reason.exit_code, str(reason))
        self._stop_processes()

    def _end_task(self, task: Any) -> None:
        """Note that a task that was submitted is done or has failed."""
        if task.of_fileset:
            self.progress.end_fileset(*task.of_fileset)

    @property
    def is_out_of_space(self) -> bool:
        """True for a run that ends early for want of disk space."""
        return isinstance(self._ended_by, DiskFull)

    @property
    def has_other_failures(self) -> bool:
        """True for a run that ended early although filesets failed for other reasons than its end, too."""
        return self._ended_by is not None and self._outages.others_failed

    def refuse_when_stopping(self) -> None:
        """Raise Stopped, or the reason for an early end, when the run stops before all is done."""
        if self.stopping.is_set():
            raise self._ended_by or Stopped("stopped on request; the next run goes on from here")

    def note(self, code: int, reason: str = "") -> None:
        """Raise the exit code of the run to at least ``code``, for the ``reason``."""
        if code > self.code:
            self.code, self.reason = code, reason

    def stop(self) -> None:
        """Stop the run on request: steps in progress are finished, and no others started."""
        self.note(EXIT_STOPPED, "stopped on request")
        self._stop_processes()

    def lose_scheduler(self, error: Exception) -> None:
        """Stop the run, as the scheduler is lost."""
        reason = f"no valid response from Luigi's scheduler: {error}. The next run goes on from here."
        log.error("%s", reason)
        self.note(EXIT_NOT_SCHEDULED, reason)
        self._stop_processes()

    def refuse(self, error: MirrorError) -> None:
        """End the run before its first task, with the exit code of the error."""
        log.error("%s", error, extra={"code": error.exit_code})
        self.note(error.exit_code, str(error))

    def abort(self, error: Exception) -> None:
        """Stop the run, as the worker itself failed."""
        reason = as_mirror_error(error)
        log.error("%s", reason)
        self.note(reason.exit_code, str(reason))
        self._stop_processes()

    def _stop_processes(self) -> None:
        self.stopping.set()
        self.progress.begin_ending()
        self._fetching.stop()
        self._unpacking.stop()
        self.results.put(None)


def resources_of(mirror: str, amounts: dict[str, int]) -> dict[str, int]:
    """Return the amounts under the names that the resources of this mirror have for Luigi's scheduler."""
    return {f"{name}-{mirror}": amount for name, amount in amounts.items()}
