"""Making of the plan of an update: by what is here, and what the server lists. Nothing is written.

Numbers of files and bytes come from listings of filesets. Of each product and stage some listings are read;
all other filesets are taken to be like these, or like those of the product and stage that are here.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from shutil import disk_usage

from pipeline.bundle.unpack import USUAL_RATIO
from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Settings
from pipeline.datastore.client import ListingClient, NoAnswer
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import MirrorError, ServerUnavailable, machine_faults
from pipeline.mirror.resources.disk_space import MinFree
from pipeline.mirror.resources.file_systems import nearest_folder
from pipeline.mirror.resources.volumes import product_folder, product_problem, volume_problems
from pipeline.mirror.state.file_selection import FileSelection, chosen_rows
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.operands import check_products
from pipeline.mirror.state.selection import empty_selection
from pipeline.mirror.state.steps import Steps
from pipeline.mirror.steps.discover import needs_whole_list
from pipeline.mirror.steps.download import fetch_listing, reusable_file
from pipeline.mirror.steps.preview import (
    ListingPreview,
    WorkPreview,
    count_expiring,
    known_listing,
    preview_listing,
    preview_work,
)
from pipeline.names import is_usable
from pipeline.reporting.amounts import Amount, limited, mean, spread, stored_amounts, total
from pipeline.reporting.history import fetch_rate, read_history
from pipeline.reporting.lock_holder import holder_of, with_unfinished
from pipeline.reporting.plan import DiskPlan, Plan, ProductPlan

# Filesets here by whose sizes those of others of their stage are estimated.
SAMPLED_FILESETS = 50


@dataclass(frozen=True)
class Planner:
    """Makes the plan of an update; ``steps`` are all rows of the workflow.

    ``listings`` is None for a plan of what is known without the server; else the listings of at most
    ``listings_read`` filesets of each product and stage are read. ``asking`` is called with each product of
    which the server is asked.
    """

    settings: Settings
    layout: Layout
    steps: Steps
    listings: ListingClient | None
    listings_read: int
    asking: Callable[[str], object] = lambda _product: None

    def plan(self, products: Sequence[str]) -> Plan:
        """Return the plan of an update of the products. Nothing is written. Raises OSError."""
        volumes = list(volume_problems(self.layout, self.settings, products))
        plans = self._plan_products(products)
        runs = with_unfinished(self.layout, read_history(self.layout), holder_of(self.layout))
        fetched = fetch_rate(runs)
        rate = limited(fetched.bytes_per_second if fetched else None, self.settings.source.rate_limit)
        return Plan(plans, volumes, self._disks(plans), fetched, rate)

    def _plan_products(self, products: Sequence[str]) -> list[ProductPlan]:
        """Return the plan of each; once the server gives no answer, the others are of what is known."""
        plans: list[ProductPlan] = []
        planner = self
        for product in products:
            plans.append(planner._plan_product(product))
            if plans[-1].unanswered:
                planner = replace(self, listings=None)
        return plans

    def _plan_product(self, product: str) -> ProductPlan:
        listing, failure = self._listing(product)
        plan = ProductPlan(product, known=len(listing.rows), new=len(listing.new))
        if failure:
            plan = replace(plan.with_problem(failure), unanswered=isinstance(failure, NoAnswer))
        chosen = self.settings.product(product)
        try:
            with sky_knowledge(self.settings, self.layout, chosen) as sky, _reading(product):
                work = preview_work(self.layout, chosen, self.steps.included(self.settings), listing, sky)
                to_expire = count_expiring(self.layout, chosen, self.steps, listing, sky)
                empty = empty_selection(chosen, listing.rows, sky, each=True)
        except MirrorError as error:
            return plan.with_problem(error)
        plan = replace(
            plan,
            selected=work.selected,
            complete=work.complete,
            skipped=work.skipped,
            postponed=work.postponed,
            due=len(work.due),
            to_fetch=len(work.to_fetch),
            to_expire=to_expire,
            amount=self._to_unpack(product, work),
            problems=(*plan.problems, *([empty] if empty else ())),
        )
        # Of a server that has just failed to send a listing, no others are requested.
        most = 0 if failure else self.listings_read
        for stage, rows in _by_stage(work.to_fetch).items():
            plan = self._add_stage(plan, listing, stage, rows, 0 if plan.unanswered else most)
        return plan

    def _listing(self, product: str) -> tuple[ListingPreview, ServerUnavailable | None]:
        """Return the listing as the server has it, or as it is known, and why the server sent none."""
        if self.listings is None:
            return known_listing(self.layout, product), None
        self.asking(product)
        whole = needs_whole_list(self.layout, product, self.settings, self.steps.included(self.settings))
        try:
            return preview_listing(self.layout, self.listings, product, whole=whole), None
        except ServerUnavailable as error:
            return known_listing(self.layout, product), error

    def _to_unpack(self, product: str, work: WorkPreview) -> Amount:
        """Return the bytes of bundles that are here and are to be unpacked."""
        fetched = {row.name for row in work.to_fetch}
        rows = [row for row in work.due if row.name not in fetched]
        some = list(stored_amounts(self.layout, product, spread(rows, SAMPLED_FILESETS)))
        return Amount(packed=mean(some).packed * len(rows)) if some else Amount()

    def _add_stage(
        self, plan: ProductPlan, listing: ListingPreview, stage: str | None, rows: list[FilesetRow], most: int
    ) -> ProductPlan:
        """Return the plan with the filesets of one stage to fetch, of which ``most`` listings are read."""
        results = self._read(plan.product, spread(rows, most))
        amounts = [result for result in results if isinstance(result, Amount)]
        for result in results:
            if isinstance(result, MirrorError):
                plan = plan.with_problem(result)
        if results and all(isinstance(result, NoAnswer) for result in results):
            plan = replace(plan, unanswered=True)
        unread = len(rows) - len(amounts)
        sample = amounts
        if unread and not sample:
            marked = self.layout.names(MarkerKind.DOWNLOADED, plan.product)
            here = (row for row in reversed(listing.rows) if row.name in marked)
            same = (row for row in here if row.column("stage") == stage)
            sample = list(stored_amounts(self.layout, plan.product, islice(same, SAMPLED_FILESETS)))
        if not sample:
            return replace(plan, unknown=plan.unknown + unread)
        amount = plan.amount + total(amounts) + mean(sample).times(unread)
        return replace(plan, amount=amount, estimated=plan.estimated + unread)

    def _read(self, product: str, rows: list[FilesetRow]) -> list[Amount | MirrorError]:
        """Return the amount of each fileset by its listing, or why the listing could not be read."""
        client = self.listings
        if client is None or not rows:
            return []

        def amount(row: FilesetRow) -> Amount | MirrorError:
            try:
                with _reading(product):
                    return self._amount(client, Fileset.of(product, row))
            except MirrorError as error:
                return error

        with ThreadPoolExecutor(self.settings.source.connections) as pool:
            return list(pool.map(amount, rows))

    def _amount(self, client: ListingClient, fileset: Fileset) -> Amount:
        """Return what is to be fetched of the fileset by its listing, without the files that are here."""
        _, listed = fetch_listing(client, fileset)
        selection = FileSelection.of(self.settings.product(fileset.product))
        rows = chosen_rows(self.layout, selection, fileset, listed)
        missing = [row for row in rows if reusable_file(self.layout, fileset, row) is None]
        packed = sum(row.bytes for row in rows if row.is_bundle)
        return Amount(len(missing), sum(row.bytes for row in missing), packed)

    def _disks(self, products: list[ProductPlan]) -> list[DiskPlan]:
        """Return the file systems of the mirror with the bytes that the plan needs on each."""
        mirror, min_free = self.settings.mirror, MinFree.of(self.layout, self.settings.mirror)
        # The root comes first, and names its file system.
        needed: dict[Path, float] = defaultdict(float, {nearest_folder(self.layout.root): 0.0})
        for product in products:
            if product_problem(self.layout, self.settings, product.product):
                continue
            amount, (store, data) = product.amount, self._places(product.product)
            removed = amount.packed if mirror.unpack and not mirror.keep_bundles else 0
            needed[nearest_folder(store)] += max(0, amount.bytes - removed)
            needed[nearest_folder(data)] += amount.packed * USUAL_RATIO if mirror.unpack else 0
        disks: dict[int, tuple[Path, float]] = {}
        for folder, count in needed.items():
            device = folder.stat().st_dev
            first, others = disks.get(device, (folder, 0))
            disks[device] = first, others + count
        return [
            DiskPlan(folder, disk_usage(folder).free, min_free.on(device)[0], round(count))
            for device, (folder, count) in disks.items()
        ]

    def _places(self, product: str) -> tuple[Path, Path]:
        """Return the folders on whose file systems the product's files come to lie, fetched and unpacked."""
        if folder := product_folder(self.layout, self.settings, product):
            return folder.parent, folder.parent
        return self.layout.store_of(product), self.layout.data


def planned_products(
    settings: Settings, layout: Layout, listings: ListingClient | None, only: Sequence[str]
) -> list[str]:
    """Return the products that an update takes, or those of ``only``; without ``listings`` the known ones.

    Raises SettingsError when ``only`` names another product, ServerUnavailable when the listing of the root
    is needed and the server does not send it.
    """
    named = settings.mirror.products
    if named is not None:
        products = [product.name for product in named]
    else:
        listed = [row.name for row in listings.products()] if listings else layout.state_products()
        hidden = [name for name in settings.source.hidden_products if name not in listed]
        products = [name for name in listed if is_usable(name)] + hidden
    check_products(only, products, settings, "Nothing was planned.")
    return list(only) or products


def _reading(product: str) -> AbstractContextManager[None]:
    """Turn an OSError in the ``with`` block, as one of a disk that does not answer, into MachineFault."""
    return machine_faults(f"looking for what is here of product {product}")


def _by_stage(rows: list[FilesetRow]) -> dict[str | None, list[FilesetRow]]:
    stages: dict[str | None, list[FilesetRow]] = defaultdict(list)
    for row in rows:
        stages[row.column("stage")].append(row)
    return stages
