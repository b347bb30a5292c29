"""Progress bar on a terminal; nothing where the output goes to a file or to cron's mail."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.mirror.context import RunCounters
from pipeline.units import as_size

_SECONDS = 0.25


@contextmanager
def progress_on_terminal(counters: RunCounters, completed: Callable[[], int]) -> Iterator[None]:
    """Show the completed filesets of those pending, and the bytes received or adopted, during the run."""
    if not sys.stdout.isatty():
        yield
        return
    # Imported here, as a run without a terminal does not use it.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("filesets"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[moved]}"))
    with Progress(*columns, TimeElapsedColumn(), transient=True) as progress:
        bar = progress.add_task("", total=None, moved="fetching listings")
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(_SECONDS):
                total = counters.pending or None
                moved = as_size(counters.bytes + counters.adopted_bytes)
                progress.update(bar, completed=completed(), total=total, moved=moved)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()
