"""Last line of a run: how many filesets there were to do, and what became of them, each counted once."""

from pipeline.mirror.context import RunCounters
from pipeline.units import as_size


def update_summary(counters: RunCounters, skipped: int, stopped: bool) -> str:
    """Return the numbers of an update: the filesets due are those completed, failed and left."""
    left = counters.due - counters.done - counters.failed
    line = (
        f"{counters.new} discovered, {counters.due} due: {counters.done} completed, "
        f"{counters.failed} failed, {_left(left, stopped)}; {skipped} skipped{_optional(counters)}"
    )
    if counters.adopted or counters.left:
        size = as_size(counters.adopted_bytes)
        line += f"; {counters.adopted} files ({size}) adopted, {counters.left} others left"
    return line


def verification_summary(counters: RunCounters, skipped: int, stopped: bool) -> str:
    """Return the numbers of a verification: the filesets here are those sound, repaired, damaged and left."""
    left = counters.due - counters.sound - counters.repaired - counters.damaged
    return (
        f"{counters.due} here: {counters.sound} sound, {counters.repaired} repaired, "
        f"{counters.damaged} with problems, {_left(left, stopped)}; "
        f"{skipped} skipped{_optional(counters)}"
    )


def _optional(counters: RunCounters) -> str:
    return f", {counters.optional_failed} failed in optional steps" if counters.optional_failed else ""


def _left(number: int, stopped: bool) -> str:
    return f"stopped, {number} left" if stopped else f"{number} left"
