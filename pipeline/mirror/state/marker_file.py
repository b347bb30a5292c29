"""Marker files: JSON, written whole, with an mtime checksum by which a folder scan recognizes good ones.

A mirror has hundreds of thousands of markers; reading them all to find what is pending would take
longer than the rest of a run. The mtime checksum is the fraction of a second in a marker's modification
time, made from its schema and size: truncating or editing a marker breaks it, and only that marker is
then read. A marker that cannot be read, or is of another schema, counts as absent.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.durable import write_whole
from pipeline.names import is_usable

SCHEMA = 1
SUFFIX = ".json"
_SECOND_NS = 10**9
# Folder -> modification time of the folder (ns), and the number of good markers in it at that time.
_counted: dict[Path, tuple[int, int]] = {}


def can_name_marker(name: str) -> bool:
    """Return True if a marker can have this name: one that is no path segment, or is too long, cannot."""
    return is_usable(name) and is_usable(name + SUFFIX)


def read_marker(path: Path) -> dict[str, Any] | None:
    """Return the content of the marker; None when it is absent, damaged, or of another schema.

    Raises OSError when the file cannot be read: an existing marker must not count as absent.
    """
    try:
        marker = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get("schema") == SCHEMA else None


def write_marker(path: Path, content: dict[str, Any]) -> None:
    """Write the marker whole, durably, and with its mtime checksum."""
    text = marker_text(content)
    write_whole(path, text, modified_ns=checksummed_time(len(text)))


def marker_text(content: dict[str, Any]) -> bytes:
    """Return the text of a marker with this content."""
    return (json.dumps({"schema": SCHEMA, **content}, indent=1) + "\n").encode()


def checksummed_time(size: int, seconds: float | None = None) -> int:
    """Return the modification time (ns) of a file of ``size`` bytes: ``seconds`` since 1970, or now."""
    return int(time.time() if seconds is None else seconds) * _SECOND_NS + _checksum(size)


def good_markers(folder: Path) -> set[str]:
    """Return the names, without suffix, of the good markers in the folder; none when there is no folder."""
    changed = _modified_ns(folder)
    names = {name for name, _ in scan_markers(folder)}
    # Two changes within the clock's resolution have the same time.
    if changed is not None and time.time_ns() - changed > 2 * _SECOND_NS:
        _counted[folder] = (changed, len(names))
    return names


def count_good_markers(folder: Path) -> int:
    """Return the number of good markers in the folder; counted again only after a change of the folder."""
    changed, count = _counted.get(folder, (None, 0))
    if changed is not None and changed == _modified_ns(folder):
        return count
    return sum(1 for _ in scan_markers(folder))


def scan_markers(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield name, without suffix, and modification time (ns) of each good marker in the folder, unordered."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        # With a descriptor, the kernel need not resolve the folder's path for each of a million markers.
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
    """Return True if the path is a good marker."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return has_mtime_checksum(status) or read_marker(path) is not None


def has_mtime_checksum(status: os.stat_result) -> bool:
    """Return True if the file was neither truncated nor written since its mtime checksum was set."""
    return status.st_mtime_ns % _SECOND_NS == _checksum(status.st_size)


def _modified_ns(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _checksum(size: int) -> int:
    """Return the nanoseconds below a second that stand for the schema and a size in bytes."""
    return SCHEMA * 10**8 + size % 10**8
