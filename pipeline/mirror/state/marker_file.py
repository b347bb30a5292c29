"""Marker files: JSON, written whole, and sealed so that a look at the folder shows which are good.

A mirror has hundreds of thousands of markers; reading them all to find what is pending would take
longer than the rest of a run. The seal is the fraction of a second in a marker's modification time,
made from its schema and size: whatever truncates or edits a marker breaks it, and that marker alone
is then read. One that cannot be read, or is of another schema, counts as absent.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.durable import write_whole

SCHEMA = 1
SUFFIX = ".json"
_SECOND = 10**9
# Folder -> when a name in it changed last (ns), and how many good markers it had then.
_counted: dict[Path, tuple[int, int]] = {}


def read_marker(path: Path) -> dict[str, Any] | None:
    """What the marker says; None when it is absent, damaged, or of another schema.

    Raises OSError when this machine cannot tell: a marker that is there must not pass for absent.
    """
    try:
        marker = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get("schema") == SCHEMA else None


def write_marker(path: Path, content: dict[str, Any]) -> None:
    """Write the marker whole, durably, and sealed."""
    text = marker_text(content)
    write_whole(path, text, modified_ns=checksummed_time(len(text)))


def marker_text(content: dict[str, Any]) -> bytes:
    """A marker as it is written."""
    return (json.dumps({"schema": SCHEMA, **content}, indent=1) + "\n").encode()


def checksummed_time(size: int, seconds: float | None = None) -> int:
    """A modification time in ns that seals a file of ``size`` bytes: ``seconds`` since 1970, or now."""
    return int(time.time() if seconds is None else seconds) * _SECOND + _seal(size)


def good_markers(folder: Path) -> set[str]:
    """The names, without suffix, of the good markers in the folder; none when there is no folder."""
    changed = _changed(folder)
    names = {name for name, _ in scan_markers(folder)}
    # A change within the clock's own step could not be told from the last one.
    if changed is not None and time.time_ns() - changed > 2 * _SECOND:
        _counted[folder] = (changed, len(names))
    return names


def count_good_markers(folder: Path) -> int:
    """How many good markers the folder has; counted anew only if one came or went."""
    changed, count = _counted.get(folder, (None, 0))
    if changed is not None and changed == _changed(folder):
        return count
    return sum(1 for _ in scan_markers(folder))


def scan_markers(folder: Path) -> Iterator[tuple[str, int]]:
    """Name, without suffix, and modification time (ns) of each good marker in the folder, in no order."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        # Looking from the folder's descriptor spares the way from the root for each of a million markers.
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(SUFFIX):
                    status = entry.stat()
                    if has_mtime_checksum(status) or read_marker(folder / name) is not None:
                        yield name.removesuffix(SUFFIX), status.st_mtime_ns
    finally:
        os.close(descriptor)


def is_good_marker(path: Path) -> bool:
    """Whether a good marker is there."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return has_mtime_checksum(status) or read_marker(path) is not None


def has_mtime_checksum(status: os.stat_result) -> bool:
    """Whether nobody has cut or written the file since it was sealed."""
    return status.st_mtime_ns % _SECOND == _seal(status.st_size)


def _changed(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _seal(size: int) -> int:
    """Nanoseconds below a second that stand for the schema and a size in bytes."""
    return SCHEMA * 10**8 + size % 10**8
