"""A progress bar for whoever watches; nothing where output goes to a file or to cron's mail."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.mirror.context import Tally
from pipeline.units import as_size

_SECONDS = 0.25


@contextmanager
def progress_on_terminal(tally: Tally) -> Iterator[None]:
    """Show how many filesets are settled, and the bytes received, for as long as the run lasts."""
    if not sys.stdout.isatty():
        yield
        return
    # Only here: a run from cron need not load it.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("filesets"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[moved]}"))
    with Progress(*columns, TimeElapsedColumn(), transient=True) as progress:
        bar = progress.add_task("", total=None, moved="asking the server")
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(_SECONDS):
                settled = tally.done + tally.failed + tally.verified
                progress.update(
                    bar, completed=settled, total=tally.pending or None, moved=as_size(tally.bytes)
                )

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()
