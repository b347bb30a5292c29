"""Acquisition of the mirror's lock, and of what a run that was killed with it has left."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import MirrorError, machine_fault
from pipeline.mirror.context import RunContext
from pipeline.mirror.resources.peers import wait_for_exit
from pipeline.mirror.resources.update_lock import update_lock
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_format import record_root_format
from pipeline.mirror.steps.housekeeping import remove_half_written
from pipeline.reporting.history import append_record
from pipeline.reporting.progress import run_so_far


@dataclass(frozen=True)
class LastRun:
    """Last run that held the lock.

    ``killed`` has its host and process if it was killed: none of its tasks is running; empty otherwise.
    ``workers`` are those of an update that was killed, by the names that Luigi's scheduler has for them.
    ``not_recorded`` says why a run that was killed has no row in the history.
    """

    killed: dict[str, Any] = field(default_factory=dict)
    workers: list[str] = field(default_factory=list)
    not_recorded: MirrorError | None = None


@contextmanager
def mirror_acquired(context: RunContext) -> Iterator[LastRun]:
    """Hold the lock of the mirror, without the leftovers of a killed run. Raises AlreadyRunning, OSError."""
    layout = context.layout
    with update_lock(layout) as killed:
        workers = wait_for_exit(layout)
        remove_half_written(layout)
        record_root_format(layout)
        not_recorded = _record_killed(layout, killed)
        # Links that were deleted with what was in progress.
        context.place(layout.products_on_volumes())
        yield LastRun(killed, workers, not_recorded)


def _record_killed(layout: Layout, killed: dict[str, Any]) -> MirrorError | None:
    """Add the row of a run that was killed to the history; return why that failed.

    That is before anything that may fail, as this run is then the last holder of the lock, and before the
    progress of that run is replaced.
    """
    pid, since = killed.get("pid"), killed.get("since")
    if not isinstance(pid, int) or not isinstance(since, str):
        return None
    try:
        if record := run_so_far(layout, pid, since):
            append_record(layout, record)
    except OSError as error:
        # The log is not open yet.
        return machine_fault("adding the run that was killed to the history", error)
    return None
