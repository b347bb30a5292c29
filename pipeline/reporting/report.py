"""State of a mirror as one value: for the command, for JSON, and for monitoring.

All of it is read from counters, snapshots, names of markers and records of failures. Nothing is written.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.catalog.awaiting import filesets_behind
from pipeline.catalog.health import catalog_fault
from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Product, Settings
from pipeline.datastore.listing import registered_time
from pipeline.errors import KINDS, KINDS_HERE, MachineFault, cause_in, without_next_try
from pipeline.mirror.resources.update_lock import read_holder
from pipeline.mirror.resources.volumes import volume_problems
from pipeline.mirror.state.failures import failed_in, failures, is_postponed
from pipeline.mirror.state.layout import LOOK_UP_AT_MOST, Layout, MarkerKind
from pipeline.mirror.state.listing_failure import listing_failure
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import time_since, utc_text
from pipeline.mirror.state.operands import has_mirror, no_mirror
from pipeline.mirror.state.pause import pause_message
from pipeline.mirror.state.selection import empty_selection
from pipeline.mirror.state.skip import skipped
from pipeline.mirror.state.sky_selection import waiting
from pipeline.mirror.state.snapshot import held_bytes
from pipeline.mirror.state.steps import Steps, StepSpec
from pipeline.reporting.amounts import limited, mean_of_stages, stored_bytes_by_stage
from pipeline.reporting.disks import Disk, disks
from pipeline.reporting.filesets import CountedFilesets, FilesetCounts, count_filesets
from pipeline.reporting.history import RunRecord, bytes_per_day, fetch_rate, read_history
from pipeline.reporting.progress import RunProgress, read_progress, run_so_far
from pipeline.reporting.status import verification_problems

_EXAMPLES = 3


@dataclass(frozen=True)
class LockHolder:
    """Run that holds the lock of the mirror, or that was killed with it. ``since`` is UTC, as text."""

    host: str
    pid: int
    since: str
    is_alive: bool


@dataclass(frozen=True)
class ListingFailure:
    """Listing that could not be read since ``first_failed`` (UTC); ``kind`` as in FailureGroup."""

    kind: str
    here: bool
    reason: str
    first_failed: str
    last_failed: str


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


@dataclass(frozen=True)
class FailureGroup:
    """Filesets of a product that failed at one step for one cause.

    ``kind`` is one of ``pipeline.errors.KINDS``; ``here`` is True for those of this site. ``reason`` is that
    of the first fileset of ``examples``. ``next_try`` is the earliest (UTC), None for the next run;
    ``postponed`` counts the filesets that failed so often that the next run does not try them.
    ``first_failed`` and ``last_failed`` (UTC) are the first and the last attempt that failed of all of them.
    """

    product: str
    step: str
    kind: str
    here: bool
    optional: bool
    filesets: int
    examples: tuple[str, ...]
    reason: str
    next_try: str | None
    postponed: int
    first_failed: str | None
    last_failed: str | None


@dataclass(frozen=True)
class Verification:
    """Last verification, or comparison with upstream: when it ended (UTC) and how many problems it found.

    ``unfinished`` is the start of one that has not ended.
    """

    finished: str | None
    problems: int
    unfinished: str | None


@dataclass(frozen=True)
class MirrorReport:
    """State of a mirror. Times are UTC, sizes in bytes.

    ``progress`` is that of the holder; None in the first seconds of a run, too.
    ``last_success`` is when an update last went through the product for which that is longest ago.
    ``problems`` are those that verifications found and that are not repaired; ``catalog_behind`` is None
    without a catalog, ``catalog_fault`` unless the catalog cannot be used; ``bytes_per_day`` None before a
    day of history; ``rate`` is that at which an update will fetch by those that fetched much, in bytes per
    second, None where it is not known; ``paused`` is None unless updates are paused.
    ``volumes`` are sentences on what is wrong with them, each of which keeps runs from beginning.
    """

    root: str
    time: str
    holder: LockHolder | None
    progress: RunProgress | None
    last_update: RunRecord | None
    last_success: str | None
    products: tuple[ProductReport, ...]
    failures: tuple[FailureGroup, ...]
    skipped: tuple[dict[str, str], ...]
    disks: tuple[Disk, ...]
    volumes: tuple[str, ...]
    bytes_per_day: float | None
    rate: float | None
    verification: Verification
    comparison: Verification
    problems: tuple[dict[str, str], ...]
    catalog_behind: int | None
    catalog_fault: str | None
    paused: str | None


def mirror_report(
    layout: Layout, settings: Settings, steps: Steps, now: datetime | None = None
) -> MirrorReport:
    """Return the state of the mirror at the time ``now``.

    Raises SettingsError before the first update, ServerUnavailable for a damaged listing, OSError.
    """
    if not has_mirror(layout):
        raise no_mirror(layout)
    now = now or datetime.now(UTC)
    holder = holder_of(layout)
    # Read before the markers: no more filesets are done by it than the numbers of the products have.
    progress = _progress(layout, holder)
    included = steps.included(settings)
    names = _products(layout, settings)
    history = read_history(layout)
    runs = with_unfinished(layout, history, holder)
    daily, fetched = bytes_per_day(runs, now), fetch_rate(runs)
    updates = [record for record in history if record.is_update]
    fault = catalog_fault(settings, layout, is_working=holder is not None and holder.is_alive)
    products = tuple(
        _product(layout, settings, settings.product(name), included, now, fault) for name in names
    )
    return MirrorReport(
        root=str(layout.root),
        time=utc_text(now),
        holder=holder,
        progress=progress,
        last_update=updates[-1] if updates else None,
        last_success=_last_success(products),
        products=products,
        failures=tuple(group for name in names for group in failure_groups(layout, name, included)),
        skipped=tuple(_texts(marker) for name in names for marker in skipped(layout, name)),
        disks=disks(layout, settings, daily, now),
        volumes=tuple(volume_problems(layout, settings)),
        bytes_per_day=daily,
        rate=limited(fetched.bytes_per_second if fetched else None, settings.source.rate_limit),
        verification=_verification(read_marker(layout.verified), read_marker(layout.verification)),
        comparison=_verification(read_marker(layout.compared), read_marker(layout.comparison)),
        problems=tuple(verification_problems(layout, steps)),
        catalog_behind=behind_catalog(layout, settings),
        catalog_fault=fault,
        paused=pause_message(layout),
    )


def with_unfinished(layout: Layout, history: list[RunRecord], holder: LockHolder | None) -> list[RunRecord]:
    """Return the runs with the one that works, or that was killed, unless it had its row in the history.

    The ``history`` was read before: a run removes its progress, then appends its row.
    """
    unfinished = run_so_far(layout, holder.pid, holder.since) if holder else None
    return [*history, unfinished] if unfinished else history


def _products(layout: Layout, settings: Settings) -> list[str]:
    """Return the products with any state, and those that the settings name."""
    return sorted({*layout.state_products(), *(each.name for each in settings.mirror.products or ())})


def holder_of(layout: Layout) -> LockHolder | None:
    """Return the run that holds the lock, or that was killed with it; None without one."""
    holder, is_alive = read_holder(layout)
    if not holder and not is_alive:
        return None
    pid = holder.get("pid")
    return LockHolder(
        host=str(holder.get("host", "unknown")),
        pid=pid if isinstance(pid, int) else 0,
        since=str(holder.get("since", "unknown")),
        is_alive=is_alive,
    )


def _progress(layout: Layout, holder: LockHolder | None) -> RunProgress | None:
    if holder is None or not holder.is_alive:
        return None
    return read_progress(layout, holder.pid, holder.since)


def is_configured(settings: Settings, product: str) -> bool:
    """Return True for a product that the settings name, and for each where they name none."""
    products = settings.mirror.products
    return products is None or any(each.name == product for each in products)


def _product(
    layout: Layout, settings: Settings, product: Product, steps: Steps, now: datetime, fault: str | None
) -> ProductReport:
    name, required = product.name, steps.required
    configured = is_configured(settings, name)
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
        listing_failure=_listing_failure(layout, name) if configured else None,
    )


def listing_failures(layout: Layout, settings: Settings) -> dict[str, ListingFailure]:
    """Return why listings could not be read, by product, of those that are mirrored. Raises OSError."""
    names = layout.state_products(never_listed=True)
    found = {name: _listing_failure(layout, name) for name in sorted(names) if is_configured(settings, name)}
    return {name: failure for name, failure in found.items() if failure}


def _listing_failure(layout: Layout, product: str) -> ListingFailure | None:
    record = listing_failure(layout, product)
    if record is None:
        return None
    kind = record.get("kind")
    kind = kind if kind in KINDS else "unknown"
    texts = {key: str(record.get(key, "unknown")) for key in ("reason", "first_failed", "last_failed")}
    return ListingFailure(kind, kind in KINDS_HERE, **texts)


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


def _last_success(products: Iterable[ProductReport]) -> str | None:
    """Return the time since which an update has gone through each product; None before that."""
    ends = [product.last_update for product in products if product.configured]
    known = [end for end in ends if end is not None]
    return min(known) if known and len(known) == len(ends) else None


def failure_groups(layout: Layout, product: str, steps: Steps) -> list[FailureGroup]:
    """Return the failures of a product by cause, those of this site first. Raises OSError."""
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in failures(layout, product):
        first = record["files"][0] if record["files"] else {}
        kind = first.get("kind")
        kind = kind if kind in KINDS else "unknown"
        cause = cause_in(
            str(first.get("reason", "")), (str(first.get("file", "")), record["fileset"], product)
        )
        grouped.setdefault((str(record.get("step", "")), kind, cause), []).append(record)
    required = {step.name for step in steps.required}
    groups = [_group(product, *key[:2], records, required) for key, records in grouped.items()]
    return sorted(groups, key=lambda group: (KINDS.index(group.kind), -group.filesets))


def _group(
    product: str, step: str, kind: str, records: list[dict[str, Any]], required: set[str]
) -> FailureGroup:
    tries = [str(record["next_try"]) for record in records if is_postponed(record)]
    first = records[0]["files"][0] if records[0]["files"] else {}
    # Of the next try, ``next_try`` knows better.
    name, reason = str(first.get("file", "")), without_next_try(str(first.get("reason", "")))
    # An address ends with the name.
    file = f"{name}: " if name and f"/{name}: " not in reason else ""
    return FailureGroup(
        product=product,
        step=step,
        kind=kind,
        here=kind in KINDS_HERE,
        optional=bool(step) and step not in required,
        filesets=len(records),
        examples=tuple(record["fileset"] for record in records[:_EXAMPLES]),
        reason=f"{file}{reason}",
        next_try=min(tries) if len(tries) == len(records) else None,
        postponed=len(tries),
        first_failed=min(_values(records, "first_failed"), default=None),
        last_failed=max(_values(records, "last_failed"), default=None),
    )


def _values(records: list[dict[str, Any]], key: str) -> list[str]:
    return [str(record[key]) for record in records if key in record]


def _texts(marker: dict[str, Any]) -> dict[str, str]:
    return {key: str(marker.get(key, "")) for key in ("product", "fileset", "since", "by", "reason")}


def _verification(ended: dict[str, Any] | None, unfinished: dict[str, Any] | None) -> Verification:
    found = (ended or {}).get("failed", 0)
    return Verification(
        finished=(ended or {}).get("finished"),
        problems=found if isinstance(found, int) else 0,
        unfinished=_to_the_second((unfinished or {}).get("run")),
    )


def _to_the_second(run: Any) -> str | None:
    return f"{run[:19]}Z" if isinstance(run, str) else None


def behind_catalog(layout: Layout, settings: Settings) -> int | None:
    """Return the number of complete filesets that are to be cataloged; None without a catalog."""
    return filesets_behind(layout, settings) if settings.catalog.enabled else None
