"""Marker files: JSON, written whole.

A marker that cannot be parsed, or is of another schema, counts as absent.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.durable import write_whole
from pipeline.names import is_usable

SCHEMA = 1
SUFFIX = ".json"


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


def write_marker(path: Path, content: dict[str, Any], *, shared: bool = False) -> None:
    """Write the marker whole and durably; ``shared`` as for ``write_whole``."""
    write_whole(path, marker_text(content), shared=shared)


def marker_text(content: dict[str, Any]) -> bytes:
    """Return the text of a marker with this content."""
    return (json.dumps({"schema": SCHEMA, **content}, indent=1) + "\n").encode()
