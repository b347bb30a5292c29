"""Extracting a fileset: its bundles unpacked where dirinfo says, its descriptions with local paths."""

import shutil
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.bundle.dbinfo import localized_dbinfo
from pipeline.bundle.dirinfo import DirInfo, localized_dirinfo, read_dirinfo
from pipeline.bundle.unpack import (
    UnpackedFile,
    Unpacking,
    UnpackLimits,
    discard,
    expected_bytes,
    put_in_place,
)
from pipeline.datastore.listing import FileRow, read_files
from pipeline.durable import WRITING_SUFFIX, remove_files, write_whole
from pipeline.errors import BundleUnusable, machine_faults
from pipeline.mirror.context import Report, Site, done_here
from pipeline.mirror.resources.ownership import (
    Contents,
    Ownership,
    Verdict,
    is_intact,
    marked_contents,
    owners_of,
)
from pipeline.mirror.state.layout import INDEX, Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, mark_done, utc_now
from pipeline.mirror.steps.journal import Journal, journal_of

# Bundles that are smaller all together are unpacked one after the other.
WORTH_THREADS_BYTES = 4 << 20


@dataclass
class Extraction:
    """One fileset of the store on its way into ``data/``. ``report`` takes a message and a share (0 to 1)."""

    site: Site
    fileset: Fileset
    report: Report
    started: str = field(default_factory=utc_now)

    def run(self) -> None:
        """Leave every member of every bundle in place, and the fileset marked.

        A fileset without bundles has nothing to unpack and is only marked. Raises BundleUnusable,
        HostileName or MachineFault; the next run starts its extraction afresh, and knows from the journal
        what was put in place before.
        """
        with machine_faults(f"unpacking fileset {self.fileset}"):
            bundles = [row for row in self._rows if row.is_bundle]
            journal = journal_of(self.site.layout, self.fileset)
            marked_before = self._own_before()
            before = marked_before.keys() | journal.files()
            unpacked = self._unpack(bundles, journal) if bundles else []
            try:
                with self.site.ownership.claimed(self.fileset, unpacked, marked_before, before) as verdict:
                    journal.note(before | {self.site.layout.relative(file.path) for file in verdict.placed})
                    put_in_place(verdict.placed, self.site.layout.data)
                    self._remove_superseded(before, unpacked)
                    self._mark(unpacked, verdict)
            finally:
                discard(unpacked)
            journal.end()
            if not self.site.settings.mirror.keep_bundles:
                remove_files(self._store / row.name for row in bundles)

    @property
    def _store(self) -> Path:
        return self.site.layout.store(self.fileset.product, self.fileset.name)

    @cached_property
    def _rows(self) -> list[FileRow]:
        index = self._store / INDEX
        return read_files(index.read_bytes(), str(index))

    def _unpack(self, bundles: list[FileRow], journal: Journal) -> list[UnpackedFile]:
        """Everything that the bundles hold, in temporary files beside where it belongs."""
        dirinfo = self._dirinfo()
        data = self.site.layout.data
        folders = {self._store / row.name: data / dirinfo.folder(row.component or "") for row in bundles}
        journal.begin(set(folders.values()))
        self._localize(dirinfo)
        return _each_path_once(self._unpack_into(folders, journal.tag))

    def _unpack_into(self, folders: dict[Path, Path], tag: str) -> list[UnpackedFile]:
        """What the bundles hold, each unpacked into its folder."""
        data, limits = self.site.layout.data, UnpackLimits(ratio=self.site.settings.mirror.unpack_ratio)
        needed = sum(expected_bytes(bundle, limits) for bundle in folders)
        what = f"unpacking fileset {self.fileset}"
        small = sum(bundle.stat().st_size for bundle in folders) < WORTH_THREADS_BYTES
        submit = done_here if small else self.site.unpackers.submit
        with self.site.space.reserved(needed, what) as room, machine_faults(what, needed):
            running = [
                submit(Unpacking(bundle, folder, data, tag, room.written, limits).run)
                for bundle, folder in folders.items()
            ]
            return self._results(running)

    def _dirinfo(self) -> DirInfo:
        described = self._document("dirinfo")
        if described is None:
            raise BundleUnusable(
                f"fileset {self.fileset}: expected a file of component 'dirinfo' that says where bundles go, "
                "got none. Nothing is unpacked; the next run tries again."
            )
        name, document = described
        return read_dirinfo(document, f"{self.fileset}/{name}")

    def _localize(self, dirinfo: DirInfo) -> None:
        """Leave the fileset's dirinfo and dbinfo in ``info/`` with local paths, and nothing else."""
        layout = self.site.layout
        documents = {}
        if described := self._document("dirinfo"):
            name, document = described
            documents[name] = localized_dirinfo(document, f"{self.fileset}/{name}", layout.data)
        if rows := self._document("dbinfo"):
            name, document = rows
            documents[name] = localized_dbinfo(document, f"{self.fileset}/{name}", dirinfo, layout.data)
        info = layout.info(self.fileset.product, self.fileset.name)
        for name, document in documents.items():
            write_whole(info / name, document)
        remove_files(path for path in info.iterdir() if path.name not in documents)

    def _document(self, component: str) -> tuple[str, bytes] | None:
        """Name and content of the fileset's file of that component."""
        for row in self._rows:
            if row.component == component:
                return row.name, (self._store / row.name).read_bytes()
        return None

    def _results(self, running: list[Future[list[UnpackedFile]]]) -> list[UnpackedFile]:
        unpacked: list[UnpackedFile] = []
        try:
            for count, future in enumerate(running, start=1):
                unpacked += future.result()
                self.report(f"{count} of {len(running)} bundles", count / len(running))
        except BaseException:
            wait(running)
            for future in running:
                if future.exception() is None:
                    discard(future.result())
            raise
        return unpacked

    def _own_before(self) -> Contents:
        """What an earlier registration of this fileset had unpacked."""
        return marked_contents(self.site.layout, MarkerKind.SUPERSEDED, self.fileset)

    def _remove_superseded(self, before: set[str], unpacked: list[UnpackedFile]) -> None:
        """Remove what only an earlier registration of this fileset had unpacked."""
        layout = self.site.layout
        gone = before - {layout.relative(file.path) for file in unpacked}
        if gone:
            gone -= owners_of(layout, gone, {self.fileset}).keys()
            remove_files(layout.root / path for path in sorted(gone))
        marker = layout.marker(MarkerKind.SUPERSEDED, self.fileset.product, self.fileset.name)
        if marker.exists():
            remove_files([marker])

    def _mark(self, unpacked: list[UnpackedFile], verdict: Verdict) -> None:
        layout = self.site.layout
        files = [
            {"path": layout.relative(file.path), "bytes": file.bytes, "crc32": file.crc32}
            for file in unpacked
        ]
        content = {"files": files, "replaces": verdict.replaces, "yields_to": verdict.yields_to}
        mark_done(layout, MarkerKind.EXTRACTED, self.fileset, self.started, content)


