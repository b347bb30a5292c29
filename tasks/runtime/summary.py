"""Last line of a run: how many filesets there were to do, and what became of them, each counted once."""

from dataclasses import dataclass

from pipeline.mirror.context import RunCounters
from pipeline.units import as_count, as_size


@dataclass(frozen=True)
class Ending:
    """How a run ended: ``stopped`` before all was tried, or with the exit ``code`` 0 or another.

    ``code`` is that of its filesets, before the status files were written.
    ``complete`` is the word for complete filesets: the kind of marker of the last required step.
    """

    complete: str
    stopped: bool = False
    code: int = 0


def update_summary(counters: RunCounters, ending: Ending, /) -> str:
    """Return the numbers of an update: the selected filesets are those complete, failed, skipped and left."""
    line = f"{_selected(counters, ending)}{_optional(counters)}"
    if counters.adopted or counters.left:
        files = f"{as_count(counters.adopted, 'file')} ({as_size(counters.adopted_bytes)}) adopted"
        line += f"; {files}, {as_count(counters.left, 'other')} left"
    return line


def _selected(counters: RunCounters, ending: Ending) -> str:
    if not counters.selected:
        if counters.new:
            return f"{counters.new} discovered, none selected"
        return "none tried" if ending.code else "none new, all that are selected complete"
    left = counters.selected - counters.done - counters.failed - counters.skipped
    return (
        f"{counters.new} discovered, {counters.selected} selected: {counters.done} {ending.complete}, "
        f"{counters.failed} failed, {counters.skipped} skipped{_left(left, ending)}"
    )


def get_summary(counters: RunCounters, ending: Ending, /) -> str:
    """Return the numbers of a run of named filesets."""
    if not (counters.selected or ending.code):
        return "none to be fetched of those that are named"
    return update_summary(counters, ending)


def verification_summary(counters: RunCounters, ending: Ending, /) -> str:
    """Return the numbers of a verification: the filesets here are those sound, repaired, damaged and left."""
    return (
        f"{counters.here} here: {counters.sound} sound, {counters.repaired} repaired, "
        f"{counters.damaged} with problems{_left(counters.unverified, ending)}{_optional(counters)}"
    )


def fetched(counters: RunCounters, seconds: float) -> str:
    """Return the bytes that were fetched in that time."""
    amount = as_size(counters.bytes) if counters.bytes else "nothing"
    return f"{amount} fetched in {seconds:.1f} s"


def _optional(counters: RunCounters) -> str:
    return f"; {counters.optional_failed} failed in optional steps" if counters.optional_failed else ""


def _left(number: int, ending: Ending) -> str:
    return f"; stopped with {number} left" if ending.stopped else f", {number} left"
