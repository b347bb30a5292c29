"""Extraction of a fileset: its bundles unpacked into the folders in dirinfo, dirinfo and dbinfo localized."""

import os
import shutil
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipeline.bundle.archive import UnpackLimits
from pipeline.bundle.dbinfo import localized_dbinfo
from pipeline.bundle.dirinfo import DirInfo, localized_dirinfo, read_dirinfo
from pipeline.bundle.unpack import (
    UnpackedFile,
    Unpacking,
    discard,
    expected_bytes,
    put_in_place,
)
from pipeline.config import Settings
from pipeline.datastore.listing import INDEX, FileRow, read_files
from pipeline.durable import WRITING_SUFFIX, remove_files, write_whole
from pipeline.errors import BundleUnusable, machine_faults
from pipeline.mirror.context import Report, RunContext, StepProgress
from pipeline.mirror.resources.ownership import (
    Verdict,
    is_intact,
    marked_contents,
    owners_of,
)
from pipeline.mirror.state.file_selection import FileSelection, record_left_out
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, fresh_marker, mark_done, utc_now
from pipeline.mirror.state.owner_records import drop_records
from pipeline.mirror.state.steps import StepSpec, drop_marker
from pipeline.mirror.steps.bundles import bundles_of
from pipeline.mirror.steps.futures import done_at_once
from pipeline.mirror.steps.journal import Journal, journal_of
from pipeline.mirror.steps.verify import unexpected_data, verify_unpacked
from pipeline.units import as_count

# Bundles that are smaller all together are unpacked one after the other.
PARALLEL_FROM_BYTES = 4 << 20


def extract_fileset(context: RunContext, fileset: Fileset, report: Report) -> None:
    """Unpack every bundle of the fileset in ``store/`` into DATA, and write the marker.

    A fileset without bundles has nothing to unpack and is only marked. Raises BundleUnusable,
    HostileName or MachineFault; the next run starts the extraction afresh, and reads from the journal which
    files were put in place before.
    """
    _Extraction(context, fileset, report).run()