def undo_unpacking(layout: Layout, ownership: Ownership, fileset: Fileset) -> None:
    """Remove what an unpacking that was killed left behind, for a fileset with which nobody goes on.

    What its own markers name stays, and what another fileset holds: where that was written over, the other
    fileset becomes pending.
    """
    journal = journal_of(layout, fileset)
    journal.clean_up()
    own = [marked_contents(layout, step, fileset) for step in (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED)]
    stray = journal.files() - set().union(*own)
    with ownership.held(stray):
        owners = owners_of(layout, stray, set()) if stray else {}
        remove_files(layout.root / path for path in sorted(stray - owners.keys()))
        harmed = {owner for path, owner in owners.items() if not is_intact(layout, owner, path)}
        remove_files(layout.marker(MarkerKind.EXTRACTED, owner.product, owner.name) for owner in harmed)
    info = layout.info(fileset.product, fileset.name)
    if any(own):
        remove_files(info.glob(f".*{WRITING_SUFFIX}"))
    elif info.is_dir():
        shutil.rmtree(info)


def _each_path_once(unpacked: list[UnpackedFile]) -> list[UnpackedFile]:
    seen: set[Path] = set()
    for file in unpacked:
        if file.path in seen:
            discard(unpacked)
            raise BundleUnusable(
                f"{file.path}: expected one bundle of the fileset to hold this file, got two. "
                "Nothing of the fileset is unpacked; the next run tries again."
            )
        seen.add(file.path)
    return unpacked
