"""Status files: the state of a mirror, for people and scripts.

Both are rewritten whole at the end of every run; the columns are those of docs/on-disk.md. A row is one
line of printable text, whatever the names and reasons in it hold.
"""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.config import Settings
from pipeline.durable import write_whole
from pipeline.mirror.state.failures import failed_in, failures
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing, Registration
from pipeline.mirror.state.marker_file import can_name_marker, read_marker
from pipeline.mirror.state.steps import UNEXPECTED, Steps
from pipeline.names import escaped

PRODUCT_COLUMNS = (
    "product",
    "last_fileset",
    "registered",
    "known",
    "complete",
    "failed",
    "skipped",
    "bytes",
    "last_update",
    "failed_optional",
)
FAILURE_COLUMNS = (
    "product",
    "fileset",
    "file",
    "reason",
    "attempts",
    "first_failed",
    "last_failed",
    "step",
)
PROBLEM_COLUMNS = ("product", "fileset", "found", "problem")
_NO_ROW = Registration("none", "none")
# Before all times of markers.
_NEVER = ("", 0)


def product_rows(
    layout: Layout, settings: Settings, steps: Steps, products: list[str]
) -> list[dict[str, Any]]:
    """Return the rows of ``product_status.csv``. Raises OSError."""
    return [product_status(layout, settings, steps, product) for product in products]


def write_status(layout: Layout, rows: list[dict[str, Any]]) -> None:
    """Rewrite the tables of products, which has these rows, and of their failures. Raises OSError."""
    write_whole(layout.product_status, _csv(PRODUCT_COLUMNS, rows), shared=True)
    failed = [failure for row in rows for failure in failure_rows(layout, row["product"])]
    write_whole(layout.download_failures, _csv(FAILURE_COLUMNS, failed), shared=True)


def product_status(layout: Layout, settings: Settings, steps: Steps, product: str) -> dict[str, Any]:
    """Return one row of ``product_status.csv``: numbers of filesets, and the bytes that ``store/`` holds."""
    listing = LocalListing(layout, product)
    last = (listing.last(1) or [_NO_ROW])[0]
    required = steps.included(settings).required
    updated = read_marker(layout.updated(product)) or {}
    records = failures(layout, product)
    failed = failed_in(records, (step.name for step in required))
    return {
        "product": product,
        "last_fileset": last.name,
        "registered": last.registered,
        "known": listing.count(),
        "complete": layout.count(required[-1].marker, product),
        "failed": len(failed),
        "skipped": layout.count(MarkerKind.SKIPPED, product),
        "bytes": updated.get("bytes", 0),
        "last_update": updated.get("finished", "never"),
        "failed_optional": len(records) - len(failed),
    }


def failure_rows(layout: Layout, product: str) -> list[dict[str, Any]]:
    """Return the rows of ``download_failures.csv`` of one product: one for each file that failed."""
    return [
        {column: (record | file).get(column, "") for column in FAILURE_COLUMNS}
        for record in failures(layout, product)
        for file in record["files"]
    ]


def verification_problems(layout: Layout, steps: Steps) -> list[dict[str, str]]:
    """Return what verifications found and is not repaired: a row of ``PROBLEM_COLUMNS`` for each problem.

    A fileset is repaired when a later verification of that kind finds none, or its steps were done again.
    """
    rows = _unexpected(layout, read_marker(layout.verified), "")
    for product in layout.state_products():
        verified = read_marker(layout.product_verified(product)) or {}
        compared = read_marker(layout.product_compared(product)) or {}
        rows += _unexpected(layout, verified, product)
        for kind, ended, unfinished in (
            (MarkerKind.VERIFIED, verified, layout.verification),
            (MarkerKind.COMPARED, compared, layout.comparison),
        ):
            names = _names_with_problems(ended)
            if names is None or unfinished.exists():
                names = layout.names(kind, product)
            rows += [row for name in sorted(names) for row in _unrepaired(layout, steps, product, name, kind)]
    return rows


def _names_with_problems(ended: dict[str, Any]) -> set[str] | None:
    """Return the filesets with problems by the marker of a verification of a product.

    None where the marker does not name them, as one of an earlier version.
    """
    named = ended.get("filesets") if ended.get("problems") else []
    if not isinstance(named, list):
        return None
    return {name for name in named if isinstance(name, str) and can_name_marker(name)}


def _unexpected(layout: Layout, verified: dict[str, Any] | None, product: str) -> list[dict[str, str]]:
    found = (verified or {}).get("unexpected", {})
    return [
        _problem(product, "", verified or {}, f"{path}: {what}")
        for path, what in found.items()
        if (layout.root / path).exists()
    ]


def _unrepaired(layout: Layout, steps: Steps, product: str, name: str, kind: str) -> list[dict[str, str]]:
    path = layout.marker(kind, product, name)
    verified = read_marker(path) or {}
    problems = verified.get("problems", [])
    if not problems:
        return []
    markers = {step.marker: layout.marker(step.marker, product, name) for step in steps}
    done = {step: _ended(marker, read_marker(marker)) for step, marker in markers.items()}
    again = [done.get(step, _NEVER) for step in verified.get("steps", [])]
    is_repaired = bool(again) and min(again) > _ended(path, verified)
    is_gone = set(done.values()) <= {_NEVER} and not layout.store(product, name).exists()
    if is_repaired or is_gone:
        return []
    found = [problem for problem in problems if not _is_gone(layout, problem)]
    return [_problem(product, name, verified, problem) for problem in found]


def _ended(path: Path, marker: dict[str, Any] | None) -> tuple[str, int]:
    """Return when a marker was made: the time in it, in seconds, and within one that of its file, in ns."""
    finished = (marker or {}).get("finished")
    try:
        return (str(finished), path.stat().st_mtime_ns) if finished else _NEVER
    except FileNotFoundError:
        return _NEVER


def _is_gone(layout: Layout, problem: str) -> bool:
    """Return True for an unexpected file that was removed: no step is done again for it."""
    path, is_unexpected, _ = problem.partition(f": {UNEXPECTED}")
    return bool(is_unexpected) and not os.path.lexists(layout.root / path)


def _problem(product: str, fileset: str, verified: dict[str, Any], problem: str) -> dict[str, str]:
    return {"product": product, "fileset": fileset, "found": verified["finished"], "problem": problem}


def _csv(columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) else value
