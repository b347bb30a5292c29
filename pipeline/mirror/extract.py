"""Extracting a fileset: its bundles unpacked where dirinfo says, its descriptions with local paths."""

import json
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bundle.dbinfo import localized_dbinfo
from pipeline.bundle.dirinfo import DirInfo, localized_dirinfo, read_dirinfo
from pipeline.bundle.unpack import UnpackedFile, Unpacking, remove_temporaries
from pipeline.datastore.listing import FileRow, read_files
from pipeline.durable import remove_files, write_whole
from pipeline.errors import BundleUnusable, machine_faults
from pipeline.mirror.layout import Step, short_digest
from pipeline.mirror.markers import Fileset, mark_done, read_marker, utc_now
from pipeline.mirror.site import Site

INDEX = "index.txt"
BUNDLE_TYPE = "tgz"
Report = Callable[[str, float], None]


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
        HostileName or MachineFault; then the next run starts the fileset's extraction afresh.
        """
        with machine_faults(f"unpacking fileset {self.fileset}"):
            bundles = [row for row in self._rows if row.type == BUNDLE_TYPE and row.component]
            unpacked = self._unpack(bundles) if bundles else []
            self._remove_superseded(unpacked)
            self._mark(unpacked)
            if not self.site.settings.mirror.keep_bundles:
                remove_files(self._store / row.name for row in bundles)

    @property
    def _store(self) -> Path:
        return self.site.layout.store(self.fileset.product, self.fileset.name)

    @property
    def _rows(self) -> list[FileRow]:
        index = self._store / INDEX
        return read_files(index.read_bytes(), str(index))

    def _unpack(self, bundles: list[FileRow]) -> list[UnpackedFile]:
        dirinfo = self._described()
        folders = {row.name: self.site.layout.data / dirinfo.folder(row.component or "") for row in bundles}
        tag = short_digest(str(self.fileset))
        journal = _Journal(self.site.layout.incoming(self.fileset.product, self.fileset.name), tag)
        journal.begin(set(folders.values()))
        running = [
            self.site.unpackers.submit(
                Unpacking(self._store / row.name, folders[row.name], self.site.layout.data, tag).run
            )
            for row in bundles
        ]
        unpacked = _each_path_once(self._results(running))
        journal.end()
        return unpacked

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
        finally:
            wait(running)
        return unpacked

    def _remove_superseded(self, unpacked: list[UnpackedFile]) -> None:
        """Remove what only an earlier registration of this fileset had unpacked."""
        layout = self.site.layout
        marker = layout.marker(Step.SUPERSEDED, self.fileset.product, self.fileset.name)
        old = {file["path"] for file in (read_marker(marker) or {}).get("files", [])}
        gone = old - {layout.relative(file.path) for file in unpacked}
        if gone:
            gone -= _owned_by_others(self.site, self.fileset, gone)
            remove_files(layout.root / path for path in sorted(gone))
        if marker.exists():
            remove_files([marker])

    def _mark(self, unpacked: list[UnpackedFile]) -> None:
        layout = self.site.layout
        files = [
            {"path": layout.relative(file.path), "bytes": file.bytes, "crc32": file.crc32}
            for file in unpacked
        ]
        mark_done(layout, Step.EXTRACTED, self.fileset, self.started, {"files": files})


@dataclass(frozen=True)
class _Journal:
    """Remembers where temporary files may lie, so that a killed unpacking leaves none for long."""

    folder: Path
    tag: str

    @property
    def _file(self) -> Path:
        return self.folder / "unpacking.json"

    def begin(self, folders: set[Path]) -> None:
        """Clean up after an unpacking that was killed, and note the folders of this one."""
        try:
            left = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            left = []
        for folder in left:
            remove_temporaries(Path(folder), self.tag)
        write_whole(self._file, json.dumps(sorted(str(folder) for folder in folders)).encode())

    def end(self) -> None:
        """Forget the folders: nothing temporary is left in them."""
        self._file.unlink()
        self.folder.rmdir()


def _each_path_once(unpacked: list[UnpackedFile]) -> list[UnpackedFile]:
    paths = [file.path for file in unpacked]
    if len(set(paths)) < len(paths):
        repeated = next(path for path in paths if paths.count(path) > 1)
        raise BundleUnusable(
            f"{repeated}: expected one bundle of the fileset to hold this file, got two. "
            "The fileset is not marked as extracted; the next run tries again."
        )
    return unpacked


def _owned_by_others(site: Site, fileset: Fileset, paths: set[str]) -> set[str]:
    """Those of the paths that another fileset unpacked too. Reads every marker: for rare use."""
    owned: set[str] = set()
    for product in site.layout.state_products():
        for name in site.layout.marked(Step.EXTRACTED, product):
            if (product, name) != (fileset.product, fileset.name):
                marker = read_marker(site.layout.marker(Step.EXTRACTED, product, name)) or {}
                owned |= paths & {file["path"] for file in marker.get("files", [])}
    return owned
