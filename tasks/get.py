"""Run that fetches filesets of one product by name, whatever the settings select."""

import logging
from collections.abc import Iterator
from functools import partial

import luigi

from pipeline.config import Settings
from pipeline.errors import EXIT_FILESET_FAILED
from pipeline.mirror.context import check_products_before_run
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.marker_file import SUFFIX
from pipeline.mirror.state.operands import check_products
from pipeline.mirror.state.pending import incomplete
from pipeline.mirror.state.wanted import named_filesets, want_filesets, wanted_filesets
from pipeline.mirror.steps.widening import widen_wanted
from pipeline.reporting.by_name import complete_text, excluded_filesets, excluded_text, lines_of
from pipeline.units import as_count
from tasks.discovery import DiscoverProduct
from tasks.fileset import failed_in_run
from tasks.runtime.current import STARTED, current_run
from tasks.runtime.summary_line import get_summary
from tasks.runtime.task import HIDDEN, MirrorTask
from tasks.wanted import FetchWanted, newly_wanted

log = logging.getLogger(__name__)


class GetFilesets(FetchWanted):
    """Run that fetches the filesets, which are wanted from then on: ``filesets`` are names or patterns."""

    by = luigi.Parameter(default="", description=HIDDEN)
    started = luigi.Parameter(default=STARTED, description=HIDDEN)
    pausable = True
    summary = staticmethod(get_summary)

    def check(self, settings: Settings) -> None:
        """Check that the product is one of this mirror. Raises SettingsError."""
        check_products_before_run([self.product], settings, "Nothing was fetched.")

    def requires(self) -> DiscoverProduct:
        """Return the task that brings the listing up to date. Raises SettingsError for an unknown product."""
        products = current_run().products()
        check_products([self.product], products, self.context.settings, "Nothing was fetched.")
        return DiscoverProduct(product=self.product, started=self.started)

    @property
    def fetches_wanted_of(self) -> list[str]:
        """Product of the filesets, as a list."""
        return [self.product]

    def more_tasks(self) -> Iterator[MirrorTask]:
        """Return the tasks that fetch what came to be wanted since the last call."""
        return newly_wanted()

    def run(self) -> None:
        """Mark the filesets as wanted, fetch them, and log what became of each.

        Raises SettingsError for a name that no row has.
        """
        self._has_ended = True
        names = named_filesets(self.layout, self.product, self.filesets)
        wanted = wanted_filesets(self.layout, self.product) | names
        current_run().wanted.begin(self.product, wanted, tried=set(), delayed=set())
        want_filesets(self.layout, self.product, names, by=self.by)
        skipped = self.layout.marked_among(MarkerKind.SKIPPED, self.product, names)
        self.context.counters.count(selected=len(skipped), skipped=len(skipped))
        widen_wanted(self.context, self.product, names)
        here, downloaded = self._complete(names), self._downloaded(names)
        try:
            self._fetch(names)
        finally:
            self._log_outcome(names, here, downloaded)

    def _complete(self, names: set[str]) -> set[str]:
        required = self.context.included_steps.required
        return names - incomplete(self.layout, self.product, names, required)

    def _downloaded(self, names: set[str]) -> dict[str, int]:
        """Return the time (ns) of the marker of its download for each of the filesets that has one."""
        folder = self.layout.marker_folder(MarkerKind.DOWNLOADED, self.product)
        marked = self.layout.marked_among(MarkerKind.DOWNLOADED, self.product, names)
        return {name: (folder / f"{name}{SUFFIX}").stat().st_mtime_ns for name in marked}

    def _log_outcome(self, names: set[str], here: set[str], before: dict[str, int]) -> None:
        """Log of each fileset where it is, or why it is not; those ``here`` were complete before.

        Those whose download has the marker that it had ``before`` were completed without a download. The run
        does not end with 0 where no run fetches one of them.
        """
        complete = self._complete(names)
        excluded = excluded_filesets(self.layout, self.product, names - complete)
        failed = failed_in_run(self.context, self.product)
        kept = dict(before.items() & self._downloaded(complete - here).items())

        def text(name: str) -> str:
            if name in complete:
                unfetched = "completed from what was here" if name in kept else "fetched"
                how = "here already" if name in here else unfetched
                return f"{how}: {complete_text(self.layout, self.product, name)}"
            if name in failed:
                return "failed, for the reason above"
            return "not fetched; the next update does it"

        for line in lines_of(self.product, names - excluded, text):
            log.info("%s", line)
        for line in lines_of(self.product, excluded, partial(excluded_text, self.layout, self.product)):
            log.warning("%s", line)
        if excluded:
            number = as_count(len(excluded), "fileset")
            reason = f"product {self.product}: {number} not fetched, as skipped or withdrawn"
            current_run().note(EXIT_FILESET_FAILED, reason)
