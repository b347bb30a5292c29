"""One run of the program: its context, its lock, its log, and its exit code."""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import luigi

from pipeline.datastore.client import ListingClient, UnknownFileset
from pipeline.datastore.listing import LeftOut
from pipeline.errors import (
    EXIT_FILESET_FAILED,
    EXIT_NOT_SCHEDULED,
    EXIT_STOPPED,
    HostileName,
    MirrorError,
    ServerUnavailable,
    machine_fault,
    machine_faults,
)
from pipeline.mirror.context import Report, RunContext, RunCounters, open_context
from pipeline.mirror.resources.file_systems import log_missing_flush
from pipeline.mirror.resources.peers import wait_for_exit
from pipeline.mirror.resources.update_lock import heartbeat, record_products, update_lock
from pipeline.mirror.resources.volumes import product_folder
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset, is_within, utc_now
from pipeline.mirror.state.operands import check_products
from pipeline.mirror.state.owner_records import restore_owner_records
from pipeline.mirror.state.root_format import record_root_format, short_id
from pipeline.mirror.state.root_note import write_note
from pipeline.mirror.state.steps import StepSpec
from pipeline.mirror.steps.housekeeping import remove_half_written
from pipeline.names import checked_segment, escaped
from pipeline.reporting.history import RunRecord, append_record
from pipeline.reporting.metrics import write_metrics
from pipeline.reporting.progress import run_so_far
from pipeline.reporting.status import write_status
from tasks.mirror_config import NONE, settings_file
from tasks.runtime.console import is_silent
from tasks.runtime.display import display_kind, progress_displayed, progress_in_file
from tasks.runtime.errors import DiskFull, Stopped, VolumeFull, as_mirror_error
from tasks.runtime.log import log_beginning, log_to
from tasks.runtime.notices import Notices
from tasks.runtime.outage import OutageWatch
from tasks.runtime.page import PageRenewal
from tasks.runtime.processes import (
    UNPACKED_AT_ONCE,
    UNPACKED_PER_CORE,
    do_step,
    get_listing,
    step_processes,
)
from tasks.runtime.progress import Progress
from tasks.runtime.summary import Ending, fetched
from tasks.runtime.wanted_watch import WantedWatch
from tasks.runtime.window import TaskWindow
from tasks.steps import STEPS

# Start of this process: identifies its run.
STARTED = datetime.now(UTC).isoformat().replace("+00:00", "Z")

# Numbers of the last line.
Summary = Callable[[RunCounters, Ending], str]
T = TypeVar("T")
log = logging.getLogger(__name__)


