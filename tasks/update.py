"""The main flow: one update of the mirror, from the listings to the unpacked files.

    UpdateMirror ─ for each product ─ UpdateProduct ─ DiscoverProduct   rows newer than the last ones seen
                                      └ for each pending fileset ─ ExtractFileset    bundles unpacked
                                                                   └ DownloadFileset   files verified

The output of each step is one marker file, written last; the files on disk are the only state.
"""

import contextlib
import logging

import luigi

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import MirrorError, ServerUnavailable
from pipeline.mirror.state.failures import clear_failures_except, waiting
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.pending import pending_rows
from pipeline.mirror.steps.discover import discover_product
from pipeline.mirror.steps.housekeeping import finish_product, in_hand, tidy_incoming
from pipeline.mirror.steps.removal import delete_withdrawn
from tasks.fileset import missing_steps
from tasks.runtime.run import STARTED, current_run
from tasks.runtime.task import MirrorTask
from tasks.targets import RunMarker

log = logging.getLogger(__name__)


class ProductNames(luigi.Parameter[tuple[str, ...]]):
    """Names of products, separated by commas."""

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the names in ``a,b``."""
        return tuple(name.strip() for name in text.split(",") if name.strip())

    def serialize(self, names: tuple[str, ...]) -> str:
        """Return the names as ``a,b``."""
        return ",".join(names)


class UpdateMirror(MirrorTask, luigi.WrapperTask):
    """One update of every product, or of those in ``products``: the task that cron runs."""

    takes_peers = True
    products = ProductNames(default=(), description="only these products, as a,b")
    started = luigi.Parameter(default=STARTED, description="made by the program: tells updates apart")

    def requires(self) -> list["UpdateProduct"]:
        """Return one update for each product."""
        products = current_run().products(self.products)
        return [UpdateProduct(product=name, started=self.started) for name in products]


class UpdateProduct(MirrorTask):
    """All filesets of one product that are new, or are left over from earlier updates."""

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    only_waits = True

    def requires(self) -> "DiscoverProduct":
        """Return the task that brings the listing up to date."""
        return DiscoverProduct(product=self.product, started=self.started)

    def output(self) -> RunMarker:
        """Return the marker of the last update of the product, with the number of filesets that failed."""
        return RunMarker(self.layout.updated(self.product), self.started)

    def run(self) -> None:
        """Submit every pending fileset, oldest first, and wait until each is done or has failed."""
        settings = self.site.settings.product(self.product)
        pending = pending_rows(self.layout, settings, current_run().last_step)
        clear_failures_except(self.layout, self.product, {row.name for row in pending})
        tidy_incoming(self.site, self.product, {row.name for row in pending})
        later = waiting(self.layout, self.product)
        due = [row for row in pending if row.name not in later]
        self.site.tally.count(pending=len(due))
        outcome = current_run().submit(missing_steps(self.layout, self.product, due))
        failed = outcome.failed - (self._withdrawn_meanwhile(due) if outcome.failed else 0)
        self.site.tally.count(done=outcome.done, failed=failed)
        current_run().refuse_when_stopping()
        finish_product(self.site, self.product, self.started, done=outcome.done, failed=failed + len(later))
        if self.site.settings.mirror.on_removed == "delete":
            self._delete_withdrawn()
        if failed or later:
            raise FilesetsFailed(_failure_message(self.product, len(due), failed, later))

    def _withdrawn_meanwhile(self, due: list[FilesetRow]) -> int:
        """Return how many of the filesets failed because upstream withdrew them during this update.

        Only the whole listing shows that.
        """
        current_run().submit(iter([RelistProduct(product=self.product, started=self.started)]))
        gone = self.layout.marked(MarkerKind.WITHDRAWN, self.product)
        wanted = {row.name for row in due} - gone
        clear_failures_except(self.layout, self.product, wanted)
        tidy_incoming(self.site, self.product, wanted)
        done = self.layout.marked(current_run().last_step, self.product)
        withdrawn = [row.name for row in due if row.name in gone - done]
        if withdrawn:
            log.info("product %s: withdrawn upstream meanwhile: %s", self.product, ", ".join(withdrawn))
        return len(withdrawn)

    def _delete_withdrawn(self) -> None:
        at_most = self.site.settings.mirror.delete_at_most
        if deleted := delete_withdrawn(self.layout, self.site.ownership, self.product, at_most):
            log.info("product %s: %d withdrawn filesets deleted", self.product, deleted)


class DiscoverProduct(MirrorTask):
    """Fetch the listing rows that are newer than the last ones seen."""

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    before_peers = True

    def output(self) -> RunMarker:
        """Return the marker of the last listing that was fetched, with the number of new rows."""
        return RunMarker(self.layout.discovered(self.product), self.started)

    def run(self) -> None:
        """Bring the product's listing up to date."""
        # Filesets that failed, or were in progress when a run was killed, may have been withdrawn: only the
        # whole listing shows that.
        left = bool(self.layout.marked(MarkerKind.FAILED, self.product)) or in_hand(self.layout, self.product)
        whole = left or self.site.settings.mirror.on_removed == "delete"
        new = discover_product(self.layout, self.site.listings, self.product, self.started, whole=whole)
        self.site.tally.count(new=new)


class RelistProduct(MirrorTask):
    """Fetch the whole listing once more: it shows which of the failed filesets were withdrawn.

    A task of its own, so that the scheduler counts its connection.
    """

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)
    fetched = False

    def complete(self) -> bool:
        """Return True if the listing was asked for, with or without an answer."""
        return self.fetched

    def run(self) -> None:
        """Bring the product's listing up to date, if the server answers."""
        self.fetched = True
        with contextlib.suppress(ServerUnavailable):
            discover_product(self.layout, self.site.listings, self.product, self.started, whole=True)


class FilesetsFailed(MirrorError):
    """Some filesets of a product failed; each has a record and a message of its own."""


def _failure_message(product: str, tried: int, failed: int, later: dict[str, str]) -> str:
    parts = [f"{failed} of {tried} pending filesets failed"] if failed else []
    if later:
        first = min(later, key=lambda name: later[name])
        parts.append(
            f"{len(later)} that failed often are tried with exponential back-off, the next ({first}) "
            f"from {later[first]} on (`make skip PRODUCT={product} FILESET=… REASON=…` skips one)"
        )
    return f"product {product}: " + "; ".join(parts)
