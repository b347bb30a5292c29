"""The main flow: one update of the mirror, from the listings to the unpacked files.

    UpdateMirror ─ for each product ─ UpdateProduct ─ DiscoverProduct   rows newer than the last ones seen
                                      └ for each pending fileset ─ CatalogFileset   rows of the catalog
                                                                   └ ExtractFileset    bundles unpacked
                                                                     └ DownloadFileset   files verified

The output of each step is one marker file, written last; the files on disk are the only state.
"""

import logging
import shlex
from collections.abc import Container, Iterator
from itertools import takewhile

import luigi

from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Product, Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.context import check_products_before_run
from pipeline.mirror.state.failures import clear_failures_except, failed_in, failures
from pipeline.mirror.state.file_selection import matches_nothing
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.pending import (
    has_changed,
    incomplete,
    pending_rows,
    postponed,
    renew_snapshots,
    to_unpack_again,
)
from pipeline.mirror.state.selection import empty_selection, in_order
from pipeline.mirror.state.sky_selection import waiting
from pipeline.mirror.state.wanted import wanted_filesets
from pipeline.mirror.steps.housekeeping import finish_product, tidy_incoming
from pipeline.mirror.steps.removal import delete_expired, delete_withdrawn
from pipeline.mirror.steps.widening import widen_filesets
from pipeline.units import as_count
from tasks.discovery import DiscoverProduct, RelistProduct
from tasks.fileset import FilesetsFailed, StepTask, failed_in_run, priorities_of, tasks_for
from tasks.parameters import ProductNames
from tasks.runtime.current import STARTED, current_run
from tasks.runtime.task import HIDDEN, MirrorTask
from tasks.targets import RunMarker
from tasks.wanted import newly_wanted

log = logging.getLogger(__name__)


class UpdateMirror(MirrorTask, luigi.WrapperTask):
    """One update of every product, or of those in ``products``: the task that cron runs."""

    takes_peers = True
    pausable = True
    only_waits = True
    products = ProductNames(default=(), description="only these products, as a,b")
    started = luigi.Parameter(default=STARTED, description=HIDDEN)

    def check(self, settings: Settings) -> None:
        """Check that ``products`` are products of this mirror. Raises SettingsError."""
        check_products_before_run(self.products, settings, "Nothing was started.")

    def requires(self) -> list["UpdateProduct"]:
        """Return one update for each product."""
        products = current_run().products(self.products)
        return [UpdateProduct(product=name, started=self.started) for name in products]

    def run(self) -> None:
        """Complete filesets that became pending while others were done, after every product ended well.

        The extraction of a fileset becomes pending when the fileset that has replaced one of its files no
        longer brings that file. Raises FilesetsFailed for filesets that are left then, Stopped after a
        request to stop.
        """
        for product in current_run().products(self.products):
            if not has_changed(self.layout, product, self.context.included_steps.required):
                continue
            # Wanted ones are counted by the task that fetches them: in progress first, as they may then fail.
            in_progress = current_run().wanted.in_progress(product)
            others = in_progress | failed_in_run(self.context, product)
            if rows := self._pending(product, others):
                self._complete(product, rows)

    def _complete(self, product: str, rows: list[FilesetRow]) -> None:
        """Complete the filesets; of those that other tasks tried, only the ones counted as done change."""
        run, names = current_run(), {row.name for row in rows}
        new, not_counted = run.wanted.claim(product, names)
        done_before = run.wanted.counted_as_done(product)
        run.progress.expect(product, rows)
        self.context.counters.count(selected=not_counted)
        run.submit(tasks_for(self.context, product, rows))
        left = names & {row.name for row in self._pending(product)}
        lost = left & done_before
        failed = left & (new | done_before)
        if run.stopping.is_set():
            failed &= failed_in_run(self.context, product)
        self.context.counters.count(done=len(new - left) - len(lost), failed=len(failed))
        run.wanted.count(product, new, left)
        run.refuse_when_stopping()
        if left:
            raise FilesetsFailed(_failure_message(product, len(rows), len(left), {}, 0))

    @property
    def fetches_wanted_of(self) -> list[str]:
        """Products of this update."""
        return current_run().products(self.products)

    def more_tasks(self) -> Iterator[MirrorTask]:
        """Return the tasks that fetch what came to be wanted since the last call."""
        return newly_wanted()

    def _pending(self, product: str, others: Container[str] = ()) -> list[FilesetRow]:
        """Return the rows of the filesets that are neither complete nor skipped, nor among the ``others``."""
        settings, steps = self.context.settings, self.context.included_steps.required
        with sky_knowledge(settings, self.layout, settings.product(product)) as sky:
            rows = pending_rows(self.layout, settings.product(product), steps, sky)
        return [row for row in rows if row.name not in others]


