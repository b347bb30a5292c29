"""Tasks that bring the listing of a product up to date."""

import contextlib
import logging

import luigi

from pipeline.datastore.listing import LeftOut
from pipeline.errors import MachineFault, MirrorError, ServerUnavailable, machine_fault, machine_faults
from pipeline.mirror.state.listing_failure import clear_listing_failure, record_listing_failure
from pipeline.mirror.steps.discover import discover_product, needs_whole_list
from tasks.runtime.current import STARTED, current_run
from tasks.runtime.errors import as_mirror_error
from tasks.runtime.task import MirrorTask
from tasks.targets import RunMarker

log = logging.getLogger(__name__)


class DiscoverProduct(MirrorTask):
    """Fetch the listing rows that are newer than the last ones seen."""

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    before_peers = True
    doing = "listing"

    def output(self) -> RunMarker:
        """Return the marker of the last listing that was fetched, with the number of new rows."""
        return RunMarker(self.layout.discovered(self.product), self.started)

    def run(self) -> None:
        """Bring the product's listing up to date."""
        settings, steps = self.context.settings, self.context.included_steps
        whole = needs_whole_list(self.layout, self.product, settings, steps)
        left_out = LeftOut()
        try:
            with machine_faults("recording its listing"):
                new = discover_product(
                    self.context, self.product, self.started, whole=whole, left_out=left_out
                )
        except Exception as error:
            self._record(as_mirror_error(error))
            raise
        clear_listing_failure(self.layout, self.product)
        current_run().report_left_out(left_out)
        self.context.counters.count(new=new)
        named = settings.mirror.products
        # Once in a run, and of a server that answers.
        if named and self.product == named[0].name:
            self.context.renew_root_listing()

    def _record(self, error: MirrorError) -> None:
        """Record for status that the listing could not be read; a run that stops says nothing of it."""
        if current_run().stopping.is_set():
            return
        try:
            record_listing_failure(self.layout, self.product, error)
        except OSError as trouble:
            if isinstance(error, MachineFault):
                return  # its message says the same
            log.warning("%s", machine_fault(f"{self.subject}: recording that it was not listed", trouble))


class RelistProduct(MirrorTask):
    """Fetch the whole listing once more: it shows which of the failed filesets were withdrawn.

    A task of its own, so that the scheduler counts its connection.
    """

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)
    fetched = False
    doing = "listing"

    def complete(self) -> bool:
        """Return True if the listing was asked for, with or without an answer."""
        return self.fetched

    def run(self) -> None:
        """Bring the product's listing up to date, if the server answers."""
        self.fetched = True
        with contextlib.suppress(ServerUnavailable):
            # Damaged rows were reported by the discovery.
            discover_product(self.context, self.product, self.started, whole=True, left_out=LeftOut())
