"""Unpacking of bundles, straight to their destination, where only whole files ever appear.

Every member is written beside its destination under a hidden temporary name and made durable; when all
bundles of a fileset are unpacked, ``put_in_place`` renames the files.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from isal import isal_zlib

from pipeline.bundle.archive import CHUNK_BYTES, Allowance, Member, UnpackLimits, read_members
from pipeline.bundle.config_dump import MAX_DUMP_BYTES, relocated_config_dump
from pipeline.durable import flush_file, flush_folder, make_folder
from pipeline.errors import BundleUnusable
from pipeline.names import TEMPORARY_SUFFIX

# Space that a file or folder takes on the disk besides its bytes, at most.
BLOCK_BYTES = 4096
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


def _all(_member: str) -> bool:
    return True


@dataclass(frozen=True)
class Unpacking:
    """Extraction of one bundle to ``folder``.

    ``data`` is the DATA folder, to which the paths in config dumps are relocated. ``tag`` distinguishes the
    temporary files of a fileset from those of others. ``wrote`` is called after each write, with the number
    of bytes that it took on the disk; what ``wrote`` raises ends the extraction. Members whose path
    ``chooses`` refuses are passed over.
    """

    bundle: Path
    folder: Path
    data: Path
    tag: str
    wrote: Callable[[int], None]
    limits: UnpackLimits
    chooses: Callable[[str], bool] = _all

    def run(self) -> list[UnpackedFile]:
        """Unpack the bundle into temporary files, and flush them to the disk.

        Raises BundleUnusable or HostileName, or OSError from the disk, and removes all temporary files first.
        """
        unpacked = _UnpackedFiles(self, Allowance(self.bundle, self.limits))
        try:
            unpacked.make_folder(self.folder)
            for member in read_members(self.bundle, unpacked.allowance):
                if self.chooses(member.name):
                    unpacked.add(member)
            for file in unpacked.files.values():
                flush_file(file.temporary)
        except BaseException:
            unpacked.discard()
            raise
        return list(unpacked.files.values())


@dataclass
class _UnpackedFiles:
    """Files of a bundle that is being unpacked, by destination."""

    request: Unpacking
    allowance: Allowance
    files: dict[Path, UnpackedFile] = field(default_factory=dict)
    temporaries: list[Path] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)

    def add(self, member: Member) -> None:
        """Write the member to a temporary file."""
        path = self.request.folder / member.name
        if path in self.files:
            raise BundleUnusable(
                f"{self.request.bundle}: expected each member once, got {member.name!r} twice. "
                "The bundle is not unpacked; the next run tries again."
            )
        content = self._content(member)
        if path.parent not in self.folders:
            self._make_inside(path.parent, member)
        self.files[path] = self._write(path, content, member.modified)

    def discard(self) -> None:
        """Remove the temporary files."""
        for temporary in self.temporaries:
            temporary.unlink(missing_ok=True)

    def make_folder(self, folder: Path) -> None:
        """Make the folder and its missing parents. Raises BundleUnusable where there is a file."""
        for missing in (folder, *folder.parents):
            if missing.is_dir():
                break
            self.allowance.use(members=1)
            self._took(BLOCK_BYTES)
        try:
            make_folder(folder)
        except (FileExistsError, NotADirectoryError) as error:
            raise BundleUnusable(
                f"{self.request.bundle}: expected a folder at {error.filename}, or nothing, there is a file. "
                "The bundle is not unpacked; the next run tries again."
            ) from None
        self.folders.add(folder)

    def _make_inside(self, folder: Path, member: Member) -> None:
        """Make a folder for members. Raises BundleUnusable if a link in DATA leads elsewhere."""
        if not folder.resolve().is_relative_to(self.request.folder.resolve()):
            raise BundleUnusable(
                f"{self.request.bundle}: expected member {member.name!r} to lie below {self.request.folder}, "
                "but a link there leads elsewhere. The bundle is not unpacked; remove the link, and the next "
                "run tries again."
            )
        self.make_folder(folder)

    def _content(self, member: Member) -> Iterable[bytes]:
        """Return the bytes to be written, in chunks."""
        if member.link is not None:
            return self._copy(member, member.link)
        if member.name.endswith(".mdc") and member.size <= MAX_DUMP_BYTES:
            return self._relocated(member)
        return member.content

    def _copy(self, member: Member, link: str) -> Iterator[bytes]:
        """Return the content of a file that is unpacked already. Raises BundleUnusable if there is none."""
        target = self.files.get(self.request.folder / link)
        if target is None:
            raise BundleUnusable(
                f"{self.request.bundle}: expected hard link {member.name!r} to lead to a file before it, "
                f"got {link!r}. The bundle is not unpacked; the next run tries again."
            )
        self.allowance.use(bytes=target.bytes)
        return _chunks_of(target.temporary)

    def _relocated(self, member: Member) -> Iterator[bytes]:
        dump = b"".join(member.content)
        source = f"{self.request.bundle}:{member.name}"
        relocated = relocated_config_dump(dump, source, self.request.data)
        self.allowance.use(bytes=max(0, len(relocated) - len(dump)))
        return (relocated[start : start + CHUNK_BYTES] for start in range(0, len(relocated), CHUNK_BYTES))

    def _write(self, path: Path, content: Iterable[bytes], modified: float) -> UnpackedFile:
        size = crc = 0
        temporary = path.with_name(temporary_name(path.name, self.request.tag))
        self.temporaries.append(temporary)
        with open(temporary, "wb") as file:
            self._took(BLOCK_BYTES)
            for chunk in content:
                file.write(chunk)
                self.request.wrote(len(chunk))
                size += len(chunk)
                crc = isal_zlib.crc32(chunk, crc)
        os.utime(temporary, (modified, modified))
        return UnpackedFile(path, temporary, size, f"{crc:08x}")

    def _took(self, count: int) -> None:
        """Count bytes on the disk that are no content of a member."""
        self.allowance.use(bytes=count)
        self.request.wrote(count)


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


def _chunks_of(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def temporary_name(name: str, tag: str) -> str:
    """Return the hidden name under which a file is written; its length does not depend on ``name``."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
    return f".{digest}.{tag}{TEMPORARY_SUFFIX}"


def remove_temporaries(folder: Path, tag: str) -> None:
    """Remove the temporary files with that tag below ``folder``."""
    for path in folder.rglob(f".*.{tag}{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)
