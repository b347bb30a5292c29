"""Unpacking of bundles, straight to their destination, where only whole files ever appear.

Every member is written beside its destination under a hidden temporary name and made durable; when all
bundles of a fileset are unpacked, ``put_in_place`` renames the files.

A bundle holds folders and regular files only: its writer follows links (protocol notes, "Distribution
filesets"), so a bundle with a link, device or pipe is refused. All other members pass the ``data`` filter
of the standard library.
"""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isal import igzip, isal_zlib

from pipeline.bundle.archive import (
    CHUNK_BYTES,
    Header,
    UnpackLimits,
    refuse_more_than_padding,
    unusable_archive,
)
from pipeline.bundle.config_dump import relocated_config_dump
from pipeline.durable import flush_file, flush_folder, make_folder
from pipeline.errors import BundleUnusable
from pipeline.names import checked_member_path

MAX_DOCUMENT_BYTES = 256 << 20
TEMPORARY_SUFFIX = ".unpacking"
# Estimate of the bytes unpacked for each byte packed: FITS images compress to about a third.
USUAL_RATIO = 3


@dataclass(frozen=True)
class UnpackedFile:
    """File of a bundle, written to ``temporary``, with the destination ``path``.

    ``bytes`` is the size, ``crc32`` the CRC-32 as 8 hex digits.
    """

    path: Path
    temporary: Path
    bytes: int
    crc32: str


