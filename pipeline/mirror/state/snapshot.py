"""Snapshots of folders of markers: which good markers a folder has, and the bytes that each of them records.

A folder may have a million markers: to read them, or only to ask for the state of each file, would take
longer than the rest of a run. A snapshot is a cache beside the folder, ``KIND.snapshot``, in JSON lines: a
header, then objects of names and bytes. It may be deleted at any time.

A snapshot is current while the modification time of the folder is the recorded one, if that was safely in the
past when the folder was looked at: two changes in one tick of the clock leave one time (git's rule for
"racily clean" entries). Else a look at the names in the folder is needed, and only those markers are read
that the snapshot does not name. So a marker that is damaged in its place is found by who reads it, and by
verification.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from pipeline.durable import WRITING_SUFFIX, flush_folder, write_whole
from pipeline.mirror.state.clock import SAFE_AGE_NS, time_or_zero
from pipeline.mirror.state.marker_file import SCHEMA, SUFFIX, read_marker

_NAMES_PER_LINE = 10_000
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Header:
    """First line of a snapshot.

    ``schema`` is that of the markers. ``modified`` is the modification time of the folder, ``taken`` the time
    just before it was looked at, both in ns since 1970 by the clock of the file system. ``count`` and
    ``bytes`` are sums over the markers, ``names`` is a digest of their names, ``crc32`` that of all further
    lines.
    """

    schema: int
    modified: int
    taken: int
    count: int
    bytes: int
    names: str
    crc32: int

    def is_current(self, folder: Path) -> bool:
        """Return True if nothing came to the folder, or left it, since it was looked at."""
        return self.taken - self.modified >= SAFE_AGE_NS and self.modified == _modified(folder)


def current_header(folder: Path) -> Header | None:
    """Return the header of the folder's snapshot; None when there is none that is current."""
    with _snapshot(folder) as (header, _):
        return header if header and header.is_current(folder) else None


def good_markers(folder: Path) -> set[str]:
    """Return the names, without suffix, of the good markers in the folder; none when there is no folder."""
    with _snapshot(folder) as (header, parts), suppress(OSError, ValueError):
        if header and header.is_current(folder):
            return set(chain.from_iterable(parts))
    return set(_look(folder).sizes)


def good_in_all(folders: Iterable[Path]) -> set[str]:
    """Return the names with a good marker in each of the folders.

    Of folders with the same names one is read: a million names take a hundred MB.
    """
    different: dict[str, Path] = {}
    for folder in folders:
        header = current_header(folder)
        different[header.names if header else str(folder)] = folder
    first, *others = different.values()
    return good_markers(first).intersection(*map(good_markers, others))


def marker_names(folder: Path) -> set[str]:
    """Return the names, without suffix, of all markers in the folder, good or not."""
    return set(each_marker(folder))


def each_marker(folder: Path) -> Iterator[str]:
    """Yield the names, without suffix, of all markers in the folder, good or not, as the folder is read.

    Those read may be removed meanwhile.
    """
    return (file.removesuffix(SUFFIX) for file in _files(folder) if file.endswith(SUFFIX))


def count_markers(folder: Path) -> int:
    """Return the number of markers in the folder: of good ones where the snapshot is current."""
    header = current_header(folder)
    return header.count if header else sum(file.endswith(SUFFIX) for file in _files(folder))


