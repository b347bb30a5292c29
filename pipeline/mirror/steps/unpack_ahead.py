"""Unpacking the large bundles of a fileset while they come from a server far away.

Inflating takes a core, and a line of that length leaves one idle: when the last byte is here, little is left
to be unpacked. Only hidden temporary files are written. They count once every file of the fileset was
verified and they are on record in the journal: ``Extraction`` takes them over and publishes them as its own.

All this is for speed alone. Whatever goes wrong, the bundle is given up here, and ``Extraction``
unpacks it and tells what there is to tell.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.bundle.dirinfo import read_dirinfo
from pipeline.bundle.unpack import USUAL_RATIO, UnpackedFile, Unpacking, UnpackLimits, discard
from pipeline.datastore.growing import GivenUp, Growing, GrowingFile
from pipeline.datastore.listing import FileRow
from pipeline.datastore.split import WORTH_SPLITTING_BYTES
from pipeline.durable import flush_folder
from pipeline.mirror.context import Site
from pipeline.mirror.resources.disk_space import Promise
from pipeline.mirror.state.layout import Step
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.steps.journal import AsUnpacked, Journal, journal_of

# What a file takes on a disk at least.
_BLOCK_BYTES = 4096

log = logging.getLogger("ipp-mirror")


@dataclass(frozen=True)
class _Bundle:
    """A bundle that comes into ``part``."""

    row: FileRow
    part: Path
    growing: Growing


@dataclass(eq=False)
class UnpackingAhead:
    """The bundles of one fileset, whose files of all ``rows`` come to ``files`` when they are verified.

    What is written counts as ``room``, which has ``USUAL_RATIO`` times the bytes of each bundle for it.
    Safe for use by several threads.
    """

    site: Site
    fileset: Fileset
    rows: list[FileRow]
    files: Path
    room: Promise
    _waiting: list[_Bundle] = field(default_factory=list)
    _running: list[tuple[_Bundle, Future[list[UnpackedFile]]]] = field(default_factory=list)
    _changed: threading.Lock = field(default_factory=threading.Lock)
    _describing: threading.Lock = field(default_factory=threading.Lock)
    _folders: dict[str, Path] = field(default_factory=dict)

    def in_order(self, rows: list[FileRow]) -> list[FileRow]:
        """The rows as they are best fetched: without dirinfo nobody knows where a bundle goes."""
        if any(map(self._is_worth, rows)):
            return sorted(rows, key=lambda row: row is not self._dirinfo)
        return rows

    @contextmanager
    def fetching(self, row: FileRow, part: Path) -> Iterator[Growing | None]:
        """Around the transfer of a file into ``part`` and its renaming: what is to be told how far it is."""
        bundle = _Bundle(row, part, Growing()) if self._is_worth(row) else None
        if bundle:
            self._begin(bundle)
        try:
            yield bundle.growing if bundle else None
        except BaseException:
            if bundle:
                bundle.growing.give_up()
            raise
        if bundle:
            # Whatever the transfer has told: nobody is to wait for more.
            bundle.growing.whole_to(row.bytes)
        if row is self._dirinfo:
            self._begin_waiting()

    def end(self) -> None:
        """Every file is verified: put what was unpacked on record. What has not begun by now is left."""
        ahead = {}
        begun = [(bundle, unpacking) for bundle, unpacking in self._running if not unpacking.cancel()]
        for bundle, unpacking in begun:
            if (files := self._outcome(bundle, unpacking)) is not None:
                ahead[self._as_unpacked(bundle.row)] = files
        try:
            if ahead:
                self._journal.record(ahead)
        except OSError as error:
            log.debug("fileset %s: what was unpacked ahead is not on record: %s", self.fileset, error)
            ahead = {}
        if self._running and not ahead:
            self._journal.give_up()

    def give_up(self) -> None:
        """Not every file could be had: leave nothing."""
        for bundle, _ in self._running:
            bundle.growing.give_up()
        wait([unpacking for _, unpacking in self._running if not unpacking.cancel()])
        self._journal.give_up()

    @cached_property
    def _journal(self) -> Journal:
        return journal_of(self.site.layout, self.fileset)

    @cached_property
    def _dirinfo(self) -> FileRow | None:
        return next((row for row in self.rows if row.component == "dirinfo"), None)

    @cached_property
    def _is_wanted(self) -> bool:
        """Whether the fileset is to be unpacked after this: one that was has a damaged file fetched again."""
        wanted = self.site.settings.mirror.unpack and self._dirinfo is not None
        return wanted and fresh_marker(self.site.layout, Step.EXTRACTED, self.fileset) is None

    def _is_worth(self, row: FileRow) -> bool:
        large = row.is_bundle and row.md5 is not None and row.bytes >= WORTH_SPLITTING_BYTES
        return large and self.site.store.far_seconds > 0 and self._is_wanted

    def _begin(self, bundle: _Bundle) -> None:
        with self._changed:
            self._waiting.append(bundle)
        if (self.files / self._dirinfo.name).exists():
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Begin with all bundles that are on their way: dirinfo is here."""
        with self._changed:
            while self._waiting:
                bundle = self._waiting.pop(0)
                try:
                    self._running.append((bundle, self.site.unpackers.submit(self._unpack, bundle)))
                except RuntimeError:
                    # No thread can be started. It is queued all the same, and is not to wait for bytes.
                    bundle.growing.give_up()

    def _unpack(self, bundle: _Bundle) -> list[UnpackedFile]:
        """Unpack a bundle as it comes, to its end. Raises whatever goes wrong; no file is left then."""
        layout, row = self.site.layout, bundle.row
        bundle.growing.beyond(0)
        path = layout.store(self.fileset.product, self.fileset.name) / row.name
        # What it may unpack to is what there is room for.
        limits = UnpackLimits(ratio=min(USUAL_RATIO, self._ratio), always_allowed_bytes=0)
        folder, tag, wrote = self._folder(row), self._journal.tag, self._counted(row)
        with GrowingFile(bundle.growing, row.bytes, bundle.part, self.files / row.name) as coming:
            unpacking = Unpacking(path, folder, layout.data, tag, wrote, limits, coming, row.bytes)
            return unpacking.run()

    def _counted(self, row: FileRow) -> Callable[[int], None]:
        """Takes note of bytes written for a bundle; raises GivenUp when there is no room for so many.

        The headers of members do not tell all: a small file takes a block, and a config dump grows when its
        paths become local ones.
        """
        left = row.bytes * USUAL_RATIO

        def wrote(count: int) -> None:
            nonlocal left
            left -= max(count, _BLOCK_BYTES)
            self.room.written(count)
            if left < 0:
                raise GivenUp

        return wrote

    def _folder(self, row: FileRow) -> Path:
        """Where the bundle goes, as dirinfo says; the journal names the folder then."""
        with self._describing:
            if not self._folders:
                folders = self._described_folders()
                self._begin_journal(set(folders.values()))
                self._folders = folders
        return self._folders[row.name]

    def _described_folders(self) -> dict[str, Path]:
        document = (self.files / self._dirinfo.name).read_bytes()
        described = read_dirinfo(document, f"{self.fileset}/{self._dirinfo.name}")
        bundles = [row for row in self.rows if row.is_bundle]
        return {row.name: self.site.layout.data / described.folder(row.component or "") for row in bundles}

    def _begin_journal(self, folders: set[Path]) -> None:
        # The download made the journal's folder; its name is on the disk before temporary files are.
        incoming = self._journal.folder.parent
        for folder in (incoming, incoming.parent, self.site.layout.root):
            flush_folder(folder)
        self._journal.begin(folders)

    @property
    def _ratio(self) -> int:
        return self.site.settings.mirror.unpack_ratio

    def _as_unpacked(self, row: FileRow) -> AsUnpacked:
        return AsUnpacked(row.name, row.bytes, row.md5, str(self._folder(row)), self._ratio)

    def _outcome(self, bundle: _Bundle, unpacking: Future[list[UnpackedFile]]) -> list[UnpackedFile] | None:
        """The files of a bundle that was verified; None when it is given up, with nothing left of it."""
        if (error := unpacking.exception()) is not None:
            log.debug("%s is not unpacked ahead: %r", bundle.row.name, error)
            return None
        try:
            bundle.growing.check()
        except GivenUp:
            # What cannot be removed now goes with the journal's folders.
            with suppress(OSError):
                discard(unpacking.result())
            return None
        return unpacking.result()


@contextmanager
def unpacking_ahead(
    site: Site, fileset: Fileset, rows: list[FileRow], files: Path, room: Promise
) -> Iterator[UnpackingAhead]:
    """What unpacks ahead while files are fetched inside the ``with``: recorded, or given up, at its end."""
    ahead = UnpackingAhead(site, fileset, rows, files, room)
    try:
        yield ahead
    except BaseException:
        ahead.give_up()
        raise
    ahead.end()
