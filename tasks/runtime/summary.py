"""Last line of a run: how many filesets there were to do, and what became of them, each counted once."""

from pipeline.mirror.context import RunCounters
from pipeline.units import as_size


def update_summary(counters: RunCounters, complete: str, /, stopped: bool) -> str:
    """Return the numbers of an update: the selected filesets are those complete, failed, skipped and left.

    ``complete`` is the word for the complete ones: the kind of marker of the last required step.
    """
    left = counters.selected - counters.done - counters.failed - counters.skipped
    line = (
        f"{counters.new} discovered, {counters.selected} selected: {counters.done} {complete}, "
        f"{counters.failed} failed, {counters.skipped} skipped, {_left(left, stopped)}{_optional(counters)}"
    )
    if counters.adopted or counters.left:
        size = as_size(counters.adopted_bytes)
        line += f"; {counters.adopted} files ({size}) adopted, {counters.left} others left"
    return line


def verification_summary(counters: RunCounters, _complete: str, /, stopped: bool) -> str:
    """Return the numbers of a verification: the filesets here are those sound, repaired, damaged and left."""
    left = counters.here - counters.sound - counters.repaired - counters.damaged
    return (
        f"{counters.here} here: {counters.sound} sound, {counters.repaired} repaired, "
        f"{counters.damaged} with problems, {_left(left, stopped)}{_optional(counters)}"
    )


def _optional(counters: RunCounters) -> str:
    return f"; {counters.optional_failed} failed in optional steps" if counters.optional_failed else ""


def _left(number: int, stopped: bool) -> str:
    return f"stopped, {number} left" if stopped else f"{number} left"
