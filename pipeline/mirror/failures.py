"""What went wrong with which fileset: one record each, gone after success."""

from pathlib import Path
from typing import Any

from pipeline.durable import remove_files
from pipeline.errors import FilesFailed, HostileName, MirrorError
from pipeline.mirror.layout import Layout, Step, short_digest
from pipeline.mirror.markers import Fileset, read_marker, utc_now, write_marker


def record_failure(layout: Layout, fileset: Fileset, error: MirrorError) -> None:
    """Add one failed attempt, now, to the fileset's record."""
    path = _path(layout, fileset)
    before = read_marker(path) or {}
    now = utc_now()
    reasons = error.reasons if isinstance(error, FilesFailed) else {"": error}
    write_marker(
        path,
        {
            "product": fileset.product,
            "fileset": fileset.name,
            "registered": fileset.registered,
            "attempts": before.get("attempts", 0) + 1,
            "first_failed": before.get("first_failed", now),
            "last_failed": now,
            "files": [{"file": name, "reason": str(reason)} for name, reason in reasons.items()],
        },
    )


def clear_failure(layout: Layout, fileset: Fileset) -> None:
    """Forget the record after success."""
    path = _path(layout, fileset)
    if path.exists():
        remove_files([path])


def failures(layout: Layout, product: str) -> list[dict[str, Any]]:
    """The records of all failed filesets of a product, by name."""
    folder = layout.state(product) / Step.FAILED
    records = (read_marker(folder / f"{name}.json") for name in sorted(layout.marked(Step.FAILED, product)))
    return [record for record in records if record]


def _path(layout: Layout, fileset: Fileset) -> Path:
    """A name that may not become a path is recorded under its digest."""
    try:
        return layout.marker(Step.FAILED, fileset.product, fileset.name)
    except HostileName:
        return layout.marker(Step.FAILED, fileset.product, f"unusable-name-{short_digest(fileset.name)}")
