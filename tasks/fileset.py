"""The steps of one fileset as tasks: for each row of ``STEPS`` its task, and the Luigi resource it takes."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import islice

import luigi
from luigi.parameter import ParameterVisibility

from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.catalog.step import CATALOG
from pipeline.datastore.listing import FilesetRow
from pipeline.durable import remove_files
from pipeline.errors import EXIT_SETTINGS_OR_BUG, MirrorError, SettingsError, machine_fault, machine_faults
from pipeline.mirror.context import RunContext, StepProgress
from pipeline.mirror.state.beginning import find_beginning
from pipeline.mirror.state.failures import (
    BackOff,
    clear_failure,
    failed_in,
    failures,
    has_failed,
    record_failure,
)
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.state.pending import steps_to_schedule
from pipeline.mirror.state.selection import PRIORITY_OF_WANTED, may_be_selected, priorities
from pipeline.mirror.state.steps import StepSpec
from pipeline.mirror.state.wanted import wanted_filesets
from pipeline.mirror.steps.adopt import AdoptedFolder, adopt_fileset
from pipeline.mirror.steps.download import DOWNLOAD
from pipeline.mirror.steps.extract import EXTRACT
from tasks.parameters import AdoptedFolderParameter, ListingRow
from tasks.runtime.current import current_run
from tasks.runtime.errors import Bug, FailedAlready, as_mirror_error
from tasks.runtime.processes import do_step
from tasks.runtime.task import HIDDEN, MirrorTask
from tasks.targets import StepMarker

# Time for which a step waits for another process that has the same fileset in progress, and may hang.
LOCK_WAIT_SECONDS = 60.0
# Of one priority; more would come before those of the next lower one.
FILESETS_AT_MOST = 10**8

log = logging.getLogger(__name__)


class FilesetsFailed(MirrorError):
    """Some filesets of a product failed; each has a record and a message of its own."""


class FilesetTask(MirrorTask):
    """Task for one fileset. ``row`` identifies its registration."""

    product = luigi.Parameter()
    fileset = luigi.Parameter()
    row = ListingRow(
        default=None, significant=False, visibility=ParameterVisibility.HIDDEN, description=HIDDEN
    )
    position = luigi.IntParameter(
        default=0, significant=False, visibility=ParameterVisibility.HIDDEN, description=HIDDEN
    )

    @property
    def priority(self) -> int:  # type: ignore[override]
        """Those first that are first in the order of their product."""
        return -int(self.position)

    @property
    def of_fileset(self) -> tuple[str, str]:
        """Product and fileset."""
        return self.product, self.fileset

    @property
    def subject(self) -> str:
        """The beginning of each message about a failure of the task."""
        return f"fileset {self.product}/{self.fileset}"

    @cached_property
    def identity(self) -> Fileset:
        """The fileset as the library knows it; without ``row``, as the local listing has it.

        Raises SettingsError for a fileset that the local listing does not name.
        """
        rows = [self.row] if self.row else LocalListing(self.layout, self.product).rows()
        for row in rows:
            if row.name == self.fileset:
                return Fileset.of(self.product, row)
        raise SettingsError(
            f"{self.subject}: expected a fileset that the local listing of the product names. "
            "Run UpdateMirror first, or correct the name."
        )


class StepTask(FilesetTask):
    """One step of a fileset: leaves a marker, and a failure record when it fails.

    ``step`` is the row of the workflow, ``resource`` the Luigi resource of which the task takes one; it also
    decides which process does the step.
    """

    adopted = AdoptedFolderParameter(
        default=None, significant=False, visibility=ParameterVisibility.HIDDEN, description=HIDDEN
    )

    step: StepSpec
    resource: str
    for_peers = True
    _recorded = False
    _next_try: str | None = None

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]
        """The resources that the task takes, for Luigi's scheduler."""
        return {self.resource: 1}

    @property
    def optional(self) -> bool:  # type: ignore[override]
        """True for a step without which the fileset still counts as mirrored."""
        return self.step.optional

    @property
    def doing(self) -> str:  # type: ignore[override]
        """The name of the step."""
        return self.step.name

    @property
    def completes(self) -> tuple[str, str] | None:
        """Product and fileset for the last required step."""
        is_last = self.step.name == self.context.included_steps.required[-1].name
        return (self.product, self.fileset) if is_last else None

    def report(self, progress: StepProgress) -> None:
        """Note the progress."""
        current_run().progress.update(self, progress)

    def is_listed(self) -> bool:
        """Return True if the local listing has this row, and the fileset is one to be done.

        That is one that may be selected, is wanted, is to be unpacked again, or is complete but for optional
        steps; none in an adoption. Where a fileset lies is left to the update: other hosts may read an
        earlier state of the catalog. Raises ServerUnavailable for a damaged listing.
        """
        if self.row is None or self.row.name != self.fileset or self.adopted is not None:
            return False
        settings = self.context.settings.product(self.product)
        kinds = (MarkerKind.WANTED, MarkerKind.SUPERSEDED)
        markers = (self.layout.marker(kind, self.product, self.row.name) for kind in kinds)
        if self._is_here() or any(marker.exists() for marker in markers):
            return hash(self.row) in listed_rows(self.layout, self.product)
        if not find_beginning(self.layout, settings).precedes(self.row.name, self.row.registered):
            return False
        return hash(self.row) in listed_rows(self.layout, self.product) and may_be_selected(
            self.row, settings
        )

    def _is_here(self) -> bool:
        """Return True for an optional step of a fileset that is complete."""
        required = self.context.included_steps.required
        return self.optional and all(
            fresh_marker(self.layout, step.marker, self.identity) for step in required
        )

    def requires(self) -> "list[StepTask]":
        """Return the task of the step before this one."""
        return self._required

    @cached_property
    def _required(self) -> "list[StepTask]":
        # Luigi asks for it several times, and to create a task takes long.
        included = (step for step in self.context.steps.before(self.step) if self._is_included(step))
        return [self._task(step) for step in islice(included, 1)]

    @property
    def following(self) -> "StepTask | None":
        """The task of the step after this one, if the settings ask for that and peers may do it."""
        included = (step for step in self.context.steps.after(self.step) if self._is_included(step))
        task = next(map(self._task, included), None)
        return task if task is not None and task.for_peers else None

    def _is_included(self, step: StepSpec) -> bool:
        return step.is_included(self.context.settings) and step.name not in self.context.left_out

    def _task(self, step: StepSpec) -> "StepTask":
        return TASKS[step.name](**self.param_kwargs)

    def output(self) -> StepMarker:
        """Return the marker of this step."""
        return StepMarker(self.layout, self.step.marker, self.identity)

    def complete(self) -> bool:
        """Return True if the marker is there, and what the next step needs unless that one is done.

        An optional step is done again after the required ones.
        """
        if not super().complete() or (self.optional and not self._is_here()):
            return False
        after = self.context.steps.after(self.step)[:1]
        after_is_done = any(fresh_marker(self.layout, step.marker, self.identity) for step in after)
        return after_is_done or self.step.is_ready(self.layout, self.identity)

    def run(self) -> None:
        """Do the step, and remove the record of its earlier failures.

        A scheduler gives the step of a worker that is silent, and may only be slow, to a second one: the
        second one waits for the lock, and finds the step done or failed.
        """
        with self.context.fileset_locks.held([str(self.identity)], self.subject, LOCK_WAIT_SECONDS):
            if self.complete():
                return
            if has_failed(self.layout, self.identity, current_run().update):
                status = "`ipp-mirror status` says why, and when it is tried again"
                raise FailedAlready(f"{self.subject}: failed in this update; {status}.")
            self._make_optional_pending()
            try:
                self.do()
            except Exception as error:
                self._record(error)
                self._count(as_mirror_error(error))
                raise
            self._count(None)
        log.debug("%s: %s", self.subject, self.step.marker)
        # The record of an earlier step is left by a process that was killed after it had written the marker.
        done = (self.step, *self.context.steps.before(self.step))
        clear_failure(self.layout, self.identity, [step.name for step in done])

    def _make_optional_pending(self) -> None:
        """Make the optional steps after this one pending: they are done with what this one makes."""
        after = [step for step in self.context.steps.after(self.step) if step.optional]
        paths = [self.layout.marker(step.marker, self.product, self.fileset) for step in after]
        with machine_faults(f"{self.subject}: making steps pending"):
            # Mostly there is none, and the folders need no flush.
            remove_files(path for path in paths if path.exists())

    def _count(self, error: MirrorError | None) -> None:
        if not self.optional:
            current_run().count_step(self.product, error, asked=self.resource == "connections")

    def do(self) -> None:
        """Do the step in one of the processes of the run. Raises MirrorError."""
        current_run().do(self.resource, do_step, (self.step.name, self.identity), self.report)

    def _record(self, exception: Exception) -> None:
        """Write the failure record, for the next run, for status, and for a second worker of this update."""
        self._recorded = True
        back_off = BackOff(self.context.settings.mirror.retry_every_run)
        error, run = as_mirror_error(exception), current_run().update
        try:
            self._next_try = record_failure(self.layout, self.identity, self.step.name, error, run, back_off)
        except OSError as trouble:
            log.warning("%s", machine_fault(f"{self.subject}: recording its failure", trouble))

    def on_failure(self, exception: BaseException) -> str:
        """Record and log the failure, unless another worker did."""
        error = as_mirror_error(exception)
        if isinstance(error, FailedAlready):
            return str(error)
        if not self._recorded:
            self._record(error)
        code = EXIT_SETTINGS_OR_BUG if isinstance(error, Bug) else 0
        return self.report_failure(error, code, self._next_try)


