"""What a Data Store publishes: a folder tree, as the listings that its server hands out.

Layout rules, as the original prints them (protocol notes, "Listings"):

* The root listing has columns of fixed least widths; longer values push the rest to the right.
* A product listing has its columns padded to the widest value of the rows it shows, so an empty one is
  not padded at all.
* Both end in a blank line. The listing of a fileset is a file of the tree and is not touched.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, repeat, zip_longest
from pathlib import Path

from pipeline.datastore.listing import read_files
from pipeline.errors import MirrorError
from pipeline.names import checked_segment

BROKEN_INCLUDE = b"[an error occurred while processing this directive]\n"
UNKNOWN_FILESET = b"\n"

_ROOT_COLUMNS = (b"# productID", b"Most recent", b"Time registered", b"type", b"Description")
_ROOT_WIDTHS = (13, 12, 20, 9, 32)
_PRODUCT_HEADER = b"# filesetID|time registered|type|\n"
_FILESET_NAME = re.compile(r"[A-Za-z0-9\-+_.: ]+", re.ASCII)

Cells = tuple[bytes, ...]


class Store:
    """A publisher's tree: ``STORE/[PRODUCT/[FILESET/]]index.txt`` and the files of each fileset.

    ``hidden`` products are absent from the root listing. A missing ``index.txt`` of the root or of a
    product is made up from the folders that are there. Everything is read afresh once it changes on disk.
    """

    def __init__(self, folder: Path, hidden: Iterable[str] = ()) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.hidden = frozenset(hidden)

    def root_listing(self) -> bytes:
        """The products that are not hidden."""
        tables = [
            [cells for cells in table if os.fsdecode(cells[0]) not in self.hidden]
            for table in tables_of(self._root())
        ]
        return _laid_out(tables, _ROOT_WIDTHS)

    def product_listing(self, product: str, after: str | None = None) -> bytes | None:
        """The filesets of the product, or only those registered after the fileset ``after``.

        None when there is no such product. A name that no fileset can have gives the original's error
        text, one that no fileset of the product has gives a lone newline.
        """
        listing = self._filesets(product)
        if listing is None:
            return None
        if after is None:
            return _laid_out_product(listing)
        if not _FILESET_NAME.fullmatch(after):
            return BROKEN_INCLUDE
        newer = _newer_than(listing, after.strip().encode())
        return UNKNOWN_FILESET if newer is None else _laid_out(tables_of(newer))

    def fileset_listing(self, product: str, fileset: str) -> bytes | None:
        """The files of the fileset as its ``index.txt`` has them; None when that is not there."""
        folder = self._folder(product, fileset)
        return None if folder is None else _content(folder / "index.txt")

    def file(self, product: str, fileset: str, name: str) -> Path | None:
        """Where the file lies; None when the tree has nothing of that name.

        Raises PermissionError for a link that leads out of the tree or to nothing.
        """
        named = self.folder.joinpath(product, fileset, name)
        if not all(map(_is_public, (product, fileset, name))) or not os.path.lexists(named):
            return None
        path = Path(os.path.realpath(named))
        if not path.is_relative_to(self.folder) or not path.exists():
            raise PermissionError(f"{named} leads to {path}")
        return path if path.is_file() else None

    def _folder(self, *names: str) -> Path | None:
        if not all(_is_public(name) for name in names):
            return None
        path = Path(os.path.realpath(self.folder.joinpath(*names)))
        return path if path.is_dir() and path.is_relative_to(self.folder) else None

    def _root(self) -> bytes:
        published = _content(self.folder / "index.txt")
        return self._made_up_root(b"") if published is None else published

    def _filesets(self, product: str) -> bytes | None:
        folder = self._folder(product)
        if folder is None:
            return None
        published = _content(folder / "index.txt")
        return _made_up_product(folder) if published is None else published

    def _made_up_root(self, upstream: bytes) -> bytes:
        """A root listing of the products that are there, with what ``upstream`` knows of them."""
        known = {cells[0]: cells for table in tables_of(upstream) for cells in table[1:]}
        here = [os.fsencode(name) for name in _public_folders(self.folder)]
        order = [name for name in known if name in here] + [name for name in here if name not in known]
        rows = [self._made_up_root_row(name, known.get(name)) for name in order]
        return _joined([_ROOT_COLUMNS, *rows])

    def _made_up_root_row(self, product: bytes, upstream: Cells | None) -> Cells:
        newest = _newest(self._filesets(os.fsdecode(product)))
        kind, description = upstream[3:5] if upstream else (newest[2], product)
        return (product, newest[0], newest[1], kind, description)


class MirrorStore(Store):
    """The tree of a mirror as a Data Store of its own: only filesets that are held whole are listed.

    The root lists the products that are here, as ``state/root.txt``, a copy of the root listing of the
    mirror's own source, describes them.

    Filesets are listed in the order in which they arrived here, which is not the order of that source: one
    that comes late, after a failure, would otherwise stand before one that a reader has already seen, and
    no ``?FILESET`` query of his would ever name it.
    """

    def __init__(self, root: Path, hidden: Iterable[str] = ()) -> None:
        super().__init__(root / "store", hidden)
        self._state = root / "state"
        self._whole: dict[tuple[Path, bytes], tuple[int, bool]] = {}

    def _root(self) -> bytes:
        return self._made_up_root(_content(self._state / "root.txt") or b"")

    def _filesets(self, product: str) -> bytes | None:
        folder = self._folder(product)
        if folder is None:
            return None
        arrivals = _arrivals(folder)
        known = _content(self._state / product / "listing.txt") or _PRODUCT_HEADER
        # An update adds rows at the end: a last line without its end is still being written.
        rows = _rows_with_header(known[: known.rfind(b"\n") + 1])
        held = [row for row in rows if self._holds(folder, row[1][0], arrivals)]
        return _with_headers(sorted(held, key=lambda row: arrivals[row[1][0]]))

    def _holds(self, product: Path, fileset: bytes, arrivals: dict[bytes, int]) -> bool:
        """Whether all files of the fileset are here; looked at once for each time that its folder changes."""
        arrived = arrivals.get(fileset)
        if arrived is None:
            return False
        known = self._whole.get((product, fileset))
        if known is None or known[0] != arrived:
            known = self._whole[product, fileset] = (arrived, _is_whole(product / os.fsdecode(fileset)))
        return known[1]


def tables_of(listing: bytes) -> Iterator[list[Cells]]:
    """The tables of a listing: for each ``#`` line its cells (the first begins with ``#``), then its rows."""
    table: list[Cells] = []
    for line in listing.split(b"\n"):
        line = line.strip()
        if line.startswith(b"#") and table:
            yield table
            table = []
        if line:
            table.append(tuple(cell.strip() for cell in line.removesuffix(b"|").split(b"|")))
    if table:
        yield table


