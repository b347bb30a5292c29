"""Content of a fileset for the catalog: its listing row, files, documents, unpacked files and their headers.

All of it is read from the disk, so that a rebuild finds the same.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.bundle import mdc
from pipeline.bundle.dbinfo import RUN_TABLES
from pipeline.bundle.dirinfo import DirInfo, read_dirinfo
from pipeline.catalog.headers import ImageHeader, kind_of, read_images
from pipeline.catalog.pipeline_tables import Rows, rows_of
from pipeline.datastore.listing import INDEX, FileRow, read_files
from pipeline.errors import BundleUnusable
from pipeline.mirror.state.file_selection import DOCUMENTS
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.state.sky_selection import STATE_COLUMNS
from pipeline.units import as_count

_WITH_IMAGES = {"image", "mask", "weight", "other"}
_FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fits.fz", ".fz")
_CLEAN = {"cleaned"}
_FULL = {"full"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Document:
    """Document of a fileset: the bytes as they were downloaded."""

    name: str
    component: str
    text: bytes


@dataclass(frozen=True)
class HeldFile:
    """File of a fileset in the mirror: unpacked from a bundle, or as it was downloaded.

    ``path`` is relative to the root; ``crc32`` and ``component`` are None where nothing tells them.
    """

    path: str
    bytes: int
    crc32: int | None
    component: str | None
    is_member: bool

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_fits(self) -> bool:
        """True if the name is that of a FITS file that may have images."""
        return self.name.lower().endswith(_FITS_SUFFIXES) and kind_of(self.name) in _WITH_IMAGES


@dataclass(frozen=True)
class Gathered:
    """All that the catalog holds of one registration of a fileset.

    ``files`` are the rows of its ``index.txt``, ``held`` the files that lie in the mirror and may have
    images, or are members of bundles; ``arrived`` is the time (UTC) when its last required step ended.
    ``left_out`` says what the settings leave out.
    """

    fileset: Fileset
    arrived: datetime | None
    files: list[FileRow]
    held: list[HeldFile]
    documents: list[Document]
    pipeline_rows: list[Rows] = field(default_factory=list)
    left_out: str | None = None

    @property
    def members(self) -> list[HeldFile]:
        """The files unpacked from bundles."""
        return [held for held in self.held if held.is_member]

    @property
    def run_row(self) -> mdc.Scope | None:
        """The row of the run, the first where a document has several."""
        runs = {tables.run for tables in RUN_TABLES}
        return next((rows.rows[0] for rows in self.pipeline_rows if rows.table in runs), None)

    @property
    def stage(self) -> str | None:
        """Stage of the fileset, by its listing row, else by the table of its run."""
        stage = self.fileset.columns.get("stage")
        if stage and stage != "null":
            return stage
        stages = {tables.run: tables.stage for tables in RUN_TABLES}
        return next((stages[rows.table] for rows in self.pipeline_rows if rows.table in stages), None)

    @property
    def state(self) -> str | None:
        """State of the run's data in dbinfo."""
        row = self.run_row
        states = [row.get(name) for name in STATE_COLUMNS] if row else []
        return next((state for state in states if isinstance(state, str)), None)

    @property
    def content(self) -> str | None:
        """``clean`` for bundles without the large images, ``full`` for whole ones, None if unknown."""
        row = self.run_row
        states = {row.get(name) for name in STATE_COLUMNS} if row else set()
        if states & _CLEAN:
            return "clean"
        return "full" if states & _FULL else None


