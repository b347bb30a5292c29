"""Trees of files, compared byte by byte."""

from pathlib import Path


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below the folder: its path and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
