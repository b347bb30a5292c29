"""Progress of a run, in a small file that the run replaces every few seconds: for ``status`` and pages.

The file is a display, not state: it is not flushed, and one of another process than the holder of the lock is
ignored.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pipeline.durable import WRITING_SUFFIX
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import time_since
from pipeline.reporting.history import KILLED, RunRecord
from pipeline.units import as_count, as_duration, as_size

# After so many seconds without a byte, that is shown in place of the rate.
SILENT_SECONDS = 10
# Stages of a run.
LISTINGS, FILESETS, ENDING = "listings", "filesets", "ending"


@dataclass(frozen=True)
class RunProgress:
    """Amounts that a run has done, and that are left of it. ``time`` is when that was written (UTC).

    ``stage`` is ``listings`` before the first filesets are submitted, then ``filesets``, and ``ending`` at
    last. ``done`` filesets of ``filesets`` are complete or have failed, of which ``failed`` failed.
    ``bytes`` were fetched or adopted, ``bytes_left`` are estimated, roughly where ``bytes_left_known`` is
    False. ``rate`` is in bytes per second; ``seconds_without_bytes`` the time since the last byte came, 0
    while nothing is fetched; ``seconds_left`` None where it cannot be estimated. ``task`` is Luigi's name of
    the run's first task, empty before it starts; ``fetched`` are those of ``bytes`` that were not adopted.
    """

    time: str
    stage: str
    done: int
    filesets: int
    failed: int
    bytes: int
    bytes_left: int
    bytes_left_known: bool
    rate: int
    seconds_without_bytes: int
    seconds_left: int | None
    task: str = ""
    fetched: int = 0

    @property
    def share(self) -> float:
        """Share that is done, from 0 to 1: mostly of the bytes, of the filesets where these are not known.

        A tenth is for the filesets, as some work is left once all bytes are here.
        """
        if not self.filesets:
            return 0.0
        of_filesets = self.done / self.filesets
        in_all = self.bytes + self.bytes_left
        if not in_all or not self.bytes_left_known:
            return of_filesets
        return 0.9 * self.bytes / in_all + 0.1 * of_filesets


def write_progress(layout: Layout, progress: RunProgress) -> None:
    """Replace the file. Raises OSError."""
    temporary = layout.progress.with_name(f".{layout.progress.name}{WRITING_SUFFIX}")
    temporary.write_text(json.dumps({"pid": os.getpid(), **asdict(progress)}))
    os.replace(temporary, layout.progress)


def remove_progress(layout: Layout) -> None:
    """Remove the file, before the run has its row in the history."""
    with suppress(OSError):
        layout.progress.unlink()


def read_progress(layout: Layout, pid: int, since: str) -> RunProgress | None:
    """Return the progress of the process that holds the lock ``since`` then; None where it wrote none."""
    try:
        content: dict[str, Any] = json.loads(layout.progress.read_text())
        if content.pop("pid") != pid or content["time"] < since or time_since(content["time"]) is None:
            return None
        return RunProgress(**content)
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def run_so_far(layout: Layout, pid: int, since: str) -> RunRecord | None:
    """Return the row that the history has of the run if it is killed now: by the last progress that it wrote.

    None where it wrote none.
    """
    progress = read_progress(layout, pid, since)
    if progress is None:
        return None
    try:
        return RunRecord(
            start=since,
            end=progress.time,
            code=KILLED,
            filesets=max(0, int(progress.done) - int(progress.failed)),
            bytes=int(progress.fetched),
            seconds=(datetime.fromisoformat(progress.time) - datetime.fromisoformat(since)).total_seconds(),
            failures=int(progress.failed),
            task=str(progress.task),
            reason="killed",
        )
    except (TypeError, ValueError):
        return None


def progress_text(progress: RunProgress) -> str:
    """Return the progress as one line."""
    if progress.stage == LISTINGS:
        return "reading listings"
    parts = [f"{progress.done} of {as_count(progress.filesets, 'fileset')}"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.bytes or progress.bytes_left:
        about = "about" if progress.bytes_left_known else "roughly"
        left = f"{about} {as_size(progress.bytes_left)} left"
        silent = progress.seconds_without_bytes
        rate = (
            f"no byte for {as_duration(silent)}" if silent > SILENT_SECONDS else f"{as_size(progress.rate)}/s"
        )
        parts += [f"{as_size(progress.bytes)} done, {left}", rate]
    if progress.stage == ENDING:
        parts.append("ending")
    elif progress.seconds_left is not None:
        parts.append(f"{as_duration(progress.seconds_left)} left")
    return ", ".join(parts)