@dataclass(frozen=True)
class Unpacking:
    """Extraction of one bundle to ``folder``.

    ``data`` is the DATA folder, to which the paths in config dumps are relocated. ``tag`` distinguishes the
    temporary files of a fileset from those of others. ``wrote`` is called after each write, with the number
    of bytes.
    """

    bundle: Path
    folder: Path
    data: Path
    tag: str
    wrote: Callable[[int], None]
    limits: UnpackLimits

    def run(self) -> list[UnpackedFile]:
        """Unpack the bundle into temporary files, and flush them to the disk.

        Raises BundleUnusable or HostileName, or OSError from the disk, and removes all temporary files first.
        """
        self._make_folder(self.folder)
        paths: set[Path] = set()
        folders: set[Path] = set()
        unpacked: list[UnpackedFile] = []
        try:
            with unusable_archive(self.bundle):
                for member, content in self._members():
                    path = self._destination(member, paths)
                    if path.parent not in folders:
                        self._make_inside(path.parent, member)
                        folders.add(path.parent)
                    paths.add(path)
                    unpacked.append(self._write(member, content, path))
            for file in unpacked:
                flush_file(file.temporary)
        except BaseException:
            for path in paths:
                self._temporary(path).unlink(missing_ok=True)
            raise
        return unpacked

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
        """Yield the regular files of the archive, each with its content."""
        budget = self.limits.max_bytes(self.bundle.stat().st_size)
        count = 0
        with (
            igzip.open(self.bundle, "rb") as packed,  # type: ignore[no-untyped-call]
            tarfile.open(fileobj=packed, mode="r:", tarinfo=Header) as archive,
        ):
            for member in archive:
                count += 1
                budget -= member.size
                if count > self.limits.members or budget < 0:
                    raise BundleUnusable(
                        f"{self.bundle}: expected at most {self.limits.members} members and "
                        f"{self.limits.ratio} bytes for each byte packed, got more at {member.name[:300]!r}. "
                        "It is not unpacked; the next run tries again."
                    )
                content = self._checked(member, archive)
                if content is not None:
                    yield member, content
            refuse_more_than_padding(packed, self.bundle)

    def _checked(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> IO[bytes] | None:
        """Return the content of a regular file; None for a folder. Raises BundleUnusable for others."""
        if member.isdir():
            if member.name.strip("./"):
                checked_member_path(member.name, f"{self.bundle}, folder")
            return None
        if not member.isreg():
            raise BundleUnusable(
                f"{self.bundle}: expected regular files and folders, got member {member.name[:300]!r} "
                f"of tar type {member.type!r}. The bundle is not unpacked; the next run tries again."
            )
        member.name = checked_member_path(member.name, f"{self.bundle}, member")
        # Python 3.11.0 to 3.11.3 have no filters; the checks above cover most of them.
        if hasattr(tarfile, "data_filter"):
            # _make_inside resolves each folder once, so the filter need not resolve it for every member.
            tarfile.data_filter(member, "/")
        return archive.extractfile(member)

    def _destination(self, member: tarfile.TarInfo, unpacked: set[Path]) -> Path:
        path = self.folder / member.name
        if path in unpacked:
            raise BundleUnusable(
                f"{self.bundle}: expected each member once, got {member.name!r} twice. "
                "The bundle is not unpacked; the next run tries again."
            )
        return path

    def _make_inside(self, folder: Path, member: tarfile.TarInfo) -> None:
        """Make a folder for members. Raises BundleUnusable if a link in DATA leads elsewhere."""
        if not folder.resolve().is_relative_to(self.folder.resolve()):
            raise BundleUnusable(
                f"{self.bundle}: expected member {member.name!r} to lie below {self.folder}, "
                "but a link there leads elsewhere. The bundle is not unpacked; remove the link, and the next "
                "run tries again."
            )
        self._make_folder(folder)

    def _make_folder(self, folder: Path) -> None:
        try:
            make_folder(folder)
        except (FileExistsError, NotADirectoryError) as error:
            raise BundleUnusable(
                f"{self.bundle}: expected a folder at {error.filename}, or nothing, there is a file. "
                "The bundle is not unpacked; the next run tries again."
            ) from None

    def _write(self, member: tarfile.TarInfo, content: IO[bytes], path: Path) -> UnpackedFile:
        if member.name.endswith(".mdc") and member.size <= MAX_DOCUMENT_BYTES:
            chunks = iter([relocated_config_dump(content.read(), f"{self.bundle}:{member.name}", self.data)])
        else:
            chunks = iter(lambda: content.read(CHUNK_BYTES), b"")
        size = crc = 0
        temporary = self._temporary(path)
        with open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                self.wrote(len(chunk))
                size += len(chunk)
                crc = isal_zlib.crc32(chunk, crc)
        os.utime(temporary, (member.mtime, member.mtime))
        return UnpackedFile(path, temporary, size, f"{crc:08x}")

    def _temporary(self, path: Path) -> Path:
        return path.with_name(temporary_name(path.name, self.tag))


def expected_bytes(bundle: Path, limits: UnpackLimits) -> int:
    """Return the bytes that the bundle unpacks to, according to the size at its end (modulo 2**32 in gzip).

    The likeliest of the possible sizes, and never more than ``limits`` allow. This is an estimate: in another
    format, or in concatenated gzip members, the last bytes are no size of the whole. Raises OSError.
    """
    packed = bundle.stat().st_size
    with open(bundle, "rb") as file:
        file.seek(max(0, packed - 4))
        size = int.from_bytes(file.read(4), "little")
    wraps = max(0, round((packed * USUAL_RATIO - size) / (1 << 32)))
    return min(max(size + (wraps << 32), packed), limits.max_bytes(packed))


def put_in_place(files: list[UnpackedFile], data: Path) -> None:
    """Rename the files to their destinations, durably.

    An empty folder at a destination, perhaps of an earlier version of the bundle, is removed. Raises
    BundleUnusable, before any file is renamed, if a destination is a folder with content.
    """
    for file in files:
        if file.path.is_dir() and not file.path.is_symlink():
            _remove_empty_folders(file.path)
        if file.path.is_dir():
            raise BundleUnusable(
                f"{file.path}: expected nothing where a bundle has a file, or a file; there is a folder. "
                "Nothing of the fileset is unpacked; the next run tries again."
            )
    for file in files:
        os.replace(file.temporary, file.path)
    folders = {file.path.parent for file in files}
    # Parents up to DATA too: another process may have made one and not flushed its name yet.
    above = {parent for folder in folders for parent in folder.parents if parent.is_relative_to(data)}
    for folder in folders | above:
        flush_folder(folder)


def _remove_empty_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def discard(files: list[UnpackedFile]) -> None:
    """Remove the temporary files."""
    for file in files:
        file.temporary.unlink(missing_ok=True)


def file_crc32(path: Path) -> str:
    """Return the CRC-32 of a file, as 8 hex digits."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc = isal_zlib.crc32(chunk, crc)
    return f"{crc:08x}"


def temporary_name(name: str, tag: str) -> str:
    """Return the hidden name under which a file is written; its length does not depend on ``name``."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
    return f".{digest}.{tag}{TEMPORARY_SUFFIX}"


def remove_temporaries(folder: Path, tag: str) -> None:
    """Remove the temporary files with that tag below ``folder``."""
    for path in folder.rglob(f".*.{tag}{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)
