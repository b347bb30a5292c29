"""Wanted filesets of one product: those that an operator asks for while an update or an adoption runs."""

import json
import logging
from collections.abc import Iterator

import luigi

from pipeline.mirror.state.pending import incomplete
from pipeline.mirror.state.wanted import wanted_rows
from pipeline.units import as_count
from tasks.fileset import FilesetsFailed, failed_in_run, tasks_for
from tasks.runtime.run import current_run
from tasks.runtime.task import MirrorTask

log = logging.getLogger(__name__)


class FilesetNames(luigi.Parameter[tuple[str, ...]]):
    """Names of filesets, or shell patterns of names, as a JSON list."""

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the names in ``["a", "b"]``."""
        return tuple(json.loads(text))

    def serialize(self, names: tuple[str, ...]) -> str:
        """Return the names as ``["a", "b"]``."""
        return json.dumps(names)


class FetchWanted(MirrorTask):
    """Wanted filesets of one product, before all others. ``filesets`` are their names."""

    product = luigi.Parameter()
    filesets = FilesetNames()
    only_waits = True
    _has_ended = False

    def complete(self) -> bool:
        """Return True if all was tried."""
        return self._has_ended

    def run(self) -> None:
        """Fetch the filesets. Raises FilesetsFailed, or Stopped after a request to stop."""
        self._has_ended = True
        self._fetch(set(self.filesets))

    def _fetch(self, names: set[str]) -> None:
        """Submit the filesets; count those that nothing else in this run counts.

        Skipped ones are counted by the update of the product.
        """
        run, counters, required = current_run(), self.context.counters, self.context.wanted_steps.required
        rows = wanted_rows(self.layout, self.product, names, self.context.wanted_steps)
        tried = incomplete(self.layout, self.product, {row.name for row in rows}, required)
        tried, new = run.wanted.claim(self.product, tried)
        run.progress.expect(self.product, rows)
        counters.count(selected=new)
        run.submit(tasks_for(self.context, self.product, rows))
        left = incomplete(self.layout, self.product, tried, required)
        failed = left & failed_in_run(self.context, self.product) if run.stopping.is_set() else left
        counters.count(done=len(tried) - len(left), failed=len(failed))
        run.refuse_when_stopping()
        if left:
            raise FilesetsFailed(
                f"product {self.product}: {len(left)} of {as_count(len(tried), 'wanted fileset')} failed"
            )


def newly_wanted() -> Iterator[FetchWanted]:
    """Return the tasks that fetch what came to be wanted since the last call, one for each product."""
    for product, names in current_run().wanted.poll().items():
        log.info("product %s: wanted, and fetched first: %s", product, ", ".join(sorted(names)))
        yield FetchWanted(product=product, filesets=tuple(sorted(names)))
