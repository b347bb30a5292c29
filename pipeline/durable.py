"""Writing so that a reader sees whole files only and a power cut forgets nothing that was marked.

The order is always the same: data flushed to the disk, then renamed, then the folder flushed.
"""

import os
from collections.abc import Iterable
from pathlib import Path


def flush_file(path: Path) -> None:
    """Wait until the bytes of the file are on the disk."""
    _flush(path, os.O_RDONLY)


def flush_folder(path: Path) -> None:
    """Wait until the names in the folder are on the disk."""
    _flush(path, os.O_RDONLY | os.O_DIRECTORY)


def make_folder(path: Path) -> None:
    """Make the folder and its missing parents, each name flushed to the disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    flush_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``: a reader sees the old content or the new one, never a part."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name[:200]}.writing")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    flush_folder(path.parent)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove the files that are there and flush their folders once each."""
    folders = set()
    for path in paths:
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        if folder.is_dir():
            flush_folder(folder)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