@dataclass
class _Extraction:
    context: RunContext
    fileset: Fileset
    report: Report
    started: str = field(default_factory=utc_now)

    def run(self) -> None:
        with machine_faults(f"unpacking fileset {self.fileset}"):
            bundles = bundles_of(self.fileset, self._rows)
            journal = journal_of(self._layout, self.fileset)
            superseded = marked_contents(self._layout, MarkerKind.SUPERSEDED, self.fileset)
            before = superseded.keys() | journal.files()
            # Where the bundles are left out, the documents are localized all the same.
            is_unpacked = bool(bundles_of(self.fileset, self._listed))
            unpacked = self._unpack(bundles, journal) if is_unpacked else self._unpack_nothing(journal)
            try:
                self._put_in_place(unpacked, before, journal)
            finally:
                discard(unpacked)
            journal.end()
            if not self.context.settings.mirror.keep_bundles:
                remove_files(self._store / row.name for row in bundles)
                # The server then examines the folders of the product again.
                os.utime(self._store.parent)

    @property
    def _layout(self) -> Layout:
        return self.context.layout

    @property
    def _store(self) -> Path:
        return self._layout.store(self.fileset.product, self.fileset.name)

    @cached_property
    def _data(self) -> Path:
        return self._layout.data_of(self.fileset.product)

    @cached_property
    def _rows(self) -> list[FileRow]:
        """Rows of the files that are here."""
        marker = fresh_marker(self._layout, MarkerKind.DOWNLOADED, self.fileset)
        here = {file["name"] for file in marker["files"]} if marker else None
        return [row for row in self._listed if here is None or row.name in here]

    @cached_property
    def _listed(self) -> list[FileRow]:
        index = self._store / INDEX
        return read_files(index.read_bytes(), str(index))

    @cached_property
    def _selection(self) -> FileSelection:
        """Selection by the settings, and all that the fileset has unpacked before: nothing is removed."""
        selection = FileSelection.of(self.context.settings.product(self.fileset.product))
        before = fresh_marker(self._layout, MarkerKind.SUPERSEDED, self.fileset)
        if before is None or selection.members is None:
            return selection
        members = before.get("members")
        return replace(selection, members=members and tuple({*selection.members, *members}))

    def _put_in_place(self, unpacked: list[UnpackedFile], before: set[str], journal: Journal) -> None:
        """Rename the files that this fileset owns into place, remove superseded ones, write the marker."""
        with self.context.ownership.claimed(self.fileset, unpacked, before) as verdict:
            journal.record(before | {self._layout.relative(file.path) for file in verdict.placed})
            put_in_place(verdict.placed, self._data)
            self._remove_superseded(before, unpacked)
            self._mark(unpacked, verdict)

    def _unpack(self, bundles: list[FileRow], journal: Journal) -> list[UnpackedFile]:
        """Return the files of the bundles, unpacked to temporary files beside their final places."""
        dirinfo = self._dirinfo()
        folders = {
            self._store / row.name: self._data / dirinfo.folder(row.component or "") for row in bundles
        }
        journal.start(set(folders.values()))
        self._localize(dirinfo)
        return _each_path_once(self._unpack_into(folders, journal.tag))

    def _unpack_nothing(self, journal: Journal) -> list[UnpackedFile]:
        """Remove the temporary files and the documents of an earlier registration, which had bundles."""
        journal.clean_up()
        info = self._layout.info(self.fileset.product, self.fileset.name)
        if info.is_dir():
            shutil.rmtree(info)
        return []

    def _unpack_into(self, folders: dict[Path, Path], tag: str) -> list[UnpackedFile]:
        """Return the files of the bundles, each bundle unpacked into its folder."""
        limits = UnpackLimits(ratio=self.context.settings.mirror.unpack_ratio)
        needed = dict.fromkeys(folders.values(), 0)
        for bundle, folder in folders.items():
            needed[folder] += expected_bytes(bundle, limits)
        chooses = self._selection.unpacks
        what, data = f"unpacking fileset {self.fileset}", self._data
        small = sum(bundle.stat().st_size for bundle in folders) < PARALLEL_FROM_BYTES
        submit = done_at_once if small else self.context.unpackers.submit
        in_all = sum(needed.values())
        with self.context.space.reserved(needed, what) as reserved, machine_faults(what, in_all):
            running = [
                submit(Unpacking(bundle, folder, data, tag, reserved[folder].written, limits, chooses).run)
                for bundle, folder in folders.items()
            ]
            return self._results(running)

    def _results(self, running: list[Future[list[UnpackedFile]]]) -> list[UnpackedFile]:
        unpacked: list[UnpackedFile] = []
        try:
            for count, future in enumerate(running, start=1):
                unpacked += future.result()
                self.report(
                    StepProgress(f"{count} of {as_count(len(running), 'bundle')}", count / len(running))
                )
        except BaseException:
            wait(running)
            for future in running:
                if future.exception() is None:
                    discard(future.result())
            raise
        return unpacked

    def _dirinfo(self) -> DirInfo:
        described = self._document("dirinfo")
        if described is None:
            raise BundleUnusable(
                f"fileset {self.fileset}: expected a file of component 'dirinfo' with the folders of "
                "the bundles, got none. Nothing is unpacked; the next run tries again."
            )
        name, document = described
        return read_dirinfo(document, f"{self.fileset}/{name}")

    def _localize(self, dirinfo: DirInfo) -> None:
        """Write dirinfo and dbinfo to ``info/`` with local paths, and remove any other file there."""
        data = self._data
        documents = {}
        if described := self._document("dirinfo"):
            name, document = described
            documents[name] = localized_dirinfo(document, f"{self.fileset}/{name}", data)
        if rows := self._document("dbinfo"):
            name, document = rows
            documents[name] = localized_dbinfo(document, f"{self.fileset}/{name}", dirinfo, data)
        info = self._layout.info(self.fileset.product, self.fileset.name)
        for name, document in documents.items():
            write_whole(info / name, document)
        remove_files(path for path in info.iterdir() if path.name not in documents)

    def _document(self, component: str) -> tuple[str, bytes] | None:
        """Return name and content of the fileset's file of that component."""
        for row in self._rows:
            if row.component == component:
                return row.name, (self._store / row.name).read_bytes()
        return None

    def _remove_superseded(self, before: set[str], unpacked: list[UnpackedFile]) -> None:
        """Remove files that an earlier registration of this fileset had unpacked, and this one does not."""
        gone = before - {self._layout.relative(file.path) for file in unpacked}
        _abandon(self._layout, gone, {self.fileset})
        marker = self._layout.marker(MarkerKind.SUPERSEDED, self.fileset.product, self.fileset.name)
        if marker.exists():
            remove_files([marker])

    def _mark(self, unpacked: list[UnpackedFile], verdict: Verdict) -> None:
        files = [
            {"path": self._layout.relative(file.path), "bytes": file.bytes, "crc32": file.crc32}
            for file in unpacked
        ]
        content = {"files": files, "replaces": verdict.replaces, "yields_to": verdict.yields_to}
        members = self._selection.numbers()["members"] if bundles_of(self.fileset, self._rows) else None
        record_left_out(self._layout, self.fileset, {"members": members})
        if members is not None:
            content["members"] = members
        mark_done(self._layout, MarkerKind.EXTRACTED, self.fileset, self.started, content)


