"""Wanted filesets of one product: those that an operator asks for while an update or an adoption runs."""

import logging
from collections.abc import Iterator
from itertools import chain

import luigi
from luigi.parameter import ParameterVisibility

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import machine_faults
from pipeline.mirror.state.pending import incomplete
from pipeline.mirror.state.wanted import wanted_rows
from pipeline.mirror.steps.adopt import AdoptedFolder
from pipeline.mirror.steps.widening import widen_wanted
from pipeline.units import as_count
from tasks.fileset import FilesetsFailed, StepTask, failed_in_run, tasks_for
from tasks.parameters import AdoptedFolderParameter, FilesetNames
from tasks.runtime.current import current_run
from tasks.runtime.task import HIDDEN, MirrorTask

log = logging.getLogger(__name__)


class FetchWanted(MirrorTask):
    """Wanted filesets of one product, before all others. ``filesets`` are their names.

    What lies in the folder that an adoption takes over is taken from there.
    """

    product = luigi.Parameter()
    filesets = FilesetNames()
    adopted = AdoptedFolderParameter(
        default=None, significant=False, visibility=ParameterVisibility.HIDDEN, description=HIDDEN
    )
    only_waits = True
    _has_ended = False

    def complete(self) -> bool:
        """Return True if all was tried."""
        return self._has_ended

    def run(self) -> None:
        """Fetch the filesets. Raises FilesetsFailed, MachineFault, or Stopped after a request to stop."""
        self._has_ended = True
        widen_wanted(self.context, self.product, self.filesets)
        self._fetch(set(self.filesets))

    def _fetch(self, names: set[str]) -> None:
        """Submit the filesets; count those that nothing else in this run counts.

        Skipped ones are counted by the update of the product.
        """
        run, counters, required = current_run(), self.context.counters, self.context.included_steps.required
        rows = wanted_rows(self.layout, self.product, names, self.context.included_steps)
        tried = incomplete(self.layout, self.product, {row.name for row in rows}, required)
        tried, new = run.wanted.claim(self.product, tried)
        run.progress.expect(self.product, rows)
        counters.count(selected=new)
        run.submit(self._tasks(rows))
        left = incomplete(self.layout, self.product, tried, required)
        failed = left & failed_in_run(self.context, self.product) if run.stopping.is_set() else left
        counters.count(done=len(tried) - len(left), failed=len(failed))
        run.wanted.count(self.product, tried, left)
        run.refuse_when_stopping()
        if left:
            raise FilesetsFailed(
                f"product {self.product}: {len(left)} of {as_count(len(tried), 'wanted fileset')} failed"
            )

    def _tasks(self, rows: list[FilesetRow]) -> Iterator[StepTask]:
        held: set[str] = set()
        if self.adopted:
            with machine_faults(f"reading {self.adopted.path / self.product}"):
                held, _ = self.adopted.filesets(self.product)
        there = [row for row in rows if row.name in held]
        others = [row for row in rows if row.name not in held]
        return chain(
            tasks_for(self.context, self.product, there, self.adopted),
            tasks_for(self.context, self.product, others),
        )


def newly_wanted(adopted: AdoptedFolder | None = None) -> Iterator[FetchWanted]:
    """Return the tasks that fetch what came to be wanted since the last call, one for each product.

    Files in the folder of an adoption are not fetched.
    """
    for product, names in current_run().wanted.poll().items():
        log.info("product %s: wanted, and fetched first: %s", product, ", ".join(sorted(names)))
        yield FetchWanted(product=product, filesets=tuple(sorted(names)), adopted=adopted)
