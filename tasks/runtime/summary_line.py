"""Summary line, the last of a run: how many filesets there were to do, and what became of each, once."""

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
    line = f"{_tried(counters, ending)}{_optional(counters)}"
    if counters.adopted or counters.left:
        files = f"{as_count(counters.adopted, 'file')} ({as_size(counters.adopted_bytes)}) adopted"
        line += f"; {files}, {as_count(counters.left, 'other')} left"
    return line


def _tried(counters: RunCounters, ending: Ending) -> str:
    if counters.selected:
        return _numbers(counters, ending, "selected")
    if counters.new:
        return f"{counters.new} discovered, none selected"
    return "none tried" if ending.code else "none new, all that are selected complete"


def _numbers(counters: RunCounters, ending: Ending, why: str) -> str:
    """Return the numbers that add up; ``why`` says why these filesets are to be done."""
    left = counters.selected - counters.done - counters.failed - counters.skipped
    return (
        f"{counters.new} discovered, {counters.selected} {why}: {counters.done} {ending.complete}, "
        f"{counters.failed} failed, {counters.skipped} skipped{_left(left, ending)}"
    )


def get_summary(counters: RunCounters, ending: Ending, /) -> str:
    """Return the numbers of a run of named filesets, which are wanted, whatever is selected."""
    if counters.selected:
        return f"{_numbers(counters, ending, 'wanted')}{_optional(counters)}"
    if not ending.code:
        return "none to be fetched of those that are named"
    return f"{counters.new} discovered, none tried" if counters.new else "none tried"


def verification_summary(counters: RunCounters, ending: Ending, /) -> str:
    """Return the numbers of a verification: the filesets here are those sound, repaired, damaged and left."""
    return (
        f"{counters.here} here: {counters.sound} sound, {counters.repaired} repaired, "
        f"{counters.damaged} with problems{_left(counters.unverified, ending)}{_optional(counters)}"
    )


def comparison_summary(counters: RunCounters, ending: Ending, /) -> str:
    """Return the numbers of a comparison with upstream: the filesets here, by what upstream lists of them."""
    left = counters.here - counters.sound - counters.repaired - counters.damaged
    return (
        f"{counters.here} here, compared with upstream: {counters.sound} the same there, "
        f"{counters.repaired} corrected there and fetched, {counters.damaged} corrected there and not fetched"
        f"{_left(left, ending)}{_optional(counters)}"
    )


def fetched(counters: RunCounters, seconds: float) -> str:
    """Return the bytes that were fetched in that time."""
    amount = as_size(counters.bytes) if counters.bytes else "nothing"
    return f"{amount} fetched in {seconds:.1f} s"


def _optional(counters: RunCounters) -> str:
    return f"; {counters.optional_failed} failed in optional steps" if counters.optional_failed else ""


def _left(number: int, ending: Ending) -> str:
    return f"; stopped with {number} left" if ending.stopped else f", {number} left"