def supersede(layout: Layout, step: StepSpec, fileset: Fileset) -> None:
    """Make the extraction pending; the unpacked files stay recorded until they are replaced.

    The cataloging becomes pending too: another fileset may have had the rows of the files.
    """
    try:
        content = layout.marker(step.marker, fileset.product, fileset.name).read_bytes()
    except FileNotFoundError:
        # Another process is deleting the fileset.
        return
    write_whole(layout.marker(MarkerKind.SUPERSEDED, fileset.product, fileset.name), content)
    drop_marker(layout, step, fileset)
    remove_files([layout.marker(MarkerKind.CATALOGED, fileset.product, fileset.name)])


def remove_unpacked(context: RunContext, fileset: Fileset) -> None:
    """Remove the files that only this fileset unpacked, its info, and folders that become empty.

    The extraction of another fileset with one of the files becomes pending, as this fileset may have replaced
    the file.
    """
    layout = context.layout
    kinds = (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED)
    paths: set[str] = set().union(*(marked_contents(layout, kind, fileset) for kind in kinds))
    with context.ownership.held(paths):
        owners = owners_of(layout, paths, {fileset})
        gone = paths - owners.keys()
        remove_files(layout.root / path for path in gone)
        _remove_empty_folders(layout, gone)
        drop_records(layout, gone, fileset)
        for owner in set(owners.values()):
            supersede(layout, EXTRACT, owner)
    info = layout.info(fileset.product, fileset.name)
    if info.exists():
        shutil.rmtree(info)


def undo_unpacking(context: RunContext, fileset: Fileset) -> None:
    """Remove the leftovers of a killed unpacking, for a fileset that is no longer pending.

    Files in its own markers stay, and files of other filesets: where one of these was overwritten, the
    extraction of the other fileset becomes pending.
    """
    layout = context.layout
    journal = journal_of(layout, fileset)
    journal.clean_up()
    own = [marked_contents(layout, kind, fileset) for kind in (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED)]
    stray = journal.files() - set().union(*own)
    with context.ownership.held(stray):
        _abandon(layout, stray, set())
    info = layout.info(fileset.product, fileset.name)
    if any(own):
        remove_files(info.glob(f".*{WRITING_SUFFIX}"))
    elif info.is_dir():
        shutil.rmtree(info)


def _abandon(layout: Layout, paths: set[str], but: set[Fileset]) -> None:
    """Remove those of the files that only filesets in ``but`` unpacked, or none.

    Where one of another fileset was overwritten, the extraction of that fileset becomes pending. For the
    holder of the locks of the folders.
    """
    owners = owners_of(layout, paths, but)
    remove_files(layout.root / path for path in sorted(paths - owners.keys()))
    for owner in {owner for path, owner in owners.items() if not is_intact(layout, owner, path)}:
        supersede(layout, EXTRACT, owner)


def _remove_empty_folders(layout: Layout, paths: set[str]) -> None:
    tops = set(layout.data_folders())
    for folder in sorted({(layout.root / path).parent for path in paths}, reverse=True):
        while folder not in tops and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


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


def _is_included(settings: Settings) -> bool:
    return settings.mirror.unpack


EXTRACT = StepSpec(
    name="extract",
    marker=MarkerKind.EXTRACTED,
    do=extract_fileset,
    retract=remove_unpacked,
    set_aside=supersede,
    verify=verify_unpacked,
    unexpected=unexpected_data,
    is_included=_is_included,
)
