"""Extracting a fileset: its bundles unpacked where dirinfo says, its descriptions with local paths."""

import json
import shutil
from collections.abc import Callable
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
    put_in_place,
    remove_temporaries,
)
from pipeline.datastore.listing import FileRow, read_files
from pipeline.durable import remove_files, write_whole
from pipeline.errors import BundleUnusable, machine_faults
from pipeline.mirror.layout import INDEX, Layout, Step, short_digest
from pipeline.mirror.marker_file import read_marker
from pipeline.mirror.markers import Fileset, mark_done, utc_now
from pipeline.mirror.ownership import Contents, Verdict, owners_of
from pipeline.mirror.site import Report, Site

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
            with self.site.ownership.claimed(self.fileset, unpacked, marked_before, before) as verdict:
                journal.note(before | {self.site.layout.relative(file.path) for file in verdict.placed})
                put_in_place(verdict.placed)
                self._remove_superseded(before, unpacked)
                self._mark(unpacked, verdict)
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

    def _unpack(self, bundles: list[FileRow], journal: "Journal") -> list[UnpackedFile]:
        """Everything that the bundles hold, in temporary files beside where it belongs."""
        dirinfo = self._described()
        data, ratio = self.site.layout.data, self.site.settings.mirror.unpack_ratio
        folders = {row.name: data / dirinfo.folder(row.component or "") for row in bundles}
        journal.begin(set(folders.values()))
        small = sum(row.bytes for row in bundles) < WORTH_THREADS_BYTES
        submit = _done_here if small else self.site.unpackers.submit
        running = [
            submit(
                Unpacking(
                    self._store / row.name, folders[row.name], data, journal.tag, UnpackLimits(ratio=ratio)
                ).run
            )
            for row in bundles
        ]
        return _each_path_once(self._results(running))

    def _described(self) -> DirInfo:
        """The fileset's dirinfo; it and dbinfo are in ``info/`` with local paths afterwards."""
        layout = self.site.layout
        described = self._document("dirinfo")
        if described is None:
            raise BundleUnusable(
                f"fileset {self.fileset}: expected a file of component 'dirinfo' that says where bundles go, "
                "got none. Nothing is unpacked; the next run tries again."
            )
        name, document = described
        dirinfo = read_dirinfo(document, f"{self.fileset}/{name}")
        info = layout.info(self.fileset.product, self.fileset.name)
        write_whole(info / name, localized_dirinfo(document, f"{self.fileset}/{name}", layout.data))
        if rows := self._document("dbinfo"):
            name, document = rows
            write_whole(
                info / name, localized_dbinfo(document, f"{self.fileset}/{name}", dirinfo, layout.data)
            )
        return dirinfo

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
        layout = self.site.layout
        marker = read_marker(layout.marker(Step.SUPERSEDED, self.fileset.product, self.fileset.name)) or {}
        return {file["path"]: (file["bytes"], file["crc32"]) for file in marker.get("files", [])}

    def _remove_superseded(self, before: set[str], unpacked: list[UnpackedFile]) -> None:
        """Remove what only an earlier registration of this fileset had unpacked."""
        layout = self.site.layout
        gone = before - {layout.relative(file.path) for file in unpacked}
        if gone:
            gone -= owners_of(layout, gone, {self.fileset}).keys()
            remove_files(layout.root / path for path in sorted(gone))
        marker = layout.marker(Step.SUPERSEDED, self.fileset.product, self.fileset.name)
        if marker.exists():
            remove_files([marker])

    def _mark(self, unpacked: list[UnpackedFile], verdict: Verdict) -> None:
        layout = self.site.layout
        files = [
            {"path": layout.relative(file.path), "bytes": file.bytes, "crc32": file.crc32}
            for file in unpacked
        ]
        content = {"files": files, "replaces": verdict.replaces, "yields_to": verdict.yields_to}
        mark_done(layout, Step.EXTRACTED, self.fileset, self.started, content)


@dataclass(frozen=True)
class Journal:
    """Remembers where temporary files of one fileset may lie, so that a kill leaves none for long."""

    folder: Path
    tag: str

    @property
    def _file(self) -> Path:
        return self.folder / "unpacking.json"

    def begin(self, folders: set[Path]) -> None:
        """Clean up after an unpacking that was killed, and note the folders of this one."""
        files = self.files()
        self.clean_up()
        self._write(sorted(str(folder) for folder in folders), files)

    def note(self, files: set[str]) -> None:
        """Note the files (relative to the root) that are about to get their names."""
        if self._file.exists():
            self._write(self._read()["folders"], files)

    def files(self) -> set[str]:
        """The files that an unpacking which was killed may have put in place, unmarked."""
        return set(self._read()["files"])

    def clean_up(self) -> None:
        """Remove the temporary files that a killed unpacking left."""
        for folder in self._read()["folders"]:
            remove_temporaries(Path(folder), self.tag)

    def _read(self) -> dict[str, list[str]]:
        try:
            return json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {"folders": [], "files": []}

    def _write(self, folders: list[str], files: set[str]) -> None:
        write_whole(self._file, json.dumps({"folders": folders, "files": sorted(files)}).encode())

    def end(self) -> None:
        """Forget the folders: nothing temporary is left in them, nor anything to be fetched on with."""
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _done_here(work: Callable[[], list[UnpackedFile]]) -> Future[list[UnpackedFile]]:
    """The work done at once: for what is little, handing it to another thread is most of the effort."""
    future: Future[list[UnpackedFile]] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future


def journal_of(layout: Layout, fileset: Fileset) -> Journal:
    """The journal of the fileset's unpacking."""
    return Journal(layout.incoming(fileset.product, fileset.name), short_digest(str(fileset)))


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
