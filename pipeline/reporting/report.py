"""State of a mirror as one value: for the command, for JSON, and for monitoring.

All of it is read from counters, snapshots, names of markers and records of failures. Nothing is written.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline.catalog.awaiting import filesets_behind
from pipeline.catalog.health import catalog_fault
from pipeline.config import Settings
from pipeline.mirror.resources.volumes import volume_problems
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import utc_text
from pipeline.mirror.state.operands import has_mirror, no_mirror
from pipeline.mirror.state.pause import pause_message
from pipeline.mirror.state.skip import skipped
from pipeline.mirror.state.steps import Steps
from pipeline.reporting.amounts import limited
from pipeline.reporting.disks import Disk, disks
from pipeline.reporting.failure_groups import FailureGroup, failure_groups
from pipeline.reporting.history import RunRecord, bytes_per_day, fetch_rate, read_history
from pipeline.reporting.lock_holder import LockHolder, holder_of, progress_of, with_unfinished
from pipeline.reporting.product_report import ProductReport, product_report
from pipeline.reporting.progress import RunProgress
from pipeline.reporting.status_files import verification_problems


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
    progress = progress_of(layout, holder)
    included = steps.included(settings)
    names = _products(layout, settings)
    runs = _runs(layout, settings, holder, now)
    fault = catalog_fault(settings, layout, is_working=holder is not None and holder.is_alive)
    products = tuple(
        product_report(layout, settings, settings.product(name), included, now, fault) for name in names
    )
    return MirrorReport(
        root=str(layout.root),
        time=utc_text(now),
        holder=holder,
        progress=progress,
        last_update=runs.last_update,
        last_success=_last_success(products),
        products=products,
        failures=tuple(group for name in names for group in failure_groups(layout, name, included)),
        skipped=tuple(_texts(marker) for name in names for marker in skipped(layout, name)),
        disks=disks(layout, settings, runs.bytes_per_day, now),
        volumes=tuple(volume_problems(layout, settings)),
        bytes_per_day=runs.bytes_per_day,
        rate=runs.rate,
        verification=_verification(read_marker(layout.verified), read_marker(layout.verification)),
        comparison=_verification(read_marker(layout.compared), read_marker(layout.comparison)),
        problems=tuple(verification_problems(layout, steps)),
        catalog_behind=behind_catalog(layout, settings),
        catalog_fault=fault,
        paused=pause_message(layout),
    )


class _Runs(NamedTuple):
    """Fields of ``MirrorReport`` that follow from the history."""

    last_update: RunRecord | None
    bytes_per_day: float | None
    rate: float | None


def _runs(layout: Layout, settings: Settings, holder: LockHolder | None, now: datetime) -> _Runs:
    history = read_history(layout)
    updates = [record for record in history if record.is_update]
    runs = with_unfinished(layout, history, holder)
    fetched = fetch_rate(runs)
    rate = limited(fetched.bytes_per_second if fetched else None, settings.source.rate_limit)
    return _Runs(updates[-1] if updates else None, bytes_per_day(runs, now), rate)


def _products(layout: Layout, settings: Settings) -> list[str]:
    """Return the products with any state, and those that the settings name."""
    return sorted({*layout.state_products(), *(each.name for each in settings.mirror.products or ())})


def _last_success(products: Iterable[ProductReport]) -> str | None:
    """Return the time since which an update has gone through each product; None before that."""
    ends = [product.last_update for product in products if product.configured]
    known = [end for end in ends if end is not None]
    return min(known) if known and len(known) == len(ends) else None


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
