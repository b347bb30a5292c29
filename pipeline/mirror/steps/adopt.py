"""Adoption of a mirror made by ``update_mirror.py``: its files are verified and taken over, not fetched.

That program keeps the files of a fileset in ``PRODUCT/FILESET/`` (protocol notes, "Mirrors of
update_mirror.py"). Each file is read once: a file with the listed size and md5 gets a second name, or a copy,
in ``incoming/``, and takes part in the download as if it had been fetched. All else stays where it is.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path

from pipeline.datastore.listing import INDEX, FileRow
from pipeline.digests import file_md5
from pipeline.durable import WRITING_SUFFIX
from pipeline.errors import MachineFault, MirrorError, SettingsError, machine_faults
from pipeline.mirror.context import Report, RunContext
from pipeline.mirror.state.layout import Layout, MarkerKind, short_digest
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.steps.download import download_fileset
from pipeline.names import is_usable, some

_CHUNK_BYTES = 1 << 20
# Files of a product that are linked on trial before any is taken over.
_TRIED_FILES = 10


class TakeOver(StrEnum):
    """The way of a verified file into the mirror.

    ``RENAME`` is a link as well: the old name is removed after the fileset is marked.
    """

    LINK = "link"
    RENAME = "rename"
    COPY = "copy"


@dataclass(frozen=True)
class AdoptedFolder:
    """Folder of a mirror made by ``update_mirror.py``; ``path`` is absolute and without symbolic links."""

    path: Path
    by: TakeOver

    def fileset(self, product: str, fileset: str) -> Path:
        """Return the folder of the files of a fileset."""
        return self.path / product / fileset

    def filesets(self, product: str) -> tuple[set[str], set[str]]:
        """Return the names of the folders in that of the product, and other names there but its listing's.

        Symbolic links are not followed. Raises OSError.
        """
        folders: set[str] = set()
        others: set[str] = set()
        with os.scandir(self.path / product) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else others).add(entry.name)
        return folders, others - {INDEX}


@dataclass
class AdoptionOutcome:
    """Outcome of the adoption of one fileset.

    ``files`` with ``bytes`` in all were taken over. ``left`` are those that were not, with the reason by
    name; ``unlisted`` are names that the fileset's listing does not have. ``error`` is that of the step.
    """

    files: int = 0
    bytes: int = 0
    left: dict[str, str] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    error: MirrorError | None = None


def adopt_fileset(
    context: RunContext, argument: tuple[AdoptedFolder, Fileset], report: Report
) -> AdoptionOutcome:
    """Download a fileset, except for its files that are taken over; return the outcome, errors included."""
    folder, fileset = argument
    adoption = _Adoption(context, folder, fileset)
    try:
        download_fileset(context, fileset, report, adoption.take)
        adoption.finish()
    except MirrorError as error:
        adoption.outcome.error = error
    return adoption.outcome


def remove_old_names(layout: Layout, folder: AdoptedFolder, fileset: Fileset) -> int:
    """Remove the names of those files of a complete fileset of which ``store/`` has the same file.

    Return their number. Raises OSError.
    """
    marker = fresh_marker(layout, MarkerKind.DOWNLOADED, fileset) or {"files": []}
    store, old = layout.store(fileset.product, fileset.name), folder.fileset(fileset.product, fileset.name)
    # One folder under two paths, by a mount for example, has one name of each file only.
    if not (store.is_dir() and old.is_dir()) or store.samefile(old):
        return 0
    names = [
        each["name"] for each in marker["files"] if _is_same_file(store / each["name"], old / each["name"])
    ]
    for name in names:
        (old / name).unlink()
    return len(names)


@dataclass
class _Adoption:
    context: RunContext
    folder: AdoptedFolder
    fileset: Fileset
    outcome: AdoptionOutcome = field(default_factory=AdoptionOutcome)

    @property
    def _source(self) -> Path:
        return self.folder.fileset(self.fileset.product, self.fileset.name)

    def take(self, row: FileRow, path: Path) -> bool:
        """Take over the row's file as ``path`` if it is there and as listed; return True then.

        Raises MachineFault where the file must not be read or linked: it is not fetched in its place.
        """
        source = self._source / row.name
        doing = f"taking over {source} by {self.folder.by}"
        with machine_faults(doing, needed=row.bytes):
            try:
                reason = self._take(source, row, path)
            except PermissionError as error:
                raise _no_permission(doing, error) from None
        if reason:
            self.outcome.left[row.name] = reason
        return path.exists()

    def _take(self, source: Path, row: FileRow, path: Path) -> str:
        """Take over one file; return the reason why it is left, empty if it is taken or absent."""
        try:
            status = source.lstat()
        except FileNotFoundError:
            return ""
        if reason := _difference(status, row):
            return reason
        try:
            found = self._copy(source, row) if self._copies else file_md5(source)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return f"unreadable: {error.strerror}"
        if found != row.md5:
            self._copied(row).unlink(missing_ok=True)
            return f"expected md5 {row.md5} as listed, it has {found}"
        if self._copies:
            os.rename(self._copied(row), path)
        else:
            os.link(source, path, follow_symlinks=False)
        self.outcome.files += 1
        self.outcome.bytes += row.bytes
        return ""

    @property
    def _copies(self) -> bool:
        return self.folder.by is TakeOver.COPY

    def _copied(self, row: FileRow) -> Path:
        """Return the path of a copy that is not verified yet."""
        incoming = self.context.layout.incoming(self.fileset.product, self.fileset.name)
        return incoming / "partial" / f"{short_digest(row.name)}.copy"

    def _copy(self, source: Path, row: FileRow) -> str:
        """Copy a file, which is read once; return its md5. Raises MachineFault on a full disk."""
        digest, path = hashlib.md5(usedforsecurity=False), self._copied(row)
        with (
            self.context.space.reserved({path.parent: row.bytes}, f"the copy of {source}") as reservations,
            open(source, "rb") as file,
            open(path, "wb") as copy,
        ):
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                copy.write(chunk)
                reservations[path.parent].written(len(chunk))
        return digest.hexdigest()

    def finish(self) -> None:
        """Note which files no listing names, and remove the old names of those that were renamed."""
        marker = fresh_marker(self.context.layout, MarkerKind.DOWNLOADED, self.fileset) or {"files": []}
        listed = {INDEX, *(file["name"] for file in marker["files"])}
        with machine_faults(f"fileset {self.fileset}, which is complete: removing its old names"):
            self.outcome.unlisted = sorted(_names(self._source) - listed)
            if self.folder.by is TakeOver.RENAME:
                remove_old_names(self.context.layout, self.folder, self.fileset)


def _is_same_file(one: Path, other: Path) -> bool:
    """Return True for two names of one file; False also where one of them does not exist."""
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except FileNotFoundError:
        return False


def _difference(status: os.stat_result, row: FileRow) -> str:
    """Return the reason why a file cannot be the listed one, or cannot be known to be; else nothing."""
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link, which is not followed"
    if not stat.S_ISREG(status.st_mode):
        return "expected a regular file"
    if status.st_size != row.bytes:
        return f"expected {row.bytes} bytes as listed, it has {status.st_size}"
    return "" if row.md5 else "no md5 is listed that it could be compared with"


def _no_permission(doing: str, error: PermissionError) -> MachineFault:
    return MachineFault(
        f"{doing}: {error.strerror}. Give the user that runs the mirror the right to read the file, and for "
        "a link or a rename also to write it, or make that user its owner; nothing was fetched in its place, "
        "and the next run tries again."
    )


def checked_folder(folder: Path, root: Path) -> Path:
    """Return the folder without symbolic links. Raises SettingsError unless it can be adopted into ``root``.

    The root may lie in the folder, which may be all of a file system.
    """
    real = Path(os.path.realpath(folder))
    try:
        with os.scandir(real):
            pass
    except OSError as error:
        raise SettingsError(
            f"expected a folder that update_mirror.py filled, got: {error.strerror} at {folder}. "
            "Nothing was started."
        ) from None
    if real.is_relative_to(os.path.realpath(root)):
        raise SettingsError(
            f"expected a folder outside mirror.root, got {folder}, which is {real} and not outside {root}. "
            f"Set mirror.root to another folder of the same file system (it may be a new one in {real}); "
            "nothing was started."
        )
    return real


def products_here(folder: AdoptedFolder, layout: Layout, products: Collection[str]) -> list[str]:
    """Return those of the products of which the folder has filesets that can be taken over.

    Raises SettingsError if there are none, or if their files cannot be taken over in the way that was chosen.
    """
    here = [product for product in products if is_usable(product) and _is_folder(folder.path / product)]
    if not here:
        whole = folder.path.parent if folder.path.name in products else "the folder"
        raise SettingsError(
            f"expected one of the products {named(products)} as a folder in {folder.path}, "
            f"got {named(_names(folder.path)) or 'an empty folder'}. Name {whole} "
            "with PRODUCT/FILESET/files, or correct mirror.products; nothing was taken over."
        )
    for product in here:
        if Path(os.path.realpath(layout.root)).is_relative_to(folder.path / product):
            raise SettingsError(
                f"expected mirror.root outside the folders of the products, got {layout.root} in "
                f"{folder.path / product}. Set it to another folder of that file system; "
                "nothing was taken over."
            )
        if folder.by is not TakeOver.COPY:
            _check_links(folder, layout, product)
    return here


def named(names: Collection[str], most: int = 5) -> str:
    """Return at most so many names as text, in one line of ASCII, and how many there are beyond these."""
    return some([name if is_usable(name) else ascii(name) for name in sorted(names)], most)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _check_links(folder: AdoptedFolder, layout: Layout, product: str) -> None:
    """Raise SettingsError if none of some files can have a second name in the mirror, or lose the first."""
    refused = None
    for file in islice(_files(folder.path / product), _TRIED_FILES):
        try:
            _try_link(file, layout, product)
            if folder.by is TakeOver.RENAME and not os.access(file.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            refused = refused or _cannot_link(file, folder, layout, product, error)
        else:
            return
    if refused:
        raise SettingsError(refused)


def _files(product: Path) -> Iterator[Path]:
    """Yield a regular file of each fileset that has one and may be read."""
    with os.scandir(product) as filesets:
        for fileset in filesets:
            if fileset.is_dir(follow_symlinks=False):
                with suppress(PermissionError), os.scandir(fileset) as files:
                    regular = (Path(file.path) for file in files if file.is_file(follow_symlinks=False))
                    yield from islice(regular, 1)


def _linking_folder(layout: Layout, product: str) -> Path:
    """Return a folder on the file system of the product's folder in ``incoming/``."""
    volume = layout.volume(product)
    return volume if volume.is_symlink() else layout.root / "incoming"


