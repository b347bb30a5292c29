"""Run that works or was killed: who holds the lock of the mirror, and how far the run has come."""

from dataclasses import dataclass

from pipeline.mirror.resources.update_lock import read_holder
from pipeline.mirror.state.layout import Layout
from pipeline.reporting.history import RunRecord
from pipeline.reporting.progress import RunProgress, read_progress, run_so_far


@dataclass(frozen=True)
class LockHolder:
    """Run that holds the lock of the mirror, or that was killed with it. ``since`` is UTC, as text."""

    host: str
    pid: int
    since: str
    is_alive: bool


def with_unfinished(layout: Layout, history: list[RunRecord], holder: LockHolder | None) -> list[RunRecord]:
    """Return the runs with the one that works, or that was killed, unless it had its row in the history.

    The ``history`` was read before: a run removes its progress, then appends its row.
    """
    unfinished = run_so_far(layout, holder.pid, holder.since) if holder else None
    return [*history, unfinished] if unfinished else history


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


def progress_of(layout: Layout, holder: LockHolder | None) -> RunProgress | None:
    """Return the progress of the run that works; None without one, and while it is not known."""
    if holder is None or not holder.is_alive:
        return None
    return read_progress(layout, holder.pid, holder.since)
