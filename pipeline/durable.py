"""Durable writes: readers find whole files only, and a power cut loses nothing that a marker stands for.

The order is always the same: flush the data to the disk, rename, flush the folder. On a file system that
has no flush (CIFS and some FUSE ones have none for folders) the writes are as durable as it makes them.
"""

import ctypes
import errno
import os
import secrets
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from hashlib import md5
from pathlib import Path

WRITING_SUFFIX = ".writing"
_making_folders = threading.RLock()
# Answers of file systems without a flush, or without one for a descriptor that is open for reading.
_NO_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


def flush_file(path: Path) -> None:
    """Wait until the bytes of the file are on the disk."""
    _flush(path, os.O_RDONLY)


def flush_folder(path: Path) -> None:
    """Wait until the names in the folder are on the disk."""
    _flush(path, os.O_RDONLY | os.O_DIRECTORY)


def flush(descriptor: int) -> bool:
    """Wait until the open file or folder is on the disk; return False where the file system has no flush.

    Raises OSError when the disk fails.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
        return False
    return True


def can_flush_folders(folder: Path) -> bool:
    """Return True if the file system of the folder can flush it. Raises OSError."""
    return _flush(folder, os.O_RDONLY | os.O_DIRECTORY)


def flush_file_system(path: Path) -> None:
    """Wait until all that was written to the file system of the folder is on the disk.

    For very many files at once: other programs' bytes are waited for, too.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        except AttributeError:
            os.sync()
            return
        if syncfs(descriptor) != 0 and (code := ctypes.get_errno()) not in _NO_FLUSH:
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make the folder and its missing parents, each name flushed to the disk."""
    # No thread may rely on a folder that another thread has made and not yet flushed.
    with _making_folders:
        if path.is_dir():
            return
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        flush_folder(path.parent)


def write_whole(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Write a file atomically: a reader gets the old content or the new one, never a part.

    A ``shared`` file is written by processes without a common lock: each has a temporary file of its own.
    An empty folder in place of the file is removed. Raises OSError, IsADirectoryError for one with content.
    """
    make_folder(path.parent)
    own = f".{secrets.token_hex(8)}" if shared else ""
    temporary = path.with_name(f".{md5(os.fsencode(path.name)).hexdigest()}{own}{WRITING_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            flush(file.fileno())
        _rename_file(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    flush_folder(path.parent)


def publish_folder(new: Path, final: Path) -> None:
    """Rename the flushed folder ``new`` to ``final`` in one step, durably.

    A folder that has the name already is exchanged for the new one, then removed. On a file system that
    cannot exchange names (some network ones) neither of them has the name for a moment.
    """
    make_folder(final.parent)
    if not final.exists():
        os.rename(new, final)
    elif not _exchange(new, final):
        new = _replace(new, final)
    flush_folder(final.parent)
    shutil.rmtree(new, ignore_errors=True)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove those of the files that exist, and flush each of their folders once.

    Raises OSError, IsADirectoryError for a folder with content in place of a file.
    """
    folders = set()
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except IsADirectoryError:
            _remove_empty(path)
        folders.add(path.parent)
    for folder in folders:
        if folder.is_dir():
            flush_folder(folder)


def _flush(path: Path, flags: int) -> bool:
    descriptor = os.open(path, flags)
    try:
        return flush(descriptor)
    finally:
        os.close(descriptor)


def _rename_file(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except IsADirectoryError:
        _remove_empty(path)
        os.replace(temporary, path)


def _remove_empty(folder: Path) -> None:
    """Remove an empty folder in place of a file. Raises IsADirectoryError for one with content."""
    try:
        folder.rmdir()
    except OSError:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(folder)) from None


def _replace(new: Path, final: Path) -> Path:
    """Rename ``final`` aside and ``new`` to ``final``. Return the path of the old folder."""
    aside = new.with_name(f"{new.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(final, aside)
    try:
        os.rename(new, final)
    except OSError:
        os.rename(aside, final)
        raise
    return aside


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically (Linux renameat2). Return False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(other))
