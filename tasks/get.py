"""Run that fetches filesets of one product by name, whatever the settings select."""

import luigi

from pipeline.mirror.state.operands import check_products
from pipeline.mirror.state.wanted import named_filesets, want_filesets
from tasks.runtime.run import STARTED, current_run
from tasks.runtime.task import HIDDEN
from tasks.update import DiscoverProduct
from tasks.wanted import FetchWanted


class GetFilesets(FetchWanted):
    """Run that fetches the filesets, which are wanted from then on: ``filesets`` are names or patterns."""

    by = luigi.Parameter(default="", description=HIDDEN)
    started = luigi.Parameter(default=STARTED, description=HIDDEN)
    pausable = True

    def requires(self) -> DiscoverProduct:
        """Return the task that brings the listing up to date. Raises SettingsError for an unknown product."""
        products = current_run().products()
        check_products([self.product], products, self.context.settings, "Nothing was fetched.")
        return DiscoverProduct(product=self.product, started=self.started)

    def run(self) -> None:
        """Mark the filesets as wanted, and fetch them. Raises SettingsError for a name that no row has."""
        self._has_ended = True
        names = named_filesets(self.layout, self.product, self.filesets)
        want_filesets(self.layout, self.product, names, by=self.by)
        self._fetch(names)