class DownloadFileset(StepTask):
    """Every file of the fileset in ``store/``, sizes and md5 verified."""

    step = DOWNLOAD
    resource = "connections"

    @property
    def fetches(self) -> tuple[str, str, str | None]:
        """Product, fileset and stage."""
        return self.product, self.fileset, self.row.column("stage") if self.row else None

    def do(self) -> None:
        """Download the fileset, except for files that are taken over from an adopted folder."""
        if self.adopted is None:
            super().do()
            return
        outcome = current_run().do(self.resource, adopt_fileset, (self.adopted, self.identity), self.report)
        left = len(outcome.left) + len(outcome.unlisted)
        self.context.counters.count(adopted=outcome.files, adopted_bytes=outcome.bytes, left=left)
        folder = self.adopted.fileset(self.product, self.fileset)
        for name, reason in outcome.left.items():
            log.warning("left: %s: %s", folder / name, reason)
        for name in outcome.unlisted:
            log.debug("left: %s: its fileset does not list it", ascii(str(folder / name)))
        if outcome.error is not None:
            raise outcome.error


class ExtractFileset(StepTask):
    """Every bundle of the fileset unpacked into ``data/``, as its dirinfo says."""

    step = EXTRACT
    resource = "unpackers"


class CatalogFileset(StepTask):
    """The rows of the fileset in the catalog: of its files, documents and images."""

    step = CATALOG
    resource = "unpackers"

    @property
    def for_peers(self) -> bool:  # type: ignore[override]
        """True unless the catalog is an SQLite file, which processes of one host alone may write to."""
        return not self.context.settings.catalog.is_file