def gather(layout: Layout, fileset: Fileset) -> Gathered:
    """Return what the fileset tells. Raises BundleUnusable for a bad document, OSError without its files."""
    store = layout.store(fileset.product, fileset.name)
    index = store / INDEX
    files = read_files(index.read_bytes(), str(index))
    documents = [
        Document(row.name, row.component or "", (store / row.name).read_bytes())
        for row in files
        if row.component in DOCUMENTS
    ]
    extracted = fresh_marker(layout, MarkerKind.EXTRACTED, fileset)
    downloaded = fresh_marker(layout, MarkerKind.DOWNLOADED, fileset)
    marker = extracted or downloaded or {}
    here = {file["name"] for file in (downloaded["files"] if downloaded else [])}
    members = _members(extracted, _components(layout, documents, fileset)) if extracted else []
    plain = [
        HeldFile(layout.relative(store / row.name), row.bytes, None, row.component, is_member=False)
        for row in files
        if not row.is_bundle and row.component not in DOCUMENTS and row.name in here
    ]
    return Gathered(
        fileset=fileset,
        arrived=as_utc(marker.get("finished")),
        files=files,
        held=[*members, *(held for held in plain if held.is_fits)],
        documents=documents,
        pipeline_rows=_pipeline_rows(layout, fileset, documents),
        left_out=_left_out(fresh_marker(layout, MarkerKind.PARTIAL, fileset)),
    )


def _left_out(partial: dict[str, Any] | None) -> str | None:
    """Return what the settings leave out of a fileset, None if nothing."""
    if partial is None:
        return None
    number = partial.get("left_out")
    files = [f"{as_count(number, 'file')} left out"] if number else []
    members = partial.get("members")
    only = [f"of its bundles only {', '.join(members)} unpacked"] if members else []
    return f"as selected: {'; '.join([*files, *only])}"


def headers_of(layout: Layout, held: HeldFile) -> list[ImageHeader]:
    """Return the images of a file; a file that cannot be read has one, with a note."""
    return [image for image in read_images(layout.root / held.path) if image.has_pixels or image.note]


def as_utc(text: Any) -> datetime | None:
    """Return a time of a marker or a listing as the catalog has it: UTC without a zone; None for no time."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)


def _members(marker: dict[str, Any], components: "_Components") -> list[HeldFile]:
    yielded = marker.get("yields_to", {})
    return [
        HeldFile(
            file["path"], file["bytes"], int(file["crc32"], 16), components.of(file["path"]), is_member=True
        )
        for file in marker["files"]
        if file["path"] not in yielded
    ]


def _pipeline_rows(layout: Layout, fileset: Fileset, documents: list[Document]) -> list[Rows]:
    """Return the rows of dbinfo, with local paths where the fileset was unpacked."""
    info = layout.info(fileset.product, fileset.name)
    found: list[Rows] = []
    for document in documents:
        if document.component == "dbinfo":
            local = info / document.name
            text = local.read_bytes() if local.is_file() else document.text
            found += rows_of(mdc.read(text, f"{fileset}/{document.name}"))
    return found


def _components(layout: Layout, documents: list[Document], fileset: Fileset) -> "_Components":
    # A fileset that was unpacked before its product came to lie on a volume is in ``data/``.
    tops = {layout.relative(data) for data in (layout.data, layout.data_of(fileset.product))}
    for document in documents:
        if document.component == "dirinfo":
            return _Components(read_dirinfo(document.text, f"{fileset}/{document.name}"), tops)
    return _Components(None, tops)


class _Components:
    """Components of unpacked files, by the folders in dirinfo; by their names where folders are shared.

    ``tops`` are the folders, relative to the root, in which the fileset may have been unpacked.
    """

    def __init__(self, dirinfo: DirInfo | None, tops: Iterable[str]) -> None:
        self._of_folder: dict[str, list[str]] = {}
        for component in dirinfo.components if dirinfo else ():
            for top in tops:
                folder = f"{top}/{dirinfo.folder(component)}".rstrip("/")  # type: ignore[union-attr]
                self._of_folder.setdefault(folder, []).append(component)

    def of(self, path: str) -> str | None:
        """Return the component of a file by its path relative to the root, None if nothing tells."""
        folder, _, name = path.rpartition("/")
        for parent in _parents(folder):
            if components := self._of_folder.get(parent):
                # A file's name has its component between dots.
                dotted = f".{name}."
                named = [each for each in components if f".{each}." in dotted]
                if len(named) == 1 or len(components) == 1:
                    return (named or components)[0]
                return max(named, key=len) if named else None
        return None


def _parents(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def unusable(fileset: Fileset, error: BundleUnusable) -> BundleUnusable:
    """Return the error with what becomes of the fileset."""
    return BundleUnusable(
        f"{error} Fileset {fileset} is mirrored, but not in the catalog; the next run tries again."
    )