class Run:
    """State that the tasks of one run share, from ``begin_run`` to ``end``.

    Raises SettingsError, MachineFault or AlreadyRunning.
    """

    def __init__(self) -> None:
        self.code = 0
        # First message of those with the highest code.
        self.reason = ""
        self.stopping = threading.Event()
        # Results of tasks, for the worker; None wakes the worker. Safe for use in a signal handler.
        self.results: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        # Workers of an update that was killed, by the names that Luigi's scheduler has for them.
        self.left_behind: list[str] = []
        self._began = time.monotonic()
        self._products: list[str] | None = None
        self._config = settings_file()
        self._ended_by: Stopped | None = None
        self._outages = OutageWatch(
            lambda: self.context.counters.bytes, self._server_answers, self._volume_of
        )
        self._open = ExitStack()
        # The file with the progress, until the run has its row in the history.
        self._progress_file = self._open.enter_context(ExitStack())
        # Why a run that was killed has no row there.
        self._not_recorded: MirrorError | None = None
        try:
            self.context: RunContext = self._open.enter_context(
                open_context(self._config, STEPS, self._pause, self.stopping)
            )
            # More tasks than slots, so that no slot waits for the next task.
            self.window = TaskWindow(2 * self.slots, self._end_task)
            self.wanted = WantedWatch(self.context.layout)
            with machine_faults(f"acquiring the lock of the mirror at {self.context.layout.root}"):
                self._acquire()
                self._start_processes()
            self.context = replace(self.context, listings=self._listings())
            self.notices = Notices(self.context)
            self.progress = Progress(self.context.layout, self.context.counters)
            kind = display_kind()
            self._open.enter_context(progress_displayed(self.progress, kind))
            self._start_progress_file()
            self._page = self._start_page()
            self._causes = self._open.enter_context(log_to(self.log_file, each_failure=kind != NONE))
            log_beginning(self._config, self.context.settings)
            if self._not_recorded:
                log.warning("%s", self._not_recorded)
            log_missing_flush(self.context.layout)
            self._restore_records()
            self._write_note()
            self._prepare_steps()
        except BaseException:
            self._open.close()
            raise

    def _start_processes(self) -> None:
        """Fork the processes that do the steps, then start the threads of this one."""
        # Stands for the mirror in the tasks and the resources of Luigi's scheduler.
        self.mirror = short_id(self.context.layout)
        for step in self.context.wanted_steps:
            step.load(self.context)
        processes = step_processes(self.context, self.stopping, self.lose_process)
        self.fetching, self.unpacking = self._open.enter_context(processes)
        self._start_heartbeat()

    def _pause(self, seconds: float) -> None:
        """Wait before another try, or until the run stops."""
        self.stopping.wait(seconds)

    def _listings(self) -> ListingClient:
        """Return a client of listings that are fetched in the process with the connections."""
        upstream = self.context.upstream
        return ListingClient(
            upstream.url, lambda url: self.fetching.do(get_listing, url), upstream.retry_policy
        )

    def _acquire(self) -> None:
        """Acquire the lock of the mirror, and remove the leftovers of a killed update."""
        # Host and process of the last update if it was killed: none of its tasks is running.
        self.killed = self._open.enter_context(update_lock(self.context.layout))
        self.left_behind = wait_for_exit(self.context.layout)
        remove_half_written(self.context.layout)
        record_root_format(self.context.layout)
        self._record_killed()
        # Links that were deleted with what was in progress.
        self.context.place(self.context.layout.products_on_volumes())

    def record_products(self, products: Sequence[str]) -> None:
        """Record, for ``get``, the products of which this run fetches what comes to be wanted."""
        record_products(self.context.layout, products)

    def _record_killed(self) -> None:
        """Add the row of a run that was killed to the history.

        That is before anything that may fail, as this run is then the last holder of the lock, and before
        the progress of that run is replaced.
        """
        layout, pid, since = self.context.layout, self.killed.get("pid"), self.killed.get("since")
        if not isinstance(pid, int) or not isinstance(since, str):
            return
        try:
            if record := run_so_far(layout, pid, since):
                append_record(layout, record)
        except OSError as error:
            # The log is not open yet.
            self._not_recorded = machine_fault("adding the run that was killed to the history", error)

    def _write_note(self) -> None:
        """Note the id of the mirror beside the settings."""
        write_note(self._config, self.context.layout)

    def _start_heartbeat(self) -> None:
        """Start the heartbeat of the lock, after all processes are forked."""
        self._open.enter_context(heartbeat(self.context.layout))

    def _start_progress_file(self) -> None:
        """Have the progress written into the file for ``status``, after all processes are forked."""
        self._progress_file.enter_context(progress_in_file(self.progress))

    def _start_page(self) -> PageRenewal | None:
        """Have the page renewed while the run works, after all processes are forked."""
        if not self.context.settings.mirror.page:
            return None
        page = PageRenewal(self._config, self.context.layout, self.progress.knows_filesets)
        self._open.enter_context(page.while_running())
        return page

    def _restore_records(self) -> None:
        """Make the owner records complete: before any step, and after the heartbeat began."""
        with machine_faults(f"recording the owners of the files in {self.context.layout.data}"):
            restore_owner_records(self.context.layout)

    def _prepare_steps(self) -> None:
        """Prepare the steps that the settings ask for; leave out an optional one that cannot be done."""
        for step in self.context.wanted_steps:
            try:
                step.prepare(self.context)
            except MirrorError as error:
                if not step.optional:
                    raise
                log.warning("%s", error)
                self.context = replace(self.context, left_out=self.context.left_out | {step.name})

    def _finish_steps(self) -> None:
        for step in self.context.wanted_steps:
            try:
                step.finish(self.context)
            except MirrorError as error:
                if not step.optional:
                    self.note(error.exit_code)
                log.warning("%s", error)

    @property
    def update(self) -> str:
        """Identifier of the update."""
        return STARTED

    @property
    def log_file(self) -> Path:
        """Path of the log."""
        return self.context.layout.log_file

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
                self.progress.before = f"fetching the list of products from {settings.source.url}"
            products = [name for name in self.context.products(left_out) if self._is_usable(name)]
            # Under the lock, and before the first task of a product.
            self.context.place(products)
            self._products = products
            self.report_left_out(left_out)
        check_products(only, self._products, self.context.settings, "Nothing was started.")
        return list(only) or self._products

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
        submission = self.window.open(tasks)
        self.results.put(None)
        submission.wait()

    def do_step(self, resource: str, step: StepSpec, fileset: Fileset, report: Report) -> None:
        """Do a step in one of the processes that have the resource. Raises MirrorError."""
        processes = self.fetching if resource == "connections" else self.unpacking
        processes.do(do_step, (step.name, fileset), report)

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

    def _volume_of(self, product: str) -> Path | None:
        folder = product_folder(self.context.layout, self.context.settings, product)
        return folder and folder.parent

    def _server_answers(self, product: str) -> bool:
        """Return True if the server sends a valid listing of the product."""
        last = LocalListing(self.context.layout, product).last(1)
        since = last[0].name if last else None
        try:
            self.context.listings.filesets(product, since)
        except UnknownFileset:
            return True
        except ServerUnavailable:
            return False
        return True

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

    def lose_process(self) -> None:
        """Stop the run, as one of its processes was killed."""
        self.note(EXIT_FILESET_FAILED, "a process of this run was killed")
        self._stop_processes()

    def _stop_processes(self) -> None:
        self.stopping.set()
        self.progress.is_ending = True
        self.fetching.stop()
        self.unpacking.stop()
        self.results.put(None)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def finish(self, summary: Summary, task: str = "") -> int:
        """Write the status files and the summary line; return the exit code. ``task`` was the first one."""
        self.progress.is_ending = True
        self._finish_steps()
        if self._ended_by and self._outages.others_failed:
            # The early end does not explain these failures.
            self.note(EXIT_FILESET_FAILED, "filesets failed for other reasons, too")
        last = self.context.wanted_steps.required[-1]
        # The line is of filesets: status files that cannot be written do not change it.
        ending = Ending(last.marker, self.stopping.is_set(), self.code)
        record = self._record(task)
        try:
            record = self._write_status(record)
        except OSError as error:
            self.note(EXIT_FILESET_FAILED)
            log.warning("%s", machine_fault("writing the status files", error))
        self.notices.end(record)
        self._report_repeated()
        numbers, said = summary(self.context.counters, ending), fetched(self.context.counters, self.seconds)
        log.info("filesets: %s; %s", numbers, said, extra={"code": self.code})
        return self.code

    def _record(self, task: str) -> RunRecord:
        counters = self.context.counters
        return RunRecord(
            start=f"{self.update[:19]}Z",
            end=utc_now(),
            code=self.code,
            filesets=counters.done + counters.sound + counters.repaired + counters.damaged,
            bytes=counters.bytes,
            seconds=round(self.seconds, 1),
            failures=counters.failed + counters.damaged,
            task=task,
            reason=self.reason,
        )

    def _write_status(self, record: RunRecord) -> RunRecord:
        """Write the status files, with this run in the history; return it as it is there. Raises OSError."""
        context = self.context
        products = sorted({*context.layout.state_products(), *(self._products or [])})
        rows = write_status(context.layout, context.settings, context.steps, products)
        record = replace(record, left=self._left(rows))
        # A run that is killed with a row would get a second one by its progress.
        self._progress_file.close()
        append_record(context.layout, record)
        write_metrics(context.layout, context.settings, context.steps, rows)
        return record

    def _left(self, rows: list[dict[str, Any]]) -> int | None:
        """Return how many selected filesets are incomplete; None unless all products were gone through.

        ``rows`` are those of ``product_status.csv``.
        """
        began = timedelta(seconds=self.seconds + 1)
        gone_through = {row["product"] for row in rows if is_within(row["last_update"], began)}
        if self._products is None or not gone_through.issuperset(self._products):
            return None
        counters = self.context.counters
        return counters.selected - counters.done - counters.skipped

    def _report_repeated(self) -> None:
        """Log how many failures had a cause that the console has shown once."""
        for sentence in self._causes.repeated():
            log.warning("%s", sentence)

    def conclude(self, stopping: threading.Event) -> None:
        """Do what steps do after the end of the run, until ``stopping`` is set; the log is opened again."""
        with log_to(self.log_file):
            for step in self.context.wanted_steps:
                try:
                    step.conclude(self.context, stopping)
                except MirrorError as error:
                    log.warning("%s", error)

    def renew_page(self, stopping: threading.Event) -> None:
        """Renew the page after the end of the run, until ``stopping`` is set."""
        if self._page is None:
            return
        done = self.progress.filesets or self.context.counters.new
        if failure := self._page.after_run(stopping, news=bool(done or self.code or self.killed)):
            with log_to(self.log_file):
                log.warning("%s", failure)

    def end(self) -> None:
        """Release the lock, the connections, the processes and the log."""
        self._open.close()