TASKS: dict[str, Callable[..., StepTask]] = {
    task.step.name: task for task in (DownloadFileset, ExtractFileset, CatalogFileset)
}


def listed_rows(layout: Layout, product: str) -> frozenset[int]:
    """Return the hashes of all rows of the local listing.

    Raises ServerUnavailable for a damaged listing, OSError without one.
    """
    found = LocalListing(layout, product).path.stat()
    return _listed_rows(layout, product, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _listed_rows(layout: Layout, product: str, *_version: int) -> frozenset[int]:
    return frozenset(map(hash, LocalListing(layout, product).rows()))


def priorities_of(context: RunContext, product: str, rows: Iterable[FilesetRow]) -> dict[str, int]:
    """Return the priorities of filesets. Raises MachineFault when the catalog cannot be read."""
    settings = context.settings.product(product)
    with sky_knowledge(context.settings, context.layout, settings) as sky:
        return priorities(rows, settings, sky, wanted_filesets(context.layout, product))


def failed_in_run(context: RunContext, product: str) -> set[str]:
    """Return the filesets of which a required step failed in this run."""
    records = failed_in(
        failures(context.layout, product), (step.name for step in context.included_steps.required)
    )
    return {each["fileset"] for each in records if each.get("run") == current_run().update}


def tasks_for(
    context: RunContext, product: str, rows: Sequence[FilesetRow], adopted: AdoptedFolder | None = None
) -> Iterator[StepTask]:
    """Return the tasks that complete the filesets, in this order: mostly the last step of each.

    Of several products, filesets of higher priority come first, and those of one priority in turn.
    """
    priority = priorities_of(context, product, rows)
    missing = steps_to_schedule(context.layout, product, {row.name for row in rows}, context.included_steps)
    return (
        TASKS[step.name](
            product=product,
            fileset=row.name,
            row=row,
            position=place - FILESETS_AT_MOST * priority[row.name],
            adopted=adopted,
        )
        for place, row in enumerate(rows, start=FILESETS_AT_MOST * PRIORITY_OF_WANTED)
        for step in missing.of(row.name)
    )
