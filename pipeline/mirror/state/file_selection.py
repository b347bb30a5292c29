"""Selection of the files of a fileset that are fetched, and of the members of its bundles that are unpacked.

A fileset of which something is left out is whole as selected. Its marker of the kind ``partial`` says by
which patterns (docs/on-disk.md, "Markers").
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.config import Product
from pipeline.datastore.listing import FileRow
from pipeline.durable import remove_files
from pipeline.mirror.state.fileset_files import listed_files
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker

# Components without which a fileset can be neither unpacked nor cataloged.
DOCUMENTS = frozenset({"dirinfo", "dbinfo"})


@dataclass(frozen=True)
class FileSelection:
    """Shell patterns of what is chosen: a file by its component or its name. None stands for all.

    ``members`` are patterns of the paths in bundles. Without ``components`` and ``files`` all files are
    chosen; with one of them those that it matches, with both those that one of them matches.
    """

    components: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    members: tuple[str, ...] | None = None

    @classmethod
    def of(cls, product: Product) -> "FileSelection":
        """Return the selection in the settings of a product."""
        return cls(*map(_patterns, (product.components, product.files, product.members)))

    @classmethod
    def recorded(cls, marker: dict[str, Any] | None) -> "FileSelection":
        """Return the selection in a marker; that of all files for None."""
        return cls(*(_patterns((marker or {}).get(key)) for key in ("components", "files", "members")))

    def chooses(self, row: FileRow) -> bool:
        """Return True if the file is fetched."""
        if self.components is None and self.files is None:
            return True
        return row.component in DOCUMENTS or self.matches(row)

    def matches(self, row: FileRow) -> bool:
        """Return True if a pattern of ``components`` or ``files`` matches the file."""
        return _is_one(row.component or "", self.components or ()) or _is_one(row.name, self.files or ())

    def unpacks(self, member: str) -> bool:
        """Return True if the member with that path is unpacked."""
        return self.members is None or _is_one(member, self.members)

    def has_members_of(self, other: "FileSelection") -> bool:
        """Return True if all members that the other selection unpacks are among those of this one."""
        if self.members is None or other.members is None:
            return self.members is None
        return set(other.members) <= set(self.members)

    def numbers(self) -> dict[str, Any]:
        """Return the patterns as a marker has them."""
        return {key: value and list(value) for key, value in asdict(self).items()}


def chosen_rows(
    layout: Layout, selection: FileSelection, fileset: Fileset, rows: Iterable[FileRow]
) -> list[FileRow]:
    """Return the rows of the files that are fetched, and of those that ``store/`` has: none is removed."""
    folder = layout.store(fileset.product, fileset.name)
    return [row for row in rows if selection.chooses(row) or _size(folder / row.name) == row.bytes]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def record_left_out(layout: Layout, fileset: Fileset, part: dict[str, Any]) -> None:
    """Change the fileset's marker of what is left out by the keys in ``part``, of which None removes one.

    The marker is absent while nothing is left out.
    """
    path = layout.marker(MarkerKind.PARTIAL, fileset.product, fileset.name)
    before = fresh_marker(layout, MarkerKind.PARTIAL, fileset) or {}
    identity = {"product": fileset.product, "fileset": fileset.name, "registered": fileset.registered}
    kept = {key: value for key, value in (before | part).items() if value is not None}
    after = {key: value for key, value in kept.items() if key not in {"schema", *identity}}
    if after:
        write_marker(path, identity | after)
    elif path.exists():
        remove_files([path])


def may_lack(layout: Layout, product: Product) -> set[str]:
    """Return the filesets that may hold less than the settings choose, by names alone.

    Where the settings choose as the last update did, they are those that it passed over, mostly none.
    """
    last = read_marker(layout.file_selection(product.name)) or {}
    if FileSelection.recorded(last) == FileSelection.of(product):
        return set(last.get("passed_over", ()))
    return layout.names(MarkerKind.PARTIAL, product.name)


def lacking_filesets(layout: Layout, product: Product, names: Iterable[str]) -> dict[str, bool]:
    """Return those of the filesets that hold less than the settings choose; True where whole files lack."""
    selection = FileSelection.of(product)
    lacking = ((name, _lacks(layout, product.name, name, selection)) for name in sorted(names))
    return {name: files for name, files in lacking if files is not None}


def matches_nothing(layout: Layout, product: Product, filesets: Iterable[str]) -> bool:
    """Return True if ``components`` and ``files`` match no file of any of the filesets: misspelt ones.

    The filesets are looked at until one has such a file.
    """
    selection = FileSelection.of(product)
    if selection.components is None and selection.files is None:
        return False
    return not any(
        any(map(selection.matches, listed_files(layout, product.name, name) or ())) for name in filesets
    )


def note_file_selection(layout: Layout, product: Product, passed_over: Collection[str]) -> None:
    """Note that no fileset is complete with less than the settings choose, but for those passed over."""
    selection, path = FileSelection.of(product), layout.file_selection(product.name)
    last, names = read_marker(path) or {}, sorted(passed_over)
    if FileSelection.recorded(last) != selection or last.get("passed_over", []) != names:
        write_marker(path, {"product": product.name, **selection.numbers(), "passed_over": names})


def _lacks(layout: Layout, product: str, name: str, selection: FileSelection) -> bool | None:
    """Return True for a fileset that lacks files, False for one that lacks members only, else None."""
    partial = read_marker(layout.marker(MarkerKind.PARTIAL, product, name))
    downloaded = read_marker(layout.marker(MarkerKind.DOWNLOADED, product, name))
    if partial is None or downloaded is None:
        return None
    held = {file["name"] for file in downloaded["files"]}
    listed = listed_files(layout, product, name)
    if listed is None:
        # The listing that is fetched again decides.
        return True
    if any(selection.chooses(row) and row.name not in held for row in listed):
        return True
    return None if FileSelection.recorded(partial).has_members_of(selection) else False


def _patterns(patterns: Collection[str] | None) -> tuple[str, ...] | None:
    return None if patterns is None else tuple(patterns)


def _is_one(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
