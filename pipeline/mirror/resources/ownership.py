"""Ownership of unpacked files: which of several filesets with a file of the same path provides it.

Filesets share folders, and a later one may have a file of the same path as an earlier one. The fileset that
was registered later owns the file, in whatever order they are unpacked; both markers record the decision.

Decisions on one folder are serialized over threads, processes and hosts. The filesets that come into question
are found in the folder's owner record.
"""

import posixpath
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.bundle.unpack import UnpackedFile
from pipeline.digests import file_crc32
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.owner_records import record_files, recorded_with

# Size in bytes and CRC-32 of files, by their paths relative to the root.
Contents = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Verdict:
    """Decision on a fileset's files.

    ``placed`` are the files to put in place; ``replaces`` and ``yields_to`` name by path the fileset whose
    file is replaced, or stays.
    """

    placed: list[UnpackedFile]
    replaces: dict[str, str]
    yields_to: dict[str, str]


@dataclass(frozen=True)
class Ownership:
    """Ownership decisions for filesets that are being unpacked. Safe for use by threads and processes."""

    layout: Layout
    locks: ByteLocks

    @contextmanager
    def claimed(self, fileset: Fileset, files: list[UnpackedFile], before: Set[str]) -> Iterator[Verdict]:
        """Lock the folders of ``files`` against other filesets inside the ``with``, and yield the verdict.

        The fileset is in the owner records of the folders from then on, so that its marker may be written.
        ``before`` are the paths of files from earlier registrations and attempts of this fileset, whose
        folders are locked too.
        """
        paths = {self.layout.relative(file.path): file for file in files}
        with self.held(paths.keys() | before):
            record_files(self.layout, fileset, paths)
            yield self._verdict(fileset, paths)

    @contextmanager
    def held(self, paths: Set[str]) -> Iterator[None]:
        """Lock the folders of the paths inside the ``with`` against adding and removing files."""
        folders = {posixpath.dirname(path) for path in paths}
        with self.locks.held(folders, "folders of unpacked files"):
            yield

    def _verdict(self, fileset: Fileset, paths: dict[str, UnpackedFile]) -> Verdict:
        contested = {path for path, file in paths.items() if _has_other_content(file)}
        owners = owners_of(self.layout, contested, {fileset})
        yields_to = {path: owner for path, owner in owners.items() if is_later(owner, fileset)}
        return Verdict(
            placed=[file for path, file in paths.items() if path not in yields_to],
            replaces={path: str(owner) for path, owner in owners.items() if path not in yields_to},
            yields_to={path: str(owner) for path, owner in yields_to.items()},
        )


def owners_of(layout: Layout, paths: Set[str], but: Set[Fileset]) -> dict[str, Fileset]:
    """Return for each of the paths the latest fileset, other than those in ``but``, that unpacked it.

    Reads the owner records of the folders of the paths, and the extraction markers of those filesets that may
    have one of the paths. A reader that does not hold the locks of the folders may miss a fileset that is not
    marked yet.
    """
    owners: dict[str, Fileset] = {}
    for product, name in recorded_with(layout, paths) - {(each.product, each.name) for each in but}:
        marker = read_marker(layout.marker(MarkerKind.EXTRACTED, product, name)) or {}
        for path in paths & {file["path"] for file in marker.get("files", [])}:
            owner = Fileset(product, name, marker["registered"])
            if path not in owners or is_later(owner, owners[path]):
                owners[path] = owner
    return owners


def marked_contents(layout: Layout, kind: str, fileset: Fileset) -> Contents:
    """Return the contents in the fileset's marker of that kind; none without a good one."""
    marker = read_marker(layout.marker(kind, fileset.product, fileset.name)) or {}
    return {file["path"]: (file["bytes"], file["crc32"]) for file in marker.get("files", [])}


def is_intact(layout: Layout, owner: Fileset, path: str) -> bool:
    """Return True if the file at ``path`` has the content recorded in its owner's marker."""
    size, crc = marked_contents(layout, MarkerKind.EXTRACTED, owner)[path]
    file = layout.root / path
    try:
        return file.stat().st_size == size and file_crc32(file) == crc
    except FileNotFoundError:
        return False


def is_later(one: Fileset, other: Fileset) -> bool:
    """Return True if ``one`` was registered after ``other``; within one second the names decide."""
    return (one.registered, one.product, one.name) > (other.registered, other.product, other.name)


def _has_other_content(file: UnpackedFile) -> bool:
    """Return True if another content than that of this file lies at its destination."""
    try:
        size = file.path.stat().st_size
    except FileNotFoundError:
        return False
    return size != file.bytes or file_crc32(file.path) != file.crc32
