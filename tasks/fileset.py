"""The steps of one fileset, as tasks."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property

import luigi
from luigi.rpc import RPCError

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import EXIT_SETTINGS_OR_BUG, SettingsError, machine_fault
from pipeline.mirror.state.failures import clear_failure, has_failed, record_failure
from pipeline.mirror.state.layout import Layout, Step
from pipeline.mirror.state.local_listing import KeptListing
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.steps.download import Download, is_stored
from pipeline.mirror.steps.extract import Extraction
from tasks.runtime.errors import Bug, FailedAlready, as_mirror_error
from tasks.runtime.processes import do_step
from tasks.runtime.run import current_run
from tasks.runtime.task import MirrorTask
from tasks.targets import StepMarker

# How long a step waits for a process that has the same fileset in hand and hangs.
FILESET_PATIENCE_SECONDS = 60.0

log = logging.getLogger("ipp-mirror")


class FilesetTask(MirrorTask):
    """One step of one fileset. ``registered`` tells its registration from an earlier one."""

    product = luigi.Parameter()
    fileset = luigi.Parameter()
    registered = luigi.Parameter(default="", significant=False)
    position = luigi.IntParameter(default=0, significant=False)

    @property
    def priority(self) -> int:
        """Oldest first."""
        return -self.position

    @property
    def identity(self) -> Fileset:
        """The fileset as the library knows it; asked for by hand, its registration is looked up."""
        if self.registered:
            return Fileset(self.product, self.fileset, self.registered)
        for known in KeptListing(self.layout, self.product).registrations():
            if known.name == self.fileset:
                return Fileset(self.product, self.fileset, known.registered)
        raise SettingsError(
            f"fileset {self.product}/{self.fileset}: expected one that the product's listing here names, "
            "it does not. Run UpdateMirror first, or correct the name."
        )

    def report(self, message: str, share: float) -> None:
        """Tell the scheduler's page how far it is; a scheduler that does not answer is no reason to fail."""
        with contextlib.suppress(RPCError):
            self.set_status_message(message)
            self.set_progress_percentage(int(100 * share))


class StepTask(FilesetTask):
    """A step that leaves a marker, and a record when it fails."""

    step: Step
    for_assistants = True
    # Whether this process did it.
    did = False
    _on_record = False

    def output(self) -> StepMarker:
        """The marker of this step."""
        return StepMarker(self.layout, self.step, self.identity)

    @property
    def following(self) -> "StepTask | None":
        """The step of the fileset that comes after this one."""
        return None

    def run(self) -> None:
        """Do the step; after the last one, what failed before is forgotten.

        The scheduler gives a step to somebody else when a worker is silent, which may only be slow: whoever
        comes second waits, and finds it done, or failed.
        """
        what = f"fileset {self.identity}"
        with self.site.fileset_locks.held([str(self.identity)], what, FILESET_PATIENCE_SECONDS):
            if self.complete():
                return
            if has_failed(self.layout, self.identity, current_run().update):
                raise FailedAlready(
                    f"fileset {self.identity}: failed in this update. The next one tries again."
                )
            self.did = True
            try:
                self.do()
            except Exception as error:
                self._record(error)
                raise
        if fresh_marker(self.layout, current_run().last_step, self.identity):
            clear_failure(self.layout, self.identity)
            self.site.tally.count(done=1)

    def _record(self, exception: Exception) -> None:
        """For the next run, for the status files, and for whoever gets the step a second time."""
        self._on_record = True
        every_run = self.site.settings.mirror.retry_every_run
        error, run = as_mirror_error(exception), current_run().update
        try:
            record_failure(self.layout, self.identity, error, run, every_run)
        except OSError as trouble:
            log.warning("%s", machine_fault(f"recording the failure of {self.identity}", trouble))

    def do(self) -> None:
        """The step itself, as the library does it."""
        raise NotImplementedError

    def on_failure(self, exception: BaseException) -> str:
        """Tell what went wrong, and see that it is on record."""
        error = as_mirror_error(exception)
        if isinstance(error, FailedAlready):
            return str(error)
        if not self._on_record:
            self._record(error)
        self.site.tally.count(failed=1)
        return self.told(error, str(self.identity), EXIT_SETTINGS_OR_BUG if isinstance(error, Bug) else 0)


class DownloadFileset(StepTask):
    """Every file of the fileset into ``store/``, sizes and md5 verified."""

    step = Step.DOWNLOADED

    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)

    def complete(self) -> bool:
        """Whether the marker says so, and what is still to be unpacked is there."""
        if not super().complete():
            return False
        extracted = fresh_marker(self.layout, Step.EXTRACTED, self.identity) is not None
        return extracted or is_stored(self.layout, self.identity)

    @property
    def following(self) -> StepTask | None:
        """Its unpacking, where that is wanted."""
        return ExtractFileset(**self.param_kwargs) if last_task() is ExtractFileset else None

    def do(self) -> None:
        """Fetch, verify, publish, mark."""
        current_run().fetching.do(do_step, (Download, self.identity), self.report)


class ExtractFileset(StepTask):
    """Every bundle of the fileset unpacked into ``data/``, where its dirinfo says."""

    step = Step.EXTRACTED
    resources = {"unpackers": 1}  # noqa: RUF012  (Luigi reads a plain attribute)

    def requires(self) -> DownloadFileset:
        """The fileset in the store."""
        return self._download

    @cached_property
    def _download(self) -> DownloadFileset:
        # Luigi asks for it several times, and takes long to make a task.
        return DownloadFileset(
            product=self.product,
            fileset=self.fileset,
            registered=self.registered,
            position=self.position,
        )

    def do(self) -> None:
        """Unpack, localize, mark."""
        current_run().unpacking.do(do_step, (Extraction, self.identity), self.report)


def last_task() -> type[StepTask]:
    """The step after which a fileset is complete."""
    return ExtractFileset if current_run().last_step is Step.EXTRACTED else DownloadFileset


def missing_steps(layout: Layout, product: str, rows: Sequence[FilesetRow]) -> Iterator[StepTask]:
    """For each row the task that completes its fileset: mostly the last step."""
    extracted = layout.marked_among(Step.EXTRACTED, product, {row.name for row in rows})
    for position, row in enumerate(rows):
        kind = DownloadFileset if row.name in extracted else last_task()
        yield kind(product=product, fileset=row.name, registered=row.registered, position=position)
