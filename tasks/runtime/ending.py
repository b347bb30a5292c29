"""End of a run: what it leaves behind under the lock, and what follows once the lock is released."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pipeline.errors import EXIT_FILESET_FAILED, MirrorError, machine_fault
from pipeline.mirror.context import RunCounters
from pipeline.mirror.state.markers import is_within, utc_now
from pipeline.reporting.history import RunRecord, append_record
from pipeline.reporting.metrics import write_metrics
from pipeline.reporting.status_files import product_rows, write_status
from tasks.runtime.causes import FirstOfEachCause
from tasks.runtime.log import log_to
from tasks.runtime.notifications import Notifications
from tasks.runtime.page_renewal import PageRenewal
from tasks.runtime.run import Run
from tasks.runtime.summary_line import Ending, fetched

# Numbers of the last line.
Summary = Callable[[RunCounters, Ending], str]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunEnd:
    """End of a run: ``finish`` under the lock; ``conclude`` and ``renew_page`` once the lock is released.

    ``progress_file`` removes the file with the progress. ``page`` is None for a mirror without a page.
    """

    run: Run
    notifications: Notifications
    causes: FirstOfEachCause
    progress_file: ExitStack
    page: PageRenewal | None

    def finish(self, summary: Summary, task: str = "") -> int:
        """Write the status files and the summary line; return the exit code. ``task`` was the first one."""
        run, counters = self.run, self.run.context.counters
        run.progress.begin_ending()
        self._finish_steps()
        if run.has_other_failures:
            # The early end does not explain these failures.
            run.note(EXIT_FILESET_FAILED, "filesets failed for other reasons, too")
        last = run.context.included_steps.required[-1]
        # The line is of filesets: status files that cannot be written do not change it.
        ending = Ending(last.marker, run.stopping.is_set(), run.code)
        self.notifications.end(self._write_status(task))
        self._report_repeated()
        numbers, said = summary(counters, ending), fetched(counters, run.progress.seconds)
        log.info("filesets: %s; %s", numbers, said, extra={"code": run.code})
        return run.code

    def _record(self, task: str, left: int | None) -> RunRecord:
        run, counters = self.run, self.run.context.counters
        return RunRecord(
            start=f"{run.update[:19]}Z",
            end=utc_now(),
            code=run.code,
            filesets=counters.done + counters.sound + counters.repaired + counters.damaged,
            bytes=counters.bytes,
            seconds=round(run.progress.seconds, 1),
            failures=counters.failed + counters.damaged,
            task=task,
            reason=run.reason,
            left=left,
        )

    def _write_status(self, task: str) -> RunRecord:
        """Write the status files, with this run in the history; return its record.

        A file that cannot be written raises the exit code, and keeps back no other one. History and metrics
        have that code too: the row of the history, which is not changed any more, is written after the
        metrics, and these again where it cannot be.
        """
        run, layout, settings = self.run, self.run.context.layout, self.run.context.settings
        steps, left = self.run.context.steps, None
        rows: list[dict[str, Any]] = []
        with self._failure_noted():
            products = sorted({*layout.state_products(), *(run.known_products or [])})
            rows = product_rows(layout, settings, steps, products)
            left = self._left(rows)
            write_status(layout, rows)
        record = self._record(task, left)
        with self._failure_noted():
            write_metrics(layout, settings, steps, rows, record)
        record = in_history = self._noted(record)
        with self._failure_noted():
            # A run that is killed with a row would get a second one by its progress.
            self.progress_file.close()
            append_record(layout, record)
        record = self._noted(record)
        if record != in_history:
            with self._failure_noted():
                write_metrics(layout, settings, steps, rows, record)
        return record

    def _noted(self, record: RunRecord) -> RunRecord:
        """Return the record with what was noted of the run since."""
        return replace(record, code=self.run.code, reason=self.run.reason)

    @contextmanager
    def _failure_noted(self) -> Iterator[None]:
        """Log and note that a status file cannot be written."""
        try:
            yield
        except OSError as error:
            fault = machine_fault("writing the status files", error)
            log.warning("%s", fault)
            self.run.note(EXIT_FILESET_FAILED, str(fault))

    def _left(self, rows: list[dict[str, Any]]) -> int | None:
        """Return how many selected filesets are incomplete; None unless all products were gone through.

        ``rows`` are those of ``product_status.csv``.
        """
        began = timedelta(seconds=self.run.progress.seconds + 1)
        gone_through = {row["product"] for row in rows if is_within(row["last_update"], began)}
        products = self.run.known_products
        if products is None or not gone_through.issuperset(products):
            return None
        counters = self.run.context.counters
        return counters.selected - counters.done - counters.skipped

    def _report_repeated(self) -> None:
        """Log how many failures had a cause that the console has shown once."""
        for sentence in self.causes.repeated():
            log.warning("%s", sentence)

    def _finish_steps(self) -> None:
        for step in self.run.context.included_steps:
            try:
                step.finish(self.run.context)
            except MirrorError as error:
                if not step.optional:
                    self.run.note(error.exit_code)
                log.warning("%s", error)

    def conclude(self, stopping: threading.Event) -> None:
        """Do what steps do after the end of the run, until ``stopping`` is set; the log is opened again."""
        context = self.run.context
        with log_to(context.layout.log_file):
            for step in context.included_steps:
                try:
                    step.conclude(context, stopping)
                except MirrorError as error:
                    log.warning("%s", error)

    def renew_page(self, stopping: threading.Event) -> None:
        """Renew the page after the end of the run, until ``stopping`` is set."""
        if self.page is None:
            return
        run = self.run
        done = run.progress.filesets or run.context.counters.new
        if failure := self.page.after_run(stopping, news=bool(done or run.code or run.last.killed)):
            with log_to(run.context.layout.log_file):
                log.warning("%s", failure)