def held_bytes(folder: Path, read_at_most: int) -> tuple[int, bool]:
    """Return the bytes that the markers in the folder record, and True if the number is exact.

    Without a current snapshot at most so many markers are read; of more, the number is estimated from the
    last snapshot, or from those that are read.
    """
    with _snapshot(folder) as (header, _):
        if header and header.is_current(folder):
            return header.bytes, True
    files = [file for file in _files(folder) if file.endswith(SUFFIX)]
    if len(files) > read_at_most and header and header.count:
        return header.bytes * len(files) // header.count, False
    sample = files[:read_at_most]
    read = sum(_recorded_bytes(folder / file) or 0 for file in sample)
    return (read * len(files) // len(sample) if sample else 0), len(sample) == len(files)


def renew_snapshot(folder: Path) -> int:
    """Write the snapshot of the folder unless it is current; return the bytes that the markers record.

    For the holder of the update lock.
    """
    header = current_header(folder)
    if header or not folder.is_dir():
        return header.bytes if header else 0
    # No snapshot may name a marker that a power cut could take back.
    flush_folder(folder)
    taken, modified = time_or_zero(folder.parent), _modified(folder)
    look = _look(folder)
    # With a snapshot the folder is not searched for what a kill left half-written.
    if modified is not None and not look.is_half_written:
        # A run does not fail because the disk is too full for a cache.
        with suppress(OSError):
            if look.is_as_known:
                _confirm(folder, modified, taken)
            else:
                _write(folder, modified, taken, look.sizes)
    return sum(look.sizes.values())


@dataclass(frozen=True)
class _Look:
    """State of a folder: bytes that each good marker records, and True if these are as in the snapshot.

    ``is_half_written`` is True if a file was being written.
    """

    sizes: dict[str, int]
    is_as_known: bool
    is_half_written: bool


def _look(folder: Path) -> _Look:
    """Look at the names in the folder, and read the markers that the snapshot does not name."""
    known = _known(folder)
    count = len(known)
    sizes: dict[str, int] = {}
    is_half_written = False
    for file in _files(folder):
        is_half_written |= file.endswith(WRITING_SUFFIX)
        if file.endswith(SUFFIX):
            name = file.removesuffix(SUFFIX)
            # Moved from one to the other, so that no million names is in memory twice.
            size = known.pop(name, None)
            if size is None:
                size = _recorded_bytes(folder / file)
            if size is not None:
                sizes[name] = size
    return _Look(sizes, count > 0 and not known and len(sizes) == count, is_half_written)


def _files(folder: Path) -> Iterator[str]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _recorded_bytes(path: Path) -> int | None:
    """Return the bytes of the files in the marker, 0 in one without files; None for one that is not good."""
    marker = read_marker(path)
    if marker is None:
        return None
    files = marker.get("files")
    sizes = [file.get("bytes") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return sum(size for size in sizes if isinstance(size, int))


def _known(folder: Path) -> dict[str, int]:
    """Return the bytes by name in the snapshot, current or not; none from a damaged one."""
    known: dict[str, int] = {}
    try:
        with _snapshot(folder) as (_, parts):
            for part in parts:
                known.update(part)
    except (OSError, ValueError):
        return {}
    return known


@contextmanager
def _snapshot(folder: Path) -> Iterator[tuple[Header | None, Iterator[dict[str, int]]]]:
    """Open the snapshot of the folder: yield its header, and bytes by name in parts.

    Without a snapshot that can be opened there is no header and no part. A part that is damaged or cannot be
    read raises ValueError or OSError.
    """
    with ExitStack() as opened:
        try:
            file = opened.enter_context(open(_snapshot_path(folder), "rb", buffering=_BLOCK_BYTES))
        except OSError:
            yield None, iter(())
            return
        header = _read_header(file)
        yield header, _parts(file, header) if header else iter(())


def _snapshot_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.snapshot")


def _read_header(file: BinaryIO) -> Header | None:
    try:
        header = Header(**json.loads(file.readline()))
    except (OSError, TypeError, ValueError):
        return None
    numbers = (header.modified, header.taken, header.count, header.bytes, header.crc32)
    return header if header.schema == SCHEMA and all(isinstance(each, int) for each in numbers) else None


def _parts(file: BinaryIO, header: Header) -> Iterator[dict[str, int]]:
    """Yield the parts after the header. Raises ValueError when one is damaged, at the end at the latest."""
    checksum = 0
    for line in file:
        checksum = crc32(line, checksum)
        part: Any = json.loads(line)
        if not isinstance(part, dict):
            raise ValueError("expected an object in each line of the snapshot")
        yield part
    if checksum != header.crc32:
        raise ValueError("expected another checksum of the snapshot")


def _confirm(folder: Path, modified: int, taken: int) -> None:
    """Write the snapshot with the names that it has, which were found at another look."""
    path = _snapshot_path(folder)
    head, _, body = path.read_bytes().partition(b"\n")
    header = replace(Header(**json.loads(head)), modified=modified, taken=taken)
    write_whole(path, json.dumps(asdict(header)).encode() + b"\n" + body)


def _write(folder: Path, modified: int, taken: int, sizes: dict[str, int]) -> None:
    names = sorted(sizes)
    digest = sha256()
    body = bytearray()
    for start in range(0, len(names), _NAMES_PER_LINE):
        part = names[start : start + _NAMES_PER_LINE]
        digest.update(os.fsencode("/".join(part)) + b"/")
        line = json.dumps({name: sizes[name] for name in part}, separators=(",", ":"))
        body += line.encode() + b"\n"
    total = sum(sizes.values())
    header = Header(SCHEMA, modified, taken, len(names), total, digest.hexdigest(), crc32(body))
    path = _snapshot_path(folder)
    write_whole(path, json.dumps(asdict(header)).encode() + b"\n" + body)


def _modified(folder: Path) -> int | None:
    """Return the modification time (ns) of the folder; None when there is no folder."""
    try:
        # Opened: over NFS, the time of a folder that is not may be a minute old.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)
