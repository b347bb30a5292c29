"""The steps of one fileset as tasks: for each step, its task and the resource that it takes."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import luigi
from luigi.rpc import RPCError

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import EXIT_SETTINGS_OR_BUG, SettingsError, machine_fault
from pipeline.mirror.state.failures import clear_failure, has_failed, record_failure
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.steps.download import Download, is_stored
from pipeline.mirror.steps.extract import Extraction
from tasks.runtime.errors import Bug, FailedAlready, as_mirror_error
from tasks.runtime.processes import do_step
from tasks.runtime.run import current_run
from tasks.runtime.task import MirrorTask
from tasks.targets import StepMarker

# How long a step waits for another process that has the same fileset in progress, and may hang.
LOCK_WAIT_SECONDS = 60.0

log = logging.getLogger(__name__)


class FilesetTask(MirrorTask):
    """One step of one fileset. ``registered`` identifies its registration."""

    product = luigi.Parameter()
    fileset = luigi.Parameter()
    registered = luigi.Parameter(default="", significant=False)
    position = luigi.IntParameter(default=0, significant=False)

    @property
    def priority(self) -> int:  # type: ignore[override]
        """Oldest first."""
        return -int(self.position)

    @property
    def subject(self) -> str:
        """The beginning of each message about a failure of the task."""
        return f"fileset {self.product}/{self.fileset}"

    @property
    def identity(self) -> Fileset:
        """The fileset as the library knows it; without ``registered``, the listing's registration."""
        if self.registered:
            return Fileset(self.product, self.fileset, self.registered)
        for known in LocalListing(self.layout, self.product).registrations():
            if known.name == self.fileset:
                return Fileset(self.product, self.fileset, known.registered)
        raise SettingsError(
            f"fileset {self.product}/{self.fileset}: expected one that the product's listing here names, "
            "it does not. Run UpdateMirror first, or correct the name."
        )

    def report(self, message: str, share: float) -> None:
        """Show the progress on the scheduler's page, if the scheduler answers."""
        with contextlib.suppress(RPCError):
            # Luigi sets both for the time of a run.
            self.set_status_message(message)  # type: ignore[misc]
            self.set_progress_percentage(int(100 * share))  # type: ignore[misc]


class StepTask(FilesetTask):
    """A step that leaves a marker, and a failure record when it fails."""

    step: MarkerKind
    for_peers = True
    _recorded = False

    def output(self) -> StepMarker:
        """Return the marker of this step."""
        return StepMarker(self.layout, self.step, self.identity)

    def run(self) -> None:
        """Do the step; after the last one, remove the failure record.

        A scheduler gives the step of a worker that is silent, and may only be slow, to a second one: the
        second one waits for the lock, and finds the step done or failed.
        """
        with self.site.fileset_locks.held([str(self.identity)], self.subject, LOCK_WAIT_SECONDS):
            if self.complete():
                return
            if has_failed(self.layout, self.identity, current_run().update):
                raise FailedAlready(f"{self.subject}: failed in this update. The next one tries again.")
            try:
                self.do()
            except Exception as error:
                self._record(error)
                raise
        if fresh_marker(self.layout, current_run().last_step, self.identity):
            clear_failure(self.layout, self.identity)

    def _record(self, exception: Exception) -> None:
        """Write the failure record, for the next run, for status, and for a second worker of this update."""
        self._recorded = True
        every_run = self.site.settings.mirror.retry_every_run
        error, run = as_mirror_error(exception), current_run().update
        try:
            record_failure(self.layout, self.identity, error, run, every_run)
        except OSError as trouble:
            log.warning("%s", machine_fault(f"{self.subject}: recording its failure", trouble))

    def do(self) -> None:
        """Do the step. Raises a MirrorError."""
        raise NotImplementedError

    def on_failure(self, exception: BaseException) -> str:
        """Record and log the failure, unless another worker did."""
        error = as_mirror_error(exception)
        if isinstance(error, FailedAlready):
            return str(error)
        if not self._recorded:
            self._record(error)
        return self.report_failure(error, EXIT_SETTINGS_OR_BUG if isinstance(error, Bug) else 0)


class DownloadFileset(StepTask):
    """Every file of the fileset in ``store/``, sizes and md5 verified."""

    step = MarkerKind.DOWNLOADED
    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)

    def complete(self) -> bool:
        """Return True if the marker says so, and the files are in ``store/`` or unpacked."""
        if not super().complete():
            return False
        extracted = fresh_marker(self.layout, MarkerKind.EXTRACTED, self.identity) is not None
        return extracted or is_stored(self.layout, self.identity)

    @property
    def following(self) -> StepTask | None:
        """The unpacking, if the settings want it."""
        return ExtractFileset(**self.param_kwargs) if last_task() is ExtractFileset else None

    def do(self) -> None:
        """Fetch, verify, publish, mark."""
        current_run().fetching.do(do_step, (Download, self.identity), self.report)


class ExtractFileset(StepTask):
    """Every bundle of the fileset unpacked into ``data/``, as its dirinfo says."""

    step = MarkerKind.EXTRACTED
    resources = {"unpackers": 1}  # noqa: RUF012  (Luigi reads a plain attribute)

    def requires(self) -> DownloadFileset:
        """Return the download of the fileset."""
        return self._download

    @cached_property
    def _download(self) -> DownloadFileset:
        # Luigi asks for it several times, and to create a task takes long.
        return DownloadFileset(**self.param_kwargs)

    def do(self) -> None:
        """Unpack, localize, mark."""
        current_run().unpacking.do(do_step, (Extraction, self.identity), self.report)


def last_task() -> type[StepTask]:
    """Return the step after which a fileset is complete."""
    return ExtractFileset if current_run().last_step is MarkerKind.EXTRACTED else DownloadFileset


def missing_steps(layout: Layout, product: str, rows: Sequence[FilesetRow]) -> Iterator[StepTask]:
    """Return for each row the task that completes its fileset: mostly the last step. Raises OSError."""
    extracted = layout.marked_among(MarkerKind.EXTRACTED, product, {row.name for row in rows})
    last: Callable[..., StepTask] = last_task()
    first: Callable[..., StepTask] = DownloadFileset
    return (
        (first if row.name in extracted else last)(
            product=product, fileset=row.name, registered=row.registered, position=position
        )
        for position, row in enumerate(rows)
    )
