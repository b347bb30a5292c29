"""Owner records: for each folder of ``data/``, the filesets that have unpacked files into it.

With them, the owner of a path is found in a few extraction markers, however many filesets the mirror has.

A record may hold too much, never too little: a fileset is recorded, durably, before its extraction marker is
written, and stays recorded when the marker goes. The marker decides.

A record is text. Its first line is the path of the folder, for people. Each further line,
``PRODUCT/FILESET/BEGINNING``, names a fileset and the common beginning of the names of its files in the
folder: of thousands of filesets that share a folder, most cannot have a given file. A last line without its
line end, which a kill or power cut leaves, does not count: its fileset is not marked.
"""

import logging
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from pipeline.durable import flush_file, flush_file_system, flush_folder, make_folder, remove_files
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset
from pipeline.names import is_usable

# Product and name of a fileset.
Key = tuple[str, str]

# Lines that are collected in memory before they are appended, when records are restored.
_LINES_AT_ONCE = 50_000
_SUBFOLDERS = [f"{number:02x}" for number in range(256)]

log = logging.getLogger(__name__)


def record_files(layout: Layout, fileset: Fileset, paths: Iterable[str]) -> None:
    """Record durably that the fileset unpacks files to ``paths``, which are relative to the root.

    For the holder of the locks of their folders. Raises OSError.
    """
    records = [
        _append(layout, folder, [line])
        for folder, line in _lines((fileset.product, fileset.name), paths).items()
    ]
    # Records that had the line too: the process that wrote the line may have been killed before its flush.
    for record in records:
        flush_file(record)
    for folder in {record.parent for record in records}:
        flush_folder(folder)


def recorded_with(layout: Layout, paths: Set[str]) -> set[Key]:
    """Return the filesets that may have unpacked one of the ``paths``, which are relative to the root.

    Reads the records of the folders of the paths; the time is linear in the filesets that share these.
    """
    found: set[Key] = set()
    for folder, names in _by_folder(paths).items():
        names.sort()
        for product, name, beginning in _recorded(layout, folder):
            at = bisect_left(names, beginning)
            if at < len(names) and names[at].startswith(beginning):
                found.add((product, name))
    return {(product, name) for product, name in found if is_usable(product) and is_usable(name)}


def unrecorded(layout: Layout, fileset: Fileset, paths: Iterable[str]) -> list[str]:
    """Return the folders of ``paths`` in whose records the fileset is missing."""
    lines = _lines((fileset.product, fileset.name), paths)
    return [
        folder
        for folder, line in lines.items()
        if tuple(line.split("/", 2)) not in set(_recorded(layout, folder))
    ]


def drop_records(layout: Layout, paths: Iterable[str], removed: Fileset) -> None:
    """Remove the records of the folders that are gone with the ``paths``, the files of ``removed``.

    A record in which another fileset has an extraction marker stays: its files may have been deleted by hand,
    and count as its own. For the holder of the locks of the folders. Raises OSError.
    """
    gone = [folder for folder in _by_folder(paths) if not (layout.root / folder).exists()]
    remove_files(
        layout.owner_record(folder) for folder in gone if not _is_marked_besides(layout, folder, removed)
    )


def restore_owner_records(layout: Layout) -> None:
    """Make the records complete by the extraction markers, unless they are complete.

    For the holder of the update lock, before a step is done. Killed on the way, it begins again at the next
    call. Raises OSError.
    """
    if read_marker(layout.owners_complete):
        return
    make_folder(layout.owners)
    # Made here once for all, so that no extraction has to make and flush them.
    for name in _SUBFOLDERS:
        (layout.owners / name).mkdir(exist_ok=True)
    flush_folder(layout.owners)
    if any(layout.count(MarkerKind.EXTRACTED, product) for product in layout.state_products()):
        log.info("recording, once, which filesets unpacked into which folders of %s", layout.data)
        for lines in _marked_lines(layout):
            for folder, each in lines.items():
                _append(layout, folder, each)
        flush_file_system(layout.owners)
    write_marker(layout.owners_complete, {})


def _marked_lines(layout: Layout) -> Iterator[dict[str, list[str]]]:
    """Yield the lines of all extraction markers by folder, some ten thousands at a time."""
    lines: dict[str, list[str]] = defaultdict(list)
    count = 0
    for product in layout.state_products():
        for name in layout.marked(MarkerKind.EXTRACTED, product):
            marker = read_marker(layout.marker(MarkerKind.EXTRACTED, product, name)) or {}
            paths = [file["path"] for file in marker.get("files", [])]
            for folder, line in _lines((product, name), paths).items():
                lines[folder].append(line)
                count += 1
            if count >= _LINES_AT_ONCE:
                yield lines
                lines, count = defaultdict(list), 0
    yield lines


def _lines(key: Key, paths: Iterable[str]) -> dict[str, str]:
    """Return for each folder of the paths the line of the fileset, without line end."""
    product, name = key
    return {
        folder: f"{product}/{name}/{os.path.commonprefix(names)}"  # noqa: RUF071  (of names, not of paths)
        for folder, names in _by_folder(paths).items()
    }


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of the files in each folder."""
    names: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, name = path.rpartition("/")
        names[folder].append(name)
    return names


def _append(layout: Layout, folder: str, lines: list[str]) -> Path:
    """Append those of the lines to the folder's record that it lacks; return the path of the record."""
    record = layout.owner_record(folder)
    make_folder(record.parent)
    with open(record, "a+b") as file:
        file.seek(0)
        content = file.read()
        new = [line for line in dict.fromkeys(lines) if f"\n{line}\n".encode() not in content]
        if not content:
            new.insert(0, folder)
        elif not content.endswith(b"\n"):
            new.insert(0, "")
        file.write("".join(f"{line}\n" for line in new).encode())
    return record


def _recorded(layout: Layout, folder: str) -> Iterator[tuple[str, str, str]]:
    """Yield product, fileset and beginning of names of each whole line in the record of the folder."""
    try:
        content = layout.owner_record(folder).read_bytes()
    except FileNotFoundError:
        return
    for line in content.decode(errors="replace").split("\n")[1:-1]:
        product, _, rest = line.partition("/")
        name, _, beginning = rest.partition("/")
        yield product, name, beginning


def _is_marked_besides(layout: Layout, folder: str, fileset: Fileset) -> bool:
    """Return True if a fileset in the folder's record, other than ``fileset``, has an extraction marker."""
    others = {(product, name) for product, name, _ in _recorded(layout, folder)}
    others.discard((fileset.product, fileset.name))
    return any(
        layout.marker(MarkerKind.EXTRACTED, product, name).exists()
        for product, name in others
        if is_usable(product) and is_usable(name)
    )
