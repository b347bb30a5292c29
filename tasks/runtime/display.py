"""Display of the progress of a run: a bar on a terminal, lines, a file for ``status``, Luigi's page."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.names import escaped, some
from pipeline.reporting.progress import progress_text, remove_progress, write_progress
from tasks.mirror_config import BAR, NONE, PLAIN, QUIET, mirror
from tasks.runtime.bar import bar_lines
from tasks.runtime.progress import Progress, StepInProgress
from tasks.runtime.threads import thread_beside

if TYPE_CHECKING:
    from rich.live import Live

# Steps that a line names.
_NAMED = 3
# Steps that began less than so long ago are not shown on Luigi's page: each one costs two calls.
_YOUNG_SECONDS = 1.0
# What takes less than so long is not said on a line.
YOUNG_LINE = 0.3


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
def progress_displayed(progress: Progress, kind: str, policy: DisplayPolicy = DEFAULT) -> Iterator[None]:
    """Show the progress on the console and on Luigi's page while the block runs."""
    with ExitStack() as stack:
        stack.enter_context(_repeated(policy.page, lambda: _show_on_page(progress)))
        if kind == PLAIN:
            stack.enter_context(_repeated(policy.line, lambda: print(plain_line(progress), flush=True)))
        elif kind == BAR:
            stack.enter_context(_bar(progress, policy.bar))
        yield


@contextmanager
def progress_in_file(progress: Progress, policy: DisplayPolicy = DEFAULT) -> Iterator[None]:
    """Write the progress into the file for ``status`` while the block runs; remove the file at its end."""
    try:
        with _repeated(policy.file, lambda: _write(progress), wait=None):
            yield
    finally:
        remove_progress(progress.layout)


@contextmanager
def _repeated(seconds: float, show: Callable[[], None], wait: float | None = 1.0) -> Iterator[None]:
    """Call ``show`` every so many seconds, first after that time.

    Wait at most ``wait`` seconds for the end of a call: that of a scheduler may not answer.
    """

    def follow(ended: threading.Event) -> None:
        while not ended.wait(seconds):
            # The display of a run does not matter to the run.
            with suppress(OSError):
                show()

    with thread_beside("display", follow, wait):
        yield


def _write(progress: Progress) -> None:
    write_progress(progress.layout, progress.state())


def _show_on_page(progress: Progress) -> None:
    if overviews := progress.overviews():
        state = progress.state()
        for task in overviews:
            task.show(progress_text(state), state.share)
    now = progress.clock()
    for step in progress.steps():
        if step.progress and now - step.began >= _YOUNG_SECONDS:
            message = ", ".join(filter(None, (step.progress.message, step.silence(now))))
            step.task.show(message, step.progress.share)


@contextmanager
def _shown_last(lines: Callable[[int, int], str]) -> "Iterator[Live]":
    """Show the lines at the end of the terminal while the block runs, by its width and height less one.

    Messages that come meanwhile stand above them.
    """
    # Imported here, as a run without a terminal does not use it.
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    # A message is wrapped by the terminal alone: a path that is copied from it stays whole.
    console = Console(highlight=False, soft_wrap=True)

    def text() -> Text:
        width, height = console.size
        return Text(lines(max(1, width - 1), height - 1), no_wrap=True, overflow="crop")

    with Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stderr=sys.stderr.isatty(),
        get_renderable=text,
    ) as live:
        live.refresh()
        yield live


@contextmanager
def _bar(progress: Progress, seconds: float) -> Iterator[None]:
    def lines(width: int, height: int) -> str:
        state, steps, now = progress.state(), progress.steps(), progress.clock()
        return "\n".join(bar_lines(state, steps, progress.doing, now, width, height))

    with _shown_last(lines) as live, _repeated(seconds, live.refresh):
        yield


@contextmanager
def line_displayed(text: str, after: float = YOUNG_LINE) -> Iterator[None]:
    """Show the text on a terminal that has a bar, if the block takes longer than ``after`` seconds."""
    if display_kind() != BAR:
        yield
        return

    def show(ended: threading.Event) -> None:
        if ended.wait(after):
            return
        with _shown_last(lambda width, _height: text[:width]):
            ended.wait()

    with thread_beside("line", show):
        yield


def plain_line(progress: Progress) -> str:
    """Return the progress as one line for a file or a pipe."""
    steps = progress.steps()
    named = some([f"{step.doing} {step.subject}{_share(step)}" for step in steps], _NAMED)
    in_progress = f"; in progress: {named}" if steps else ""
    return escaped(f"{progress_text(progress.state())}{in_progress}")


def _share(step: StepInProgress) -> str:
    return f" ({step.progress.share:.0%})" if step.progress else ""
