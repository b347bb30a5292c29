"""Adoption of a mirror made by ``update_mirror.py``: an update of the filesets that its folder holds.

    AdoptMirror ─ for each product ─ AdoptProduct ─ DiscoverProduct
                                     └ for each pending fileset in the folder ─ ExtractFileset
                                                                                └ DownloadFileset

The download takes over the files of the folder that are as listed, and fetches only the others.
"""

import logging
import os
from collections.abc import Container, Iterator
from functools import cached_property
from pathlib import Path

import luigi
from luigi.parameter import ParameterVisibility

from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import SettingsError, machine_faults
from pipeline.mirror.context import check_products_before_run
from pipeline.mirror.state.beginning import find_beginning
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.state.selection import selected_rows
from pipeline.mirror.state.wanted import wanted_filesets
from pipeline.mirror.steps.adopt import (
    AdoptedFolder,
    TakeOver,
    checked_folder,
    named,
    products_here,
    remove_old_names,
)
from pipeline.units import as_count
from tasks.fileset import StepTask, tasks_for
from tasks.parameters import AdoptedFolderParameter, ProductNames
from tasks.runtime.current import STARTED, current_run
from tasks.runtime.task import HIDDEN, MirrorTask
from tasks.targets import RunMarker
from tasks.update import UpdateProduct
from tasks.wanted import newly_wanted

log = logging.getLogger(__name__)


class AdoptMirror(MirrorTask, luigi.WrapperTask):
    """Adoption of all products that the folder holds, or of those in ``products``."""

    folder = luigi.Parameter(description="folder that update_mirror.py filled")
    by = luigi.Parameter(default=TakeOver.LINK.value, description="link, rename or copy")
    products = ProductNames(default=(), description="only these products, as a,b")
    started = luigi.Parameter(default=STARTED, description=HIDDEN)
    pausable = True

    def check(self, settings: Settings) -> None:
        """Check that ``products`` are products of this mirror. Raises SettingsError."""
        check_products_before_run(self.products, settings, "Nothing was started.")

    def requires(self) -> list["AdoptProduct"]:
        """Return the adoption of each product. Raises SettingsError, before anything is taken over."""
        return [
            AdoptProduct(product=product, adopted=self._adopted, started=self.started)
            for product in self._products
        ]

    @property
    def fetches_wanted_of(self) -> list[str]:
        """The products that the folder holds."""
        return self._products

    def more_tasks(self) -> Iterator[MirrorTask]:
        """Return the tasks that take over, or fetch, what came to be wanted since the last call."""
        return newly_wanted(self._adopted)

    @cached_property
    def _adopted(self) -> AdoptedFolder:
        if self.by not in list(TakeOver):
            raise SettingsError(f"--by: expected link, rename or copy, got {self.by!r}. Nothing was started.")
        return AdoptedFolder(checked_folder(Path(self.folder), self.layout.root), TakeOver(self.by))

    @cached_property
    def _products(self) -> list[str]:
        with machine_faults(f"reading {self._adopted.path}"):
            products = products_here(self._adopted, self.layout, current_run().products(self.products))
            root = Path(os.path.realpath(self.layout.root))
            there = {path.name for path in self._adopted.path.iterdir() if path != root}
        others = there - set(products)
        more = f"; left there: {named(others)}" if others else ""
        log.info("adopting %s by %s: products %s%s", self._adopted.path, self.by, ", ".join(products), more)
        return products


class AdoptProduct(UpdateProduct):
    """All filesets of one product that the folder holds and that are pending here."""

    adopted = AdoptedFolderParameter(significant=False, visibility=ParameterVisibility.HIDDEN)

    def output(self) -> RunMarker:
        """Return the marker of the last adoption of the product."""
        return RunMarker(self.layout.adopted(self.product), self.started)

    def _postponed(self) -> dict[str, str]:
        """Return nothing: a fileset that could not be fetched may be in the folder."""
        return {}

    def _due(self, pending: list[FilesetRow], _later: Container[str]) -> list[FilesetRow]:
        """Return the pending filesets that the folder holds; report what else it holds."""
        with machine_faults(f"reading {self.adopted.path / self.product}"):
            held, others = self.adopted.filesets(self.product)
            due = [row for row in pending if row.name in held]
            self._report(held, {row.name for row in due}, others)
            if self.adopted.by is TakeOver.RENAME:
                self._remove_old_names(held)
        if elsewhere := len(pending) - len(due):
            hint = "`ipp-mirror update` fetches them"
            missing = as_count(elsewhere, "fileset")
            log.info("product %s: not there: %s; %s", self.product, missing, hint)
        return due

    def _tasks(self, rows: list[FilesetRow]) -> Iterator[StepTask]:
        return tasks_for(self.context, self.product, rows, self.adopted)

    def _record(self, done: int, failed: int) -> None:
        """Write the marker of the adoption. Neither does it count as an update, nor is anything deleted."""
        content = {"product": self.product, "run": self.started, "finished": utc_now()}
        content |= {"folder": str(self.adopted.path), "by": self.adopted.by, "done": done, "failed": failed}
        write_marker(self.layout.adopted(self.product), content)

    def _delete_expired(self) -> None:
        """Do nothing: an adoption deletes nothing."""

    def _report(self, held: set[str], due: set[str], others: set[str]) -> None:
        """Log how many filesets of the folder are taken over, and which are left there and why."""
        layout, product = self.layout, self.product
        wanted = wanted_filesets(layout, product)
        with sky_knowledge(self.context.settings, layout, self._settings) as sky:
            rows, beginning = list(self._rows(held)), find_beginning(layout, self._settings)
            selected = {row.name for row in selected_rows(rows, self._settings, beginning, wanted, sky)}
        listed = {row.name for row in rows}
        unselected = listed - selected
        left = {
            "filesets that no listing names": held - listed,
            "withdrawn upstream": layout.marked_among(MarkerKind.WITHDRAWN, product, held),
            "skipped": layout.marked_among(MarkerKind.SKIPPED, product, held),
            "not selected": unselected,
            "that are no folders": others,
        }
        for why, names in left.items():
            log.debug("product %s: left there: %d %s: %s", product, len(names), why, named(names, len(names)))
        complete = held.difference(due, *left.values())
        parts = [f"{len(names)} {why} ({named(names)})" for why, names in left.items() if names]
        more = f"; left there: {', '.join(parts)}" if parts else ""
        log.info(
            "product %s: %s to take over, %d complete before%s",
            *(product, as_count(len(due), "fileset"), len(complete), more),
        )

    def _rows(self, names: set[str]) -> Iterator[FilesetRow]:
        return (row for row in LocalListing(self.layout, self.product).rows() if row.name in names)

    def _remove_old_names(self, held: set[str]) -> None:
        """Remove the old names that an adoption left which was killed, or was one by link.

        Raises OSError.
        """
        here = self.layout.marked_among(MarkerKind.DOWNLOADED, self.product, held)
        filesets = (Fileset.of(self.product, row) for row in self._rows(here))
        removed = sum(remove_old_names(self.layout, self.adopted, fileset) for fileset in filesets)
        if removed:
            names = as_count(removed, "old name")
            log.info("product %s: %s of complete filesets removed", self.product, names)
