"""Reproducible archives in the form of ``tar -C DIR --owner=ipp --group=users -czhf FILE .``."""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isal import igzip

if TYPE_CHECKING:
    from typing_extensions import Buffer

COMPRESSION = 1
_OWNER, _GROUP = "ipp", "users"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """File of an archive."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Written:
    """Size and md5 of a file, computed while it was written."""

    bytes: int
    md5: str


class DigestingFile(io.BufferedWriter):
    """New file with the size and md5 of the bytes written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"), _CHUNK)
        self._digest = hashlib.md5(usedforsecurity=False)
        self._bytes = 0

    def write(self, data: "Buffer", /) -> int:
        """Append the bytes."""
        self._digest.update(data)
        self._bytes += memoryview(data).nbytes
        return super().write(data)

    @property
    def written(self) -> Written:
        """Size and md5 of the bytes written so far."""
        return Written(self._bytes, self._digest.hexdigest())


def write_archive(path: Path, members: Iterable[Member], mtime: int) -> Written:
    """Write the members as a gzipped archive, with one of them in memory at a time.

    ``mtime`` is seconds since 1970, for every member. The unpacked bytes are always the same; the packed ones
    where isal chooses the same code for the processor.
    """
    with DigestingFile(path) as file:
        with (
            igzip.IGzipFile(  # type: ignore[no-untyped-call]
                filename="", mode="wb", compresslevel=COMPRESSION, fileobj=file, mtime=0
            ) as packed,
            tarfile.TarFile(
                fileobj=packed, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_CHUNK
            ) as archive,
        ):
            archive.addfile(folder_entry(mtime))
            for member in members:
                archive.addfile(
                    file_entry(member.name, len(member.content), mtime), io.BytesIO(member.content)
                )
        return file.written


def folder_entry(mtime: int) -> tarfile.TarInfo:
    """Return the header of the ``./`` at the beginning of every archive."""
    entry = _entry("./", mtime)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o775
    return entry


def file_entry(name: str, size: int, mtime: int) -> tarfile.TarInfo:
    """Return the header of a member of ``size`` bytes."""
    entry = _entry(f"./{name}", mtime)
    entry.size, entry.mode = size, 0o664
    return entry


def _entry(name: str, mtime: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.uname, entry.gname = mtime, _OWNER, _GROUP
    entry.uid, entry.gid = 1001, 100
    return entry
