"""Who owns an unpacked file when several filesets hold one of that name.

Filesets share folders, and a later one may bring a file that an earlier one brought before. The one
that was registered later wins, in whatever order they are unpacked; both markers record it.

Threads, processes and hosts decide one after the other where they touch the same folder. Between
processes the kernel keeps them apart, with one byte of a lock file for each folder: over NFS too,
and however a process dies, its bytes are free again.
"""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipeline.bundle.unpack import UnpackedFile, file_crc32
from pipeline.mirror.layout import Layout, Step, short_digest
from pipeline.mirror.marker_file import read_marker
from pipeline.mirror.markers import Fileset

# Two folders that share a byte wait for each other without need: with so many, hardly ever.
_BYTES = 1 << 20
# Between two tries for a byte that another process holds. The kernel's own way to wait takes the threads of a
# process for one, and refuses as a deadlock what is none.
_PAUSE_SECONDS = 0.01

# Size in bytes and CRC-32 of files, by their paths relative to the root.
Contents = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Verdict:
    """What becomes of a fileset's files: those to put in place, and by path whom they replace or yield to."""

    placed: list[UnpackedFile]
    replaces: dict[str, str]
    yields_to: dict[str, str]


@dataclass
class Ownership:
    """Decides for the filesets that are being unpacked. Safe for use by several threads and processes.

    A process has one of them at most: closing a file gives back all that the process has locked of it.
    """

    layout: Layout
    _claimed: set[int] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _lock_file: int | None = None

    @contextmanager
    def claimed(
        self, fileset: Fileset, files: list[UnpackedFile], own: Contents, before: Iterable[str] = ()
    ) -> Iterator[Verdict]:
        """The verdict on ``files``, whose folders no other fileset can touch inside the ``with``.

        ``own`` is what an earlier registration of this fileset had unpacked; ``before`` are all paths of
        this fileset that may have to go.
        """
        paths = {self.layout.relative(file.path): file for file in files}
        places = sorted({_byte_of(path) for path in (*paths, *own, *before)})
        with self._claimed_here(places), self._locked(places):
            yield self._verdict(fileset, paths, own)

    def close(self) -> None:
        """Close the lock file."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextmanager
    def _claimed_here(self, places: list[int]) -> Iterator[None]:
        """Keep the other threads of this process out: the kernel's lock is one for all of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._claimed.isdisjoint(places))
            self._claimed.update(places)
        try:
            yield
        finally:
            with self._changed:
                self._claimed.difference_update(places)
                self._changed.notify_all()

    @contextmanager
    def _locked(self, places: list[int]) -> Iterator[None]:
        """Keep other processes out. In the order of the bytes, so that no two wait for each other."""
        lock_file = self._opened()
        try:
            for place in places:
                _lock_byte(lock_file, place)
            yield
        finally:
            for place in places:
                fcntl.lockf(lock_file, fcntl.LOCK_UN, 1, place)

    def _opened(self) -> int:
        with self._changed:
            if self._lock_file is None:
                path = self.layout.ownership_lock
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            return self._lock_file

    def _verdict(self, fileset: Fileset, paths: dict[str, UnpackedFile], own: Contents) -> Verdict:
        contested = {path for path, file in paths.items() if _is_contested(file, own.get(path))}
        owners = owners_of(self.layout, contested, {fileset}) if contested else {}
        yields_to = {path: owner for path, owner in owners.items() if is_later(owner, fileset)}
        return Verdict(
            placed=[file for path, file in paths.items() if path not in yields_to],
            replaces={path: str(owner) for path, owner in owners.items() if path not in yields_to},
            yields_to={path: str(owner) for path, owner in yields_to.items()},
        )


def owners_of(layout: Layout, paths: set[str], but: set[Fileset]) -> dict[str, Fileset]:
    """The latest fileset, other than those in ``but``, that unpacked each of the paths.

    Reads every extraction marker of the mirror: for rare use.
    """
    owners: dict[str, Fileset] = {}
    aside = {(fileset.product, fileset.name) for fileset in but}
    for product in layout.state_products():
        for name in layout.marked(Step.EXTRACTED, product):
            if (product, name) in aside:
                continue
            marker = read_marker(layout.marker(Step.EXTRACTED, product, name)) or {}
            for path in paths & {file["path"] for file in marker.get("files", [])}:
                owner = Fileset(product, name, marker["registered"])
                if path not in owners or is_later(owner, owners[path]):
                    owners[path] = owner
    return owners


def is_later(one: Fileset, other: Fileset) -> bool:
    """Whether ``one`` was registered after ``other``; names decide within one second, the same way always."""
    return (one.registered, one.product, one.name) > (other.registered, other.product, other.name)


def _byte_of(path: str) -> int:
    """The byte of the lock file that stands for the folder of the path."""
    return int(short_digest(str(PurePosixPath(path).parent)), 16) % _BYTES


def _lock_byte(lock_file: int, place: int) -> None:
    while True:
        try:
            fcntl.lockf(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            return
        except OSError as error:
            if error.errno not in {errno.EACCES, errno.EAGAIN}:
                raise
        time.sleep(_PAUSE_SECONDS)


def _is_contested(file: UnpackedFile, own: tuple[int, str] | None) -> bool:
    """Whether what has the file's name is neither the file nor what its fileset had there before."""
    try:
        size = file.path.stat().st_size
    except FileNotFoundError:
        return False
    known = {(file.bytes, file.crc32), own} - {None}
    return size not in {known_size for known_size, _ in known} or (size, file_crc32(file.path)) not in known