class UpdateProduct(MirrorTask):
    """All filesets of one product that are new, or are left over from earlier updates."""

    product = luigi.Parameter()
    started = luigi.Parameter(default=STARTED)
    only_waits = True
    shows_all = True

    def requires(self) -> DiscoverProduct:
        """Return the task that brings the listing up to date."""
        return DiscoverProduct(product=self.product, started=self.started)

    def output(self) -> RunMarker:
        """Return the marker of the last update of the product, with the number of filesets that failed."""
        return RunMarker(self.layout.updated(self.product), self.started)

    def run(self) -> None:
        """Submit every pending fileset, and wait until each is done or has failed."""
        self._widen()
        renew_snapshots(self.layout, self.product, self.context.included_steps)
        wanted = wanted_filesets(self.layout, self.product)
        pending = self._pending()
        skipped = self.layout.count(MarkerKind.SKIPPED, self.product)
        self.context.counters.count(selected=skipped, skipped=skipped)
        names = {row.name for row in pending}
        clear_failures_except(self.layout, self.product, names)
        tidy_incoming(self.context, self.product, names)
        later = self._postponed()
        failed = self.layout.marked(MarkerKind.FAILED, self.product)
        due = self._due(pending, later)
        due = in_order(due, self._settings, priorities_of(self.context, self.product, due), failed)
        tried = self._incomplete({row.name for row in due})
        delayed = self._incomplete(set(later))
        current_run().wanted.begin(self.product, wanted, tried, delayed)
        self.context.counters.count(selected=len(tried | delayed))
        current_run().progress.expect(self.product, due)
        current_run().submit(takewhile(self._has_space, self._tasks(due)))
        left = self._incomplete(tried)
        withdrawn = self._withdrawn_meanwhile(left, names) if left else set()
        self.context.counters.count(selected=-len(withdrawn))
        waiting = {name: later[name] for name in current_run().wanted.delayed(self.product)}
        self._finish(tried - withdrawn, left - withdrawn, waiting)

    def _widen(self) -> None:
        """Make the filesets pending of which the settings choose more than is here."""
        with sky_knowledge(self.context.settings, self.layout, self._settings) as sky:
            if widened := widen_filesets(self.context, self.product, sky):
                log.info("product %s: %s to be completed", self.product, as_count(widened, "fileset"))

    def _postponed(self) -> dict[str, str]:
        """Return the failed filesets that are left for a later run, with the time (UTC) of their next try."""
        return postponed(self.layout, self.product, self.context.included_steps)

    def _due(self, pending: list[FilesetRow], later: Container[str]) -> list[FilesetRow]:
        """Return the pending filesets that are tried in this run."""
        return [row for row in pending if row.name not in later]

    def _tasks(self, rows: list[FilesetRow]) -> Iterator[StepTask]:
        """Return the tasks that complete the filesets."""
        return tasks_for(self.context, self.product, rows)

    def _has_space(self, _task: luigi.Task) -> bool:
        """Return False once the volume of the product is full."""
        return not current_run().is_full(self.product)

    @property
    def _settings(self) -> Product:
        return self.context.settings.product(self.product)

    def _pending(self) -> list[FilesetRow]:
        """Return the rows of the filesets of which a step is to be done; report what the selection lacks."""
        with sky_knowledge(self.context.settings, self.layout, self._settings) as sky:
            pending = pending_rows(self.layout, self._settings, self.context.included_steps, sky)
            if self.context.settings.mirror.on_removed == "delete":
                # Optional steps are not begun for what this run deletes.
                withdrawn = self.layout.marked(MarkerKind.WITHDRAWN, self.product)
                withdrawn -= to_unpack_again(self.layout, self.product)
                pending = [row for row in pending if row.name not in withdrawn]
            if message := waiting(self._settings, sky):
                log.info("product %s: %s", self.product, message)
            elif not pending:
                rows = LocalListing(self.layout, self.product).rows()
                if message := empty_selection(self._settings, rows, sky):
                    log.warning("product %s: %s", self.product, message)
        return pending

    def _incomplete(self, filesets: set[str]) -> set[str]:
        """Return the filesets of which a required step is not done."""
        return incomplete(self.layout, self.product, filesets, self.context.included_steps.required)

    def _withdrawn_meanwhile(self, left: set[str], pending: set[str]) -> set[str]:
        """Return those of the filesets that upstream withdrew during this update.

        Only the whole listing shows that.
        """
        current_run().submit(iter([RelistProduct(product=self.product, started=self.started)]))
        gone = self.layout.marked(MarkerKind.WITHDRAWN, self.product)
        # Filesets that came to be wanted may be in progress.
        kept = (pending | wanted_filesets(self.layout, self.product)) - gone
        clear_failures_except(self.layout, self.product, kept)
        tidy_incoming(self.context, self.product, kept)
        withdrawn = left & gone
        if withdrawn:
            named = ", ".join(sorted(withdrawn))
            log.info("product %s: withdrawn upstream meanwhile: %s", self.product, named)
        return withdrawn

    def _finish(self, tried: set[str], left: set[str], waiting: dict[str, str]) -> None:
        """Record and report the outcome: which of the filesets that were ``tried`` are ``left`` incomplete.

        ``waiting`` are those that are left for a later run, with the time of their next try.
        Raises FilesetsFailed, or Stopped after a request to stop.
        """
        records = failures(self.layout, self.product)
        failed = left
        if current_run().stopping.is_set() or current_run().is_full(self.product):
            # The others were not started.
            failed = left & failed_in_run(self.context, self.product)
        required = self.context.included_steps.required
        optional = len(records) - len(failed_in(records, (step.name for step in required)))
        done = len(tried) - len(left)
        self._warn_of_patterns(tried - left)
        self.context.counters.count(done=done, failed=len(failed), optional_failed=optional)
        current_run().wanted.count(self.product, tried, left)
        if current_run().is_out_of_space:
            # Else every run would end here, and nothing make room.
            self._delete_expired()
        current_run().refuse_when_stopping()
        self._record(done, len(left) + len(waiting))
        if left or waiting:
            raise FilesetsFailed(
                _failure_message(self.product, len(tried), len(failed), waiting, len(left) - len(failed))
            )

    def _warn_of_patterns(self, done: set[str]) -> None:
        """Log that ``components`` and ``files`` match nothing of the filesets that are ``done``."""
        if done and matches_nothing(self.layout, self._settings, sorted(done)):
            log.warning(
                "product %s: components and files in the settings match no file of what this run completed "
                "(%s), only documents came. Correct the patterns; the next update fetches the rest.",
                *(self.product, as_count(len(done), "fileset")),
            )

    def _record(self, done: int, failed: int) -> None:
        """Write the marker of the update, and delete expired filesets, and withdrawn ones if that is set."""
        finish_product(self.layout, self.product, self.started, failed=failed)
        self._delete_expired()
        if self.context.settings.mirror.on_removed == "delete":
            self._delete_withdrawn()

    def _delete_expired(self) -> None:
        with sky_knowledge(self.context.settings, self.layout, self._settings) as sky:
            if deleted := delete_expired(self.context, self.product, sky):
                log.info("product %s: %s deleted", self.product, as_count(deleted, "expired fileset"))

    def _delete_withdrawn(self) -> None:
        if deleted := delete_withdrawn(self.context, self.product):
            log.info("product %s: %s deleted", self.product, as_count(deleted, "withdrawn fileset"))


def _failure_message(product: str, tried: int, failed: int, later: dict[str, str], without_space: int) -> str:
    parts = [f"{failed} of {as_count(tried, 'pending fileset')} failed"] if failed else []
    if later:
        parts.append(_later_message(product, later))
    if without_space:
        parts.append(f"{as_count(without_space, 'fileset')} not tried, for want of disk space")
    return f"product {product}: " + "; ".join(parts)


def _later_message(product: str, later: dict[str, str]) -> str:
    """Return a clause on failed filesets that wait for the times (UTC) of their next tries."""
    first = min(later, key=lambda name: later[name])
    product = shlex.quote(product)
    if len(later) == 1:
        skip = f"`ipp-mirror skip {product} {shlex.quote(first)} --reason …` skips it"
        return f"1 fileset that failed before is tried again from {later[first]} on ({skip})"
    skip = f"`ipp-mirror skip {product} FILESET --reason …` skips one"
    return (
        f"{len(later)} filesets that failed before are tried again later, the next ({first}) from "
        f"{later[first]} on ({skip})"
    )
