"""Bar on a terminal: a line of columns about the run, then one about each step in progress.

Columns have fixed widths, so that numbers keep their places. A window that is too narrow for all has the most
important ones; one of 80 columns has a bar, percent, bytes done and in all, rate and time left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.names import escaped
from pipeline.reporting.progress import ENDING, SILENT_SECONDS, RunProgress
from pipeline.units import as_count, as_duration, as_size
from tasks.runtime.progress import StepInProgress

# Steps that are shown.
_SHOWN = 8
_GAP = "  "
_LEAST_BAR, _MOST_BAR = 12, 42
# Names of filesets that are not longer are whole where time left is shown.
_LEAST_NAME = 36
_CUT = ".."


@dataclass(frozen=True)
class _Column:
    """Text at the right of a column of at least ``width`` characters; those of the lowest ``rank`` stay."""

    text: str
    width: int
    rank: int

    @property
    def size(self) -> int:
        return len(_GAP) + max(self.width, len(self.text))


@dataclass(frozen=True)
class _Elastic:
    """Column that takes the rest of the line, of ``least`` to ``most`` characters."""

    least: int
    most: int
    draw: Callable[[int], str]


def bar_lines(
    state: RunProgress, steps: list[StepInProgress], doing: str, now: float, width: int, height: int
) -> list[str]:
    """Return the lines of the bar for a window of that size: the run, then the steps in progress.

    ``doing`` says what the run does before it knows its filesets.
    """
    first = _run_line(state, width) if state.filesets else _beginning(steps, doing)
    most = max(0, min(_SHOWN, height - 1))
    shown = steps if len(steps) <= most else steps[: most - 1 if most > 1 else most]
    lines = [first, *_step_lines(shown, now, width)][: max(1, height)]
    if 1 < most < len(steps):
        lines.append(f"and {len(steps) - len(shown)} more in progress")
    return [_cut(escaped(line), width) for line in lines]


def _beginning(steps: list[StepInProgress], doing: str) -> str:
    products = [step.subject for step in steps if step.doing == "listing"]
    if products:
        return f"fetching the listing of {products[0]}" if len(products) == 1 else "fetching listings"
    return f"{as_count(len(steps), 'step')} in progress" if steps else doing


def _run_line(state: RunProgress, width: int) -> str:
    columns = [_Column(f"{state.share:.0%}", 4, 0), *_amounts(state), _Column(_left(state), 15, 2)]
    failed = f", {state.failed} failed" if state.failed else ""
    long = f"{state.done} of {as_count(state.filesets, 'fileset')}{failed}"
    # With its words, if that leaves place for all columns.
    taken = _LEAST_BAR + len(_GAP) + len(long) + sum(column.size for column in columns)
    filesets = long if taken <= width else f"{state.done}/{state.filesets}"
    columns.insert(1, _Column(filesets, 0, 4))
    return _line("", _Elastic(_LEAST_BAR, _MOST_BAR, lambda size: _drawn(state.share, size)), columns, width)


def _amounts(state: RunProgress) -> list[_Column]:
    """Return the columns of bytes and rate; none for a run that fetches nothing."""
    if not (state.bytes or state.bytes_left):
        return []
    about = "" if state.bytes_left_known else "~"
    amount = f"{as_size(state.bytes)} of {about}{as_size(state.bytes + state.bytes_left)}"
    is_known = state.rate and state.seconds_without_bytes <= SILENT_SECONDS
    return [_Column(amount, 19, 1), _Column(f"{as_size(state.rate)}/s" if is_known else "", 9, 3)]


def _left(state: RunProgress) -> str:
    """Return the time left, or why there is none."""
    if state.stage == ENDING:
        return "ending"
    if state.seconds_without_bytes > SILENT_SECONDS:
        return f"no byte for {as_duration(state.seconds_without_bytes)}"
    if state.seconds_left is None:
        return ""
    return f"{'' if state.bytes_left_known else '~'}{as_duration(state.seconds_left)} left"


def _drawn(share: float, size: int) -> str:
    inside = max(0, size - 2)
    full = int(share * inside)
    return f"[{'#' * full}{'-' * (inside - full)}]"


def _step_lines(steps: list[StepInProgress], now: float, width: int) -> list[str]:
    """Return the steps, with the products of their filesets if all have place for them."""
    names = [step.subject.rpartition("/")[2] for step in steps]
    least = min(_LEAST_NAME, max(map(len, names), default=0))
    for subjects in ([step.subject for step in steps], names):
        most = max(map(len, subjects), default=0)
        lines = [
            _step_line(step, _Elastic(least, most, partial(_shortened, subject)), now, width)
            for step, subject in zip(steps, subjects, strict=True)
        ]
        if all(subject in line for line, subject in zip(lines, subjects, strict=True)):
            break
    return lines


def _step_line(step: StepInProgress, name: _Elastic, now: float, width: int) -> str:
    """Return share and size, step, fileset, time left or passed; if there is place, rate and files."""
    size, doing, rate, message = "", step.doing, "", ""
    if step.progress:
        total = f" of {as_size(step.progress.total):>7}" if step.progress.total else ""
        size = f"{step.progress.share:4.0%}{total}"
        rate = f"{as_size(step.rate.value)}/s" if step.rate.value else ""
        message = step.progress.message.partition(",")[0]
    elif step.task.fetches:
        # Its files are not known yet.
        doing = "listing"
    columns = [_Column(message, 14, 2), _Column(rate, 9, 1), _Column(step_time(step, now), 16, 0)]
    return _line(f"{size:<15}{_GAP}{doing:<8}{_GAP}", name, columns, width)


def step_time(step: StepInProgress, now: float) -> str:
    """Return the time that is left of a step, or that has passed."""
    if silence := step.silence(now):
        return silence
    left = step.seconds_left
    return f"{as_duration(left)} left" if left is not None else f"for {as_duration(now - step.began)}"


def _line(before: str, elastic: _Elastic, columns: Sequence[_Column], width: int) -> str:
    """Return the elastic column behind ``before``, and those of the others that there is place for."""
    space = width - len(before) - elastic.least
    shown = set()
    for column in sorted(columns, key=lambda column: column.rank):
        if column.size <= space:
            shown.add(column)
            space -= column.size
    drawn = elastic.draw(max(0, min(elastic.most, elastic.least + space)))
    texts = (column.text.rjust(column.size) for column in columns if column in shown)
    return f"{before}{drawn}{''.join(texts)}".rstrip()


def _shortened(name: str, size: int) -> str:
    """Return the name in so many characters, without some of its middle if it is longer.

    Its ends tell it from others.
    """
    if len(name) <= size:
        return name.ljust(size)
    kept = max(0, size - len(_CUT))
    return f"{name[: kept - kept // 2]}{_CUT}{name[len(name) - kept // 2 :]}"[:size]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: max(0, width - 3)]}..."[: max(1, width)]
