"""State of one product as one value."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Product, Settings
from pipeline.datastore.listing import registered_time
from pipeline.errors import MachineFault
from pipeline.mirror.state.failures import failed_in, failures
from pipeline.mirror.state.layout import LOOK_UP_AT_MOST, Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import time_since
from pipeline.mirror.state.selection import empty_selection
from pipeline.mirror.state.sky_selection import waiting
from pipeline.mirror.state.snapshot import held_bytes
from pipeline.mirror.state.steps import Steps, StepSpec
from pipeline.reporting.amounts import mean_of_stages, stored_bytes_by_stage
from pipeline.reporting.failure_groups import ListingFailure, listing_failure_of
from pipeline.reporting.filesets import CountedFilesets, FilesetCounts, count_filesets


@dataclass(frozen=True)
class ProductReport:
    """One product: its filesets, ``bytes`` in ``store/`` as listed, and the newest fileset that is here.

    ``configured`` is False for one that the settings do not name any more: none of its filesets is selected.
    ``bytes`` is an estimate unless ``bytes_exact``. ``bytes_left`` are to be fetched, by the filesets of each
    stage that are here; unless ``bytes_left_known`` also by those of other stages, or 0 without any.
    ``newest_age`` is in seconds; None without a valid time.
    ``failed`` are filesets without a required step, ``failed_optional`` those without an optional one alone.
    ``listing_failure`` is None where the last discovery succeeded, or the settings do not name the product.
    """

    product: str
    configured: bool
    filesets: FilesetCounts
    failed: int
    failed_optional: int
    bytes: int
    bytes_exact: bool
    bytes_left: int
    bytes_left_known: bool
    newest: str | None
    newest_registered: str | None
    newest_age: int | None
    last_update: str | None
    note: str | None
    listing_failure: ListingFailure | None = None


def product_report(
    layout: Layout, settings: Settings, product: Product, steps: Steps, now: datetime, fault: str | None
) -> ProductReport:
    """Return the state of a product at the time ``now``; ``fault`` is that of the catalog, if any.

    Raises ServerUnavailable for a damaged listing, OSError.
    """
    name, required = product.name, steps.required
    configured = settings.is_configured(name)
    records = failures(layout, name)
    failed = len(failed_in(records, (step.name for step in required)))
    held, is_exact = held_bytes(layout.marker_folder(MarkerKind.DOWNLOADED, name), LOOK_UP_AT_MOST)
    updated = (read_marker(layout.updated(name)) or {}).get("finished")
    (counts, to_download, newest), note = _counts(
        layout, settings, product, required, fault, configured=configured
    )
    registered = registered_time(newest.registered) if newest else None
    bytes_left, is_known = _bytes_left(layout, name, to_download)
    return ProductReport(
        product=name,
        configured=configured,
        filesets=counts,
        failed=failed,
        failed_optional=len(records) - failed,
        bytes=held,
        bytes_exact=is_exact,
        bytes_left=bytes_left,
        bytes_left_known=is_known,
        newest=newest.name if newest else None,
        newest_registered=newest.registered if newest else None,
        newest_age=int((now - registered).total_seconds()) if registered else None,
        last_update=updated if time_since(updated) is not None else None,
        note=note,
        listing_failure=listing_failure_of(layout, name) if configured else None,
    )


def _counts(
    layout: Layout,
    settings: Settings,
    product: Product,
    required: tuple[StepSpec, ...],
    fault: str | None,
    *,
    configured: bool,
) -> tuple[CountedFilesets, str | None]:
    """Return the numbers of filesets, and a sentence where the selection is empty, waits or is not known.

    A catalog with a ``fault`` is not asked, for that may take long.
    """
    chosen = product if configured else None
    if fault and product.by_sky:
        return count_filesets(layout, chosen, product.name, required), fault
    try:
        with sky_knowledge(settings, layout, product) as sky:
            counted = count_filesets(layout, chosen, product.name, required, sky)
            rows = LocalListing(layout, product.name).rows()
            empty = empty_selection(product, rows, sky, each=True) if configured else None
            return counted, empty or waiting(product, sky)
    except MachineFault as fault:
        return count_filesets(layout, chosen, product.name, required), str(fault)


def _bytes_left(layout: Layout, product: str, left: Counter[str | None]) -> tuple[int, bool]:
    """Return the bytes to fetch, by filesets here; False where some are taken from other stages."""
    if not left:
        return 0, True
    sizes = stored_bytes_by_stage(layout, product)
    other = mean_of_stages(sizes.values())
    estimated = sum(number * sizes.get(stage, other) for stage, number in left.items())
    return round(estimated), left.keys() <= sizes.keys()
