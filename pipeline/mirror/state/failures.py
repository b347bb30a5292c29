"""Failure records: which step of which fileset failed, and why. A record is removed after success.

A fileset that is itself at fault is tried in every run at first, then with exponential back-off. When the
server or this machine was at fault, the next run tries it again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.durable import remove_files
from pipeline.errors import (
    FilesFailed,
    MachineFault,
    MirrorError,
    ServerUnavailable,
    kind_of,
    with_next_try,
)
from pipeline.mirror.state.layout import Layout, MarkerKind, short_digest
from pipeline.mirror.state.marker_file import SUFFIX, can_name_marker, read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, time_since, utc_now, utc_text

LONGEST_PAUSE = timedelta(days=7)


@dataclass(frozen=True)
class BackOff:
    """Exponential back-off of filesets that are themselves at fault.

    The first ``every_run`` attempts are made in consecutive runs; after that the next one is due after
    ``first_pause``, which doubles with each attempt up to ``longest_pause``.
    """

    every_run: int
    first_pause: timedelta = timedelta(hours=1)
    longest_pause: timedelta = LONGEST_PAUSE

    def next_try(self, faults: int) -> str | None:
        """Return when the next attempt is due (UTC) after that many faults; None for the next run."""
        beyond = faults - self.every_run
        if beyond < 0:
            return None
        # 2**20 hours are far beyond any pause; without the bound the product could overflow.
        pause: timedelta = min(self.first_pause * 2 ** min(beyond, 20), self.longest_pause)
        return utc_text(datetime.now(UTC) + pause)


def record_failure(
    layout: Layout, fileset: Fileset, step: str, error: MirrorError, run: str, back_off: BackOff
) -> str | None:
    """Add one failed attempt at a step, now, to the fileset's record. ``run`` identifies the update.

    Return when the next attempt is due (UTC), None for the next run.
    """
    path = _path(layout, fileset)
    before = read_marker(path) or {}
    if before.get("step", step) != step:
        before = {}
    now = utc_now()
    reasons = error.reasons if isinstance(error, FilesFailed) else {"": error}
    faults = before.get("faults", 0) + any(_is_own_fault(reason) for reason in reasons.values())
    next_try = back_off.next_try(faults)
    write_marker(
        path,
        {
            "product": fileset.product,
            "fileset": fileset.name,
            "registered": fileset.registered,
            "step": step,
            "run": run,
            "attempts": before.get("attempts", 0) + 1,
            "faults": faults,
            "first_failed": before.get("first_failed", now),
            "last_failed": now,
            "next_try": next_try,
            "files": [
                {"file": name, "reason": with_next_try(str(reason), next_try), "kind": kind_of(reason)}
                for name, reason in reasons.items()
            ],
        },
    )
    return next_try


def retry_failures(
    layout: Layout, product: str, matches: Callable[[Mapping[str, Any]], bool]
) -> tuple[int, int]:
    """Make the failed filesets whose records match due now, as if they had failed for the first time.

    Return the number of records that match, and of those that were postponed. An update may be running: a
    record that a step writes or removes meanwhile is as that step, or this function, left it.
    """
    matching = postponed = 0
    for path, record in _records(layout, product):
        if record is None or not matches(record):
            continue
        matching += 1
        postponed += is_postponed(record)
        files = [
            file | {"reason": with_next_try(str(file.get("reason", "")), None)} for file in record["files"]
        ]
        write_marker(path, record | {"faults": 0, "next_try": None, "files": files}, shared=True)
    return matching, postponed


def is_postponed(record: Mapping[str, Any]) -> bool:
    """Return True if the next attempt of the record is not due yet.

    One that is further away than ``LONGEST_PAUSE`` is due: the clock was wrong when it was recorded.
    """
    passed = time_since(record.get("next_try"))
    return passed is not None and -LONGEST_PAUSE <= passed < timedelta(0)


def has_failed(layout: Layout, fileset: Fileset, run: str) -> bool:
    """Return True if a step of this registration of the fileset has failed in that update."""
    record = read_marker(_path(layout, fileset)) or {}
    return (record.get("run"), record.get("registered")) == (run, fileset.registered)


def clear_failure(layout: Layout, fileset: Fileset, steps: Iterable[str] | None = None) -> None:
    """Remove the fileset's record, if there is one; with ``steps`` unless another step failed."""
    path = _path(layout, fileset)
    if path.exists():
        step = (read_marker(path) or {}).get("step")
        if steps is None or step is None or step in steps:
            remove_files([path])


def clear_failures_except(layout: Layout, product: str, pending: set[str]) -> None:
    """Remove the records of filesets that are not pending, and those that cannot be read."""
    remove_files(
        path
        for path, record in _records(layout, product)
        if record is None or record["fileset"] not in pending
    )


def failures(layout: Layout, product: str) -> list[dict[str, Any]]:
    """Return the records of all failed filesets of a product, sorted by name."""
    return [record for _, record in _records(layout, product) if record]


def failed_in(records: Iterable[dict[str, Any]], steps: Iterable[str]) -> list[dict[str, Any]]:
    """Return the records that name one of the steps.

    A record without a step was written by a version that knew required steps only, and counts as one of
    each.
    """
    # Not a set: in a record that another program wrote, the step may be anything.
    names = list(steps)
    return [record for record in records if record.get("step") is None or record["step"] in names]


def _is_own_fault(reason: MirrorError) -> bool:
    return not isinstance(reason, ServerUnavailable | MachineFault)


def _records(layout: Layout, product: str) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yield the path and content of each record, sorted by name; None for one that cannot be read."""
    for name in sorted(layout.names(MarkerKind.FAILED, product)):
        path = layout.state(product) / MarkerKind.FAILED / f"{name}{SUFFIX}"
        record = read_marker(path)
        yield path, record if record and record.keys() >= {"fileset", "registered", "files"} else None


def _path(layout: Layout, fileset: Fileset) -> Path:
    """Return the path of a record; a digest stands for a name that may not become a path, or is too long."""
    name = fileset.name
    if not can_name_marker(name):
        name = f"unusable-name-{short_digest(name)}"
    return layout.marker(MarkerKind.FAILED, fileset.product, name)