def _content(path: Path) -> bytes | None:
    """The bytes of a listing file, kept in memory until it changes; None when there is no such file."""
    try:
        state = path.stat()
        return _content_in_state(path, (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


@lru_cache(maxsize=64)
def _content_in_state(path: Path, _state: tuple[int, ...]) -> bytes:
    return path.read_bytes()


def _is_public(name: str) -> bool:
    """Whether the name is one path segment, and not one of the hidden names of files being written."""
    return name != "" and not name.startswith(".") and "/" not in name and "\0" not in name


def _public_folders(folder: Path) -> list[str]:
    entries = os.scandir(folder) if folder.is_dir() else []
    return sorted(entry.name for entry in entries if _is_public(entry.name) and entry.is_dir())


def _arrivals(product: Path) -> dict[bytes, int]:
    """When each fileset was put into the folder of its product, in ns: its rename changes the ctime."""
    arrivals = {}
    for entry in os.scandir(product):
        with suppress(FileNotFoundError):
            arrivals[os.fsencode(entry.name)] = entry.stat().st_ctime_ns
    return arrivals


def _is_whole(folder: Path) -> bool:
    """Whether every file that the fileset's listing names is in its folder."""
    try:
        files = read_files((folder / "index.txt").read_bytes(), str(folder))
        return all((folder / checked_segment(file.name, str(folder))).is_file() for file in files)
    except (OSError, MirrorError):
        return False


def _made_up_product(folder: Path) -> bytes:
    """A product listing of the fileset folders that are there, oldest ``index.txt`` first."""
    times = {}
    for name in _public_folders(folder):
        try:
            times[name] = (folder / name / "index.txt").stat().st_mtime_ns
        except OSError:
            continue
    rows = [
        (
            os.fsencode(name),
            f"{datetime.fromtimestamp(time / 1e9, UTC):%Y-%m-%dT%H:%M:%SZ}".encode(),
            b"notset",
        )
        for name, time in sorted(times.items(), key=lambda item: item[1])
    ]
    return _PRODUCT_HEADER + _joined(rows)


def _newest(listing: bytes | None) -> Cells:
    """Name, time registered and type of the last fileset of a product listing."""
    *_, last = tables_of(listing or _PRODUCT_HEADER)
    return last[-1][:3] if len(last) > 1 else (b"none", b"null", b"ipp-dist")


def _newer_than(listing: bytes, fileset: bytes) -> bytes | None:
    """The rows below that of the fileset, under the ``#`` line in force there; None without such a row."""
    at = len(listing)
    while (at := listing.rfind(fileset, 0, at)) >= 0:
        begin = listing.rfind(b"\n", 0, at) + 1
        end = listing.find(b"\n", at) + 1 or len(listing)
        if listing[begin:end].split(b"|", 1)[0].strip() == fileset:
            header = max(listing.rfind(b"\n#", 0, begin) + 1, 0)
            return listing[header : listing.find(b"\n", header) + 1] + listing[end:]
    return None


@lru_cache(maxsize=16)
def _rows_with_header(listing: bytes) -> list[tuple[Cells, Cells]]:
    return [(table[0], cells) for table in tables_of(listing) for cells in table[1:]]


def _with_headers(rows: Iterable[tuple[Cells, Cells]]) -> bytes:
    """The rows as a listing, with a ``#`` line wherever the columns change."""
    lines: list[Cells] = []
    current: Cells | None = None
    for header, cells in rows:
        if header != current:
            lines.append(header)
            current = header
        lines.append(cells)
    return _joined(lines) or _PRODUCT_HEADER


def _joined(lines: Iterable[Cells]) -> bytes:
    return b"".join(b"|".join(cells) + b"|\n" for cells in lines)


@lru_cache(maxsize=16)
def _laid_out_product(listing: bytes) -> bytes:
    return _laid_out(tables_of(listing))


def _laid_out(tables: Iterable[list[Cells]], widths: tuple[int, ...] = ()) -> bytes:
    """The tables with their columns padded to ``widths``, or else to the widest of each.

    Of tables without rows only the last is kept, and only when no other has any.
    """
    tables = list(tables)
    lines = []
    for table in [table for table in tables if len(table) > 1] or tables[-1:]:
        least = widths or [max(map(len, column)) for column in zip_longest(*table, fillvalue=b"")]
        lines += [_padded(cells, least) for cells in table]
    return b"".join(lines) + b"\n"


def _padded(cells: Cells, widths: Iterable[int]) -> bytes:
    widths = chain(widths, repeat(0))
    return b"".join(cell.ljust(width) + b"|" for cell, width in zip(cells, widths, strict=False)) + b"\n"