_runs: list[Run] = []
R = TypeVar("R", bound=Run)


def begin_run(kind: Callable[[], R]) -> R:
    """Open the run of this process. Raises SettingsError, MachineFault or AlreadyRunning."""
    run = kind()
    _runs[:] = [run]
    return run


def current_run() -> Run:
    """Return the run of this process."""
    return _runs[0]


def run_if_begun() -> Run | None:
    """Return the run of this process; None when none has started."""
    return _runs[0] if _runs else None


def current_mirror() -> str:
    """Return the short id of the mirror of this process; empty before its run has begun."""
    return _runs[0].mirror if _runs else ""


def resources_of(mirror: str, amounts: dict[str, int]) -> dict[str, int]:
    """Return the amounts under the names that the resources of this mirror have for Luigi's scheduler."""
    return {f"{name}-{mirror}": amount for name, amount in amounts.items()}


def or_exit(begin: Callable[[], T]) -> T:
    """Return the result of ``begin``; a MirrorError ends the program with its message.

    The exit code is that of the error, or that of the run if it is higher, as after a request to stop.
    """
    try:
        return begin()
    except MirrorError as error:
        code = max([error.exit_code, *(run.code for run in _runs)])
        if not is_silent(code):
            print(escaped(f"ipp-mirror: {error}", but="\n"), file=sys.stderr)
        raise SystemExit(code) from None
