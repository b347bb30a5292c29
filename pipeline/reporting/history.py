"""History of the runs of a mirror: a row for each run that held its lock, of a killed one by the next run.

The file is rotated: at ``ROTATE_AT`` bytes it becomes ``history.csv.1``, and the one before is removed.
"""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.durable import flush, flush_folder, make_folder, remove_files
from pipeline.mirror.state.layout import Layout
from pipeline.names import beginning, escaped

# Some 8,000 runs.
ROTATE_AT = 1_000_000
# Tasks of Luigi that read what is here; all others fetch.
VERIFICATIONS = frozenset({"VerifyMirror", "CompareMirror"})
# Task of a run that fetches the filesets that were named alone.
GET = "GetFilesets"
# Task of a run that takes files from a folder, and fetches the others.
ADOPTION = "AdoptMirror"
# The rate is that of the last runs that fetched much: not those of fewer seconds, which are mostly start and
# listings, nor those that fetched less than this share of what the largest one did; all within such a time.
RATE_RUNS = 10
RATE_SECONDS = 10
RATE_SHARE = 0.1
RATE_SPAN = timedelta(days=30)
# Tasks of runs that go through all products.
WHOLE_RUNS = frozenset({"UpdateMirror", ADOPTION})
# What runs are called, by their tasks.
NOUNS = {
    "UpdateMirror": "update",
    ADOPTION: "adoption",
    GET: "get",
    "VerifyMirror": "verification",
    "CompareMirror": "comparison with upstream",
}
# Code of a run that did not come to its end: what a shell says of a process that SIGKILL ended.
KILLED = 137
_REASON_SHOWN = 300


@dataclass(frozen=True)
class FetchRate:
    """Rate of ``runs`` runs; the first of them began at ``start``, the last ended at ``end`` (UTC)."""

    bytes_per_second: float
    runs: int
    start: str
    end: str


@dataclass(frozen=True)
class RunRecord:
    """One run: ``start`` and ``end`` (UTC, as text), exit ``code``, and numbers.

    ``filesets`` were completed or, by a verification, read; ``bytes`` were fetched; ``failures`` are filesets
    that failed or have problems. ``task`` is Luigi's name of the run's first task, empty where no task was
    begun; ``reason`` says why the code is not 0. ``left`` are selected filesets that are incomplete at the
    end, failed ones too; None unless the run was an update that went through all products.
    """

    start: str
    end: str
    code: int
    filesets: int
    bytes: int
    seconds: float
    failures: int
    task: str
    reason: str
    left: int | None = None

    @property
    def is_update(self) -> bool:
        """True unless the run was a verification, or fetched filesets that were named alone."""
        return self.task not in {*VERIFICATIONS, GET}


COLUMNS = tuple(field.name for field in fields(RunRecord))


def append_record(layout: Layout, record: RunRecord, rotate_at: int = ROTATE_AT) -> None:
    """Append the row of a run durably. For the holder of the update lock. Raises OSError."""
    path = layout.history
    make_folder(path.parent)
    if path.is_dir():
        # Removes an empty folder, and raises OSError for another one.
        remove_files([path])
    if path.exists() and path.stat().st_size >= rotate_at:
        os.replace(path, _rotated(layout))
    with open(path, "a+b") as file:
        end = _end_of_rows(file.fileno())
        file.truncate(end)
        row = asdict(record) | {"reason": escaped(beginning(record.reason, _REASON_SHOWN))}
        file.write(_csv([] if end else [COLUMNS], row))
        file.flush()
        flush(file.fileno())
    flush_folder(path.parent)


def read_history(layout: Layout) -> list[RunRecord]:
    """Return the runs, oldest first, without rows that are damaged. Raises OSError."""
    return [record for path in (_rotated(layout), layout.history) for record in _records(path)]


def bytes_per_day(records: list[RunRecord], now: datetime, days: int = 30) -> float | None:
    """Return the bytes that the runs of the last ``days`` fetched per day.

    None while the first of these runs is less than a day ago.
    """
    recent = [(start, record) for record in records if (start := _time(record.start)) is not None]
    recent = [(start, record) for start, record in recent if now - start <= timedelta(days=days)]
    if not recent:
        return None
    span = now - min(start for start, _ in recent)
    if span < timedelta(days=1):
        return None
    return sum(record.bytes for _, record in recent) / (span / timedelta(days=1))


def fetch_rate(records: list[RunRecord]) -> FetchRate | None:
    """Return the rate of the last runs that fetched much, by records oldest first; None without one.

    Verifications and adoptions do not count: their time is mostly that of reading what is on the disk.
    """
    others = {*VERIFICATIONS, ADOPTION}
    fetching = [
        (end, each)
        for each in records
        if each.bytes
        and each.seconds >= RATE_SECONDS
        and each.task not in others
        and (end := _time(each.end))
    ]
    last = max((end for end, _ in fetching), default=None)
    recent = [each for end, each in fetching if last and last - end <= RATE_SPAN]
    most = max((each.bytes for each in recent), default=0)
    chosen = [each for each in recent if each.bytes >= most * RATE_SHARE][-RATE_RUNS:]
    if not chosen:
        return None
    rate = sum(each.bytes for each in chosen) / sum(each.seconds for each in chosen)
    return FetchRate(rate, len(chosen), chosen[0].start, chosen[-1].end)


def _rotated(layout: Layout) -> Path:
    return layout.history.with_name(f"{layout.history.name}.1")


def _records(path: Path) -> Iterator[RunRecord]:
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return
    for row in csv.DictReader(io.StringIO(text)):
        try:
            yield _record(row)
        except (KeyError, TypeError, ValueError):
            continue


def _record(row: dict[str, str]) -> RunRecord:
    if _time(row["start"]) is None or _time(row["end"]) is None or row["reason"] is None:
        raise ValueError("expected the times and all columns of a run")
    return RunRecord(
        start=row["start"],
        end=row["end"],
        code=int(row["code"]),
        filesets=int(row["filesets"]),
        bytes=int(row["bytes"]),
        seconds=float(row["seconds"]),
        failures=int(row["failures"]),
        task=row["task"],
        reason=row["reason"],
        left=int(left) if (left := row.get("left")) else None,
    )


def _csv(rows: list[tuple[str, ...]], record: dict[str, Any]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([*rows, tuple(record[column] for column in COLUMNS)])
    return text.getvalue().encode()


def _end_of_rows(descriptor: int) -> int:
    """Return the number of bytes up to the last line end: behind it is what a power cut left of a row."""
    end = os.fstat(descriptor).st_size
    while end:
        begin = max(0, end - 4096)
        at = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


def _time(text: str) -> datetime | None:
    """Return a time of the history; None for a text that is no time with a zone."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else None
