"""What went wrong with which fileset: one record each, gone after success.

A fileset that is itself at fault is tried in every run at first, then ever more rarely. When the
server or this machine was at fault, the next run tries it again.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.durable import remove_files
from pipeline.errors import FilesFailed, MachineFault, MirrorError, ServerUnavailable
from pipeline.mirror.state.layout import Layout, MarkerKind, short_digest
from pipeline.mirror.state.marker_file import SUFFIX, read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.names import is_usable

FIRST_PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(days=7)


def record_failure(layout: Layout, fileset: Fileset, error: MirrorError, run: str, every_run: int) -> None:
    """Add one failed attempt, now, to the fileset's record. ``run`` tells the update from all others.

    After ``every_run`` attempts that were the fileset's own fault, the next one is due after a pause
    that doubles with each: ``next_try`` in the record, UTC.
    """
    path = _path(layout, fileset)
    before = read_marker(path) or {}
    now = utc_now()
    reasons = error.reasons if isinstance(error, FilesFailed) else {"": error}
    faults = before.get("faults", 0) + any(_is_own_fault(reason) for reason in reasons.values())
    write_marker(
        path,
        {
            "product": fileset.product,
            "fileset": fileset.name,
            "registered": fileset.registered,
            "run": run,
            "attempts": before.get("attempts", 0) + 1,
            "faults": faults,
            "first_failed": before.get("first_failed", now),
            "last_failed": now,
            "next_try": _next_try(faults - every_run),
            "files": [{"file": name, "reason": str(reason)} for name, reason in reasons.items()],
        },
    )


def has_failed(layout: Layout, fileset: Fileset, run: str) -> bool:
    """Whether this registration of the fileset has failed in that update."""
    record = read_marker(_path(layout, fileset)) or {}
    return (record.get("run"), record.get("registered")) == (run, fileset.registered)


def clear_failure(layout: Layout, fileset: Fileset) -> None:
    """Forget the record after success."""
    path = _path(layout, fileset)
    if path.exists():
        remove_files([path])


def clear_failures_except(layout: Layout, product: str, pending: set[str]) -> None:
    """Forget the records of filesets that are done, withdrawn or unwanted, and those that say nothing."""
    remove_files(
        path
        for path, record in _records(layout, product)
        if record is None or record["fileset"] not in pending
    )


def failures(layout: Layout, product: str) -> list[dict[str, Any]]:
    """The records of all failed filesets of a product, by name."""
    return [record for _, record in _records(layout, product) if record]


def waiting(layout: Layout, product: str) -> dict[str, str]:
    """The failed filesets that are not to be tried yet, and when they are (UTC)."""
    now = utc_now()
    due = {record["fileset"]: record.get("next_try") or "" for record in failures(layout, product)}
    return {name: when for name, when in due.items() if when > now}


def _is_own_fault(reason: MirrorError) -> bool:
    return not isinstance(reason, ServerUnavailable | MachineFault)


def _next_try(too_many: int) -> str | None:
    if too_many < 0:
        return None
    pause = min(FIRST_PAUSE * 2 ** min(too_many, 20), LONGEST_PAUSE)
    return (datetime.now(UTC) + pause).isoformat(timespec="seconds").replace("+00:00", "Z")


def _records(layout: Layout, product: str) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Each record, by name, with its path; None for one that does not say what a record says."""
    for name in sorted(layout.marked(MarkerKind.FAILED, product)):
        path = layout.state(product) / MarkerKind.FAILED / f"{name}{SUFFIX}"
        record = read_marker(path)
        yield path, record if record and record.keys() >= {"fileset", "registered", "files"} else None


def _path(layout: Layout, fileset: Fileset) -> Path:
    """A fileset whose name may not become a path, or is too long for one, is recorded under its digest."""
    name = fileset.name
    if not is_usable(name + SUFFIX):
        name = f"unusable-name-{short_digest(name)}"
    return layout.marker(MarkerKind.FAILED, fileset.product, name)
