"""The main flow: one update of the mirror, from what is new to what is in place.

    UpdateMirror ─ for each product ─ UpdateProduct ─ DiscoverProduct   rows newer than the last ones seen
                                      └ for each pending fileset ─ ExtractFileset    bundles unpacked
                                                                   └ DownloadFileset   files verified

The output of each step is one marker file, written last; what is on disk is the only state.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property

import luigi
from luigi.rpc import RPCError

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import EXIT_SETTINGS_OR_BUG, MirrorError, ServerUnavailable, SettingsError, machine_fault
from pipeline.mirror.discover import discover_product
from pipeline.mirror.download import Download, is_stored
from pipeline.mirror.extract import Extraction
from pipeline.mirror.failures import (
    clear_failure,
    forget_failures_except,
    has_failed,
    record_failure,
    waiting,
)
from pipeline.mirror.kept_listing import KeptListing
from pipeline.mirror.layout import Layout, Step
from pipeline.mirror.markers import Fileset, fresh_marker
from pipeline.mirror.pending import pending_rows
from pipeline.mirror.removal import delete_withdrawn
from pipeline.mirror.update import finish_product, in_hand, tidy_incoming
from tasks.base import MirrorTask, ProductNames, RunMarker, StepMarker
from tasks.errors import Bug, FailedAlready, as_mirror_error
from tasks.processes import do_step
from tasks.run import STARTED, current_run

# How long a step waits for a process that has the same fileset in hand and hangs.
FILESET_PATIENCE_SECONDS = 60.0

log = logging.getLogger("ipp-mirror")


class UpdateMirror(MirrorTask, luigi.WrapperTask):
    """One update of every product: what cron runs. ``products`` limits it to some of them."""

    takes_assistants = True
    products = ProductNames(default=(), description="only these products, as a,b")
    started = luigi.Parameter(default=STARTED, description="made by the program: tells updates apart")

    def requires(self) -> list["UpdateProduct"]:
        """One update for each product."""
        products = current_run().products(self.products)
        return [UpdateProduct(product=name, started=self.started) for name in products]


class UpdateProduct(MirrorTask):
    """Everything that is new in one product, or was left over from earlier updates."""

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    only_waits = True

    def requires(self) -> "DiscoverProduct":
        """The listing, brought up to date."""
        return DiscoverProduct(product=self.product, started=self.started)

    def output(self) -> RunMarker:
        """Says when the product was last gone through, and how many filesets failed."""
        return RunMarker(self.layout.updated(self.product), self.started)

    def run(self) -> None:
        """Hand every pending fileset on, oldest first, and wait until each is done or failed."""
        settings = self.site.settings.product(self.product)
        pending = pending_rows(self.layout, settings, current_run().last_step)
        forget_failures_except(self.layout, self.product, {row.name for row in pending})
        tidy_incoming(self.site, self.product, {row.name for row in pending})
        later = waiting(self.layout, self.product)
        due = [row for row in pending if row.name not in later]
        self.site.tally.count(pending=len(due))
        failed = current_run().settle(missing_steps(self.layout, self.product, due))
        if failed:
            failed -= self._withdrawn_meanwhile(due)
        finish_product(
            self.site, self.product, self.started, done=len(due) - failed, failed=failed + len(later)
        )
        if self.site.settings.mirror.on_removed == "delete":
            self._delete_withdrawn()
        if failed or later:
            raise FilesetsFailed(_told(self.product, len(due), failed, later))

    def _withdrawn_meanwhile(self, due: list[FilesetRow]) -> int:
        """How many of the filesets failed because upstream withdrew them, which only the whole list shows."""
        current_run().settle(iter([AskAgain(product=self.product, started=self.started)]))
        gone = self.layout.marked(Step.WITHDRAWN, self.product)
        wanted = {row.name for row in due} - gone
        forget_failures_except(self.layout, self.product, wanted)
        tidy_incoming(self.site, self.product, wanted)
        done = self.layout.marked(current_run().last_step, self.product)
        withdrawn = [row.name for row in due if row.name in gone - done]
        self.site.tally.count(failed=-len(withdrawn))
        if withdrawn:
            log.info("product %s: withdrawn upstream meanwhile: %s", self.product, ", ".join(withdrawn))
        return len(withdrawn)

    def _delete_withdrawn(self) -> None:
        at_most = self.site.settings.mirror.delete_at_most
        if deleted := delete_withdrawn(self.layout, self.site.ownership, self.product, at_most):
            log.info("product %s: %d withdrawn filesets deleted", self.product, deleted)


class DiscoverProduct(MirrorTask):
    """Ask the server for the listing rows that are newer than the last ones seen."""

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    before_assistants = True

    def output(self) -> RunMarker:
        """Says when the server was last asked, and how many rows were new."""
        return RunMarker(self.layout.discovered(self.product), self.started)

    def run(self) -> None:
        """Bring the product's listing up to date."""
        # What failed, or was in hand when a run was killed, may have been withdrawn, which only the whole
        # list shows.
        left = bool(self.layout.marked(Step.FAILED, self.product)) or in_hand(self.layout, self.product)
        whole = left or self.site.settings.mirror.on_removed == "delete"
        new = discover_product(self.layout, self.site.listings, self.product, self.started, whole=whole)
        self.site.tally.count(new=new)


class AskAgain(MirrorTask):
    """Ask for the whole list once more, which alone shows what was withdrawn while filesets failed.

    A task, so that its connection counts as one while others take part.
    """

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)
    asked = False

    def complete(self) -> bool:
        """Whether it was asked for, with or without an answer."""
        return self.asked

    def run(self) -> None:
        """Bring the product's listing up to date, if the server answers."""
        self.asked = True
        with contextlib.suppress(ServerUnavailable):
            discover_product(self.layout, self.site.listings, self.product, self.started, whole=True)


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


class FilesetsFailed(MirrorError):
    """Some filesets of a product failed; each has its own record and message."""


def _told(product: str, tried: int, failed: int, later: dict[str, str]) -> str:
    told = [f"{failed} of {tried} pending filesets failed"] if failed else []
    if later:
        first = min(later, key=lambda name: later[name])
        told.append(
            f"{len(later)} that failed often are tried more rarely now, the next ({first}) "
            f"from {later[first]} on (`make skip PRODUCT={product} FILESET=… REASON=…` gives one up)"
        )
    return f"product {product}: " + "; ".join(told)