def _try_link(file: Path, layout: Layout, product: str) -> None:
    """Link the file into the mirror, and remove that name again. Raises OSError."""
    probe = _linking_folder(layout, product) / f".adoption{WRITING_SUFFIX}"
    probe.parent.mkdir(exist_ok=True)
    probe.unlink(missing_ok=True)
    os.link(file, probe, follow_symlinks=False)
    probe.unlink()


def _cannot_link(file: Path, folder: AdoptedFolder, layout: Layout, product: str, error: OSError) -> str:
    if error.errno == errno.EXDEV and (link := layout.volume(product)).is_symlink():
        return (
            f"{file} and the volume of product {product} ({link.readlink()}) lie on two file systems, "
            "between which a file can be neither linked nor renamed. Choose `--by copy`, which needs disk "
            "space for all files a second time; nothing was taken over."
        )
    if error.errno == errno.EXDEV:
        return (
            f"{file} and mirror.root ({layout.root}) lie on two file systems, between which a file can be "
            "neither linked nor renamed. Set mirror.root to a folder of the file system of the adopted "
            "folder, or choose `--by copy`, which needs disk space for all files a second time; "
            "nothing was taken over."
        )
    return (
        f"expected that {file} can be taken over by {folder.by}, got: {error.strerror}. Linux lets a user "
        "link the files that it owns or may read and write, and rename those in folders that it may write "
        "to; some file systems have no links. Correct that, or choose another --by; nothing was taken over."
    )
