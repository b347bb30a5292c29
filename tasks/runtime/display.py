"""Display of the progress of a run: a bar on a terminal, lines, a file for ``status``, Luigi's page."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from pipeline.names import escaped
from pipeline.reporting.progress import RunProgress, progress_text, remove_progress, write_progress
from pipeline.units import as_duration
from tasks.mirror_config import BAR, NONE, PLAIN, QUIET, mirror
from tasks.runtime.progress import Progress, StepInProgress

# Steps that the bar and a line show.
_SHOWN, _NAMED = 8, 3
_BAR_WIDTH = 20
# Steps that began less than so long ago are not shown on Luigi's page: each one costs two calls.
_YOUNG_SECONDS = 1.0
# Windows narrower than this show no bar before the numbers.
_WIDE = 80


@dataclass(frozen=True)
class DisplayPolicy:
    """Seconds between two displays of each kind."""

    bar: float = 0.5
    line: float = 30.0
    file: float = 3.0
    page: float = 3.0


DEFAULT = DisplayPolicy()


def display_kind() -> str:
    """Return how the console shows the progress: as the settings say, else a bar on a terminal."""
    kind, is_terminal = mirror().progress, sys.stdout.isatty()
    if kind in {NONE, PLAIN}:
        return str(kind)
    if kind == BAR:
        return BAR if is_terminal else PLAIN
    return BAR if is_terminal and mirror().console != QUIET else NONE


@contextmanager
def progress_displayed(
    progress: Progress, kind: str, with_file: bool, policy: DisplayPolicy = DEFAULT
) -> Iterator[None]:
    """Show the progress while the block runs, on the console, and in the file for ``status`` too."""
    with ExitStack() as stack:
        if with_file:
            stack.callback(remove_progress, progress.layout)
            stack.enter_context(_repeated(policy.file, lambda: _write(progress)))
        stack.enter_context(_repeated(policy.page, lambda: _show_on_page(progress)))
        if kind == PLAIN:
            stack.enter_context(_repeated(policy.line, lambda: print(plain_line(progress), flush=True)))
        elif kind == BAR:
            stack.enter_context(_bar(progress, policy.bar))
        yield


@contextmanager
def _repeated(seconds: float, show: Callable[[], None]) -> Iterator[None]:
    """Call ``show`` every so many seconds, first after that time."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(seconds):
            # The display of a run does not matter to the run.
            with suppress(OSError):
                show()

    # A call of a scheduler that does not answer is not waited for.
    follower = threading.Thread(target=follow, name="display", daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join(1.0)


def _write(progress: Progress) -> None:
    write_progress(progress.layout, progress.state())


def _show_on_page(progress: Progress) -> None:
    if overviews := progress.overviews():
        state = progress.state()
        for task in overviews:
            task.show(progress_text(state), state.share)
    for step in progress.steps():
        if step.progress and progress.clock() - step.began >= _YOUNG_SECONDS:
            step.task.show(step.progress.message, step.progress.share)


@contextmanager
def _bar(progress: Progress, seconds: float) -> Iterator[None]:
    # Imported here, as a run without a terminal does not use it.
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)

    def lines() -> Text:
        width, height = console.size
        shown = bar_lines(progress.state(), progress.steps(), progress.clock(), width - 1, height - 1)
        return Text("\n".join(shown), no_wrap=True, overflow="crop")

    live = Live(console=console, auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty())
    with live:
        live.update(lines(), refresh=True)
        with _repeated(seconds, lambda: live.update(lines(), refresh=True)):
            yield


def bar_lines(
    state: RunProgress, steps: list[StepInProgress], now: float, width: int, height: int
) -> list[str]:
    """Return the lines of the bar for a window of that size: the run, then the steps in progress."""
    first = f"{_drawn(state.share)} {progress_text(state)}" if width >= _WIDE else progress_text(state)
    most = max(0, min(_SHOWN, height - 1))
    shown = steps if len(steps) <= most else steps[: most - 1 if most > 1 else most]
    lines = [first, *(step_text(step, now) for step in shown)][: max(1, height)]
    if 1 < most < len(steps):
        lines.append(f"  and {len(steps) - len(shown)} more in progress")
    return [_cut(escaped(line), width) for line in lines]


def step_text(step: StepInProgress, now: float) -> str:
    """Return a step in progress as one line: its share, the time left or passed, fileset and numbers."""
    share = f"{step.progress.share:4.0%}" if step.progress else "    "
    left = step.seconds_left
    when = f"{as_duration(left)} left" if left is not None else f"for {as_duration(now - step.began)}"
    message = f"  {step.progress.message}" if step.progress else ""
    return f"  {share} {when:>14}  {step.doing} {step.subject}{message}"


def plain_line(progress: Progress) -> str:
    """Return the progress as one line for a file or a pipe."""
    steps = progress.steps()
    named = ", ".join(f"{step.doing} {step.subject}{_share(step)}" for step in steps[:_NAMED])
    more = f" and {len(steps) - _NAMED} more" if len(steps) > _NAMED else ""
    in_progress = f"; in progress: {named}{more}" if steps else ""
    return escaped(f"{progress_text(progress.state())}{in_progress}")


def _share(step: StepInProgress) -> str:
    return f" ({step.progress.share:.0%})" if step.progress else ""


def _drawn(share: float) -> str:
    full = int(share * _BAR_WIDTH)
    return f"[{'#' * full}{'-' * (_BAR_WIDTH - full)}]"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: max(0, width - 3)]}..."[: max(1, width)]
