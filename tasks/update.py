"""The main flow: one update of the mirror, from what is new to what is in place.

    UpdateMirror ─ for each product ─ UpdateProduct ─ DiscoverProduct   rows newer than the last ones seen
                                      └ for each pending fileset ─ ExtractFileset    bundles unpacked
                                                                   └ DownloadFileset   files verified

The output of each step is one marker file, written last; what is on disk is the only state.
"""

import contextlib
import logging

import luigi

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import MirrorError, ServerUnavailable
from pipeline.mirror.state.failures import forget_failures_except, waiting
from pipeline.mirror.state.layout import Step
from pipeline.mirror.state.pending import pending_rows
from pipeline.mirror.steps.discover import discover_product
from pipeline.mirror.steps.housekeeping import finish_product, in_hand, tidy_incoming
from pipeline.mirror.steps.removal import delete_withdrawn
from tasks.fileset import missing_steps
from tasks.runtime.run import STARTED, current_run
from tasks.runtime.task import MirrorTask
from tasks.targets import RunMarker

log = logging.getLogger("ipp-mirror")


class ProductNames(luigi.Parameter):
    """Names of products, separated by commas."""

    def parse(self, text: str) -> tuple[str, ...]:
        """The names in ``a,b``."""
        return tuple(name.strip() for name in text.split(",") if name.strip())

    def serialize(self, names: tuple[str, ...]) -> str:
        """The names as ``a,b``."""
        return ",".join(names)


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
        new = discover_product(self.layout, self.site.store, self.product, self.started, whole=whole)
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
            discover_product(self.layout, self.site.store, self.product, self.started, whole=True)


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
