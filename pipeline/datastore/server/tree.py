"""Trees that a server publishes: the interface ``Tree``, and a publisher's folder."""

import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pipeline.datastore.listing import INDEX
from pipeline.datastore.server.latest_cache import LatestCache
from pipeline.datastore.server.tables import (
    PRODUCT_HEADER,
    ROOT_HEADER,
    Cells,
    lay_out_product,
    lay_out_root,
    parse_tables,
    rows_after,
    split_cells,
    write_lines,
)

BROKEN_INCLUDE = b"[an error occurred while processing this directive]\n"
"""Response of the original to ``?NAME`` for a name that no fileset can have."""

UNKNOWN_FILESET = b"\n"
"""Response of the original to ``?NAME`` for a fileset that the product does not list."""

PRODUCTS_CACHED = 32
"""Most products whose listings are kept in memory."""

_PRODUCT_TYPES = {
    kind.lower(): kind
    for kind in (
        *(b"image", b"dump", b"psrequest", b"psresults", b"table", b"ipp-dist"),
        *(b"ipp-misc", b"dqresults", b"IPP-MOPS", b"IPP-PSPS"),
    )
}

_NO_FILESETS = write_lines([PRODUCT_HEADER])

_FILESET_NAME = re.compile(r"[A-Za-z0-9\-+_.: ]+", re.ASCII)


class Tree(Protocol):
    """Read access to products, their filesets and the files of these. Listings are laid out for sending."""

    def root_listing(self) -> bytes:
        """Return the listing of the products."""
        ...

    def product_listing(self, product: str, after: str | None = None) -> bytes | None:
        """Return the listing of the filesets registered after the fileset ``after``, or of all of them.

        None when there is no such product.
        """
        ...

    def fileset_listing(self, product: str, fileset: str) -> bytes | None:
        """Return the listing of the files of a fileset. None when there is no such fileset."""
        ...

    def file(self, product: str, fileset: str, name: str) -> Path | None:
        """Return the path of a file on disk. None when there is none.

        Raises PermissionError for a file that must not be sent.
        """
        ...


class PublishedTree:
    """Folder of a publisher: ``FOLDER/[PRODUCT/[FILESET/]]index.txt`` and the files of each fileset.

    ``hidden`` products are absent from the root listing. A missing ``index.txt`` of the root or of a
    product is generated from the folders present. Each listing is read again when it changes on disk.

    A subclass that keeps its listings elsewhere overrides ``read_root``, ``read_product``, ``read_newer`` and
    ``products_without_folder``; one whose tree has no files that are being written, ``is_public``; one with
    products in other folders, ``top``.
    """

    def __init__(self, folder: Path, hidden: Iterable[str] = ()) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.hidden = frozenset(hidden)
        self._laid_out: LatestCache[str, bytes, bytes] = LatestCache(PRODUCTS_CACHED)

    def root_listing(self) -> bytes:
        """Return the listing of the products that are not hidden."""
        return lay_out_root(
            [cells for cells in table if os.fsdecode(cells[0]) not in self.hidden]
            for table in parse_tables(self.read_root())
        )

    def product_listing(self, product: str, after: str | None = None) -> bytes | None:
        """Return the listing of the filesets of the product, or of those registered after ``after``.

        None when there is no such product; BROKEN_INCLUDE and UNKNOWN_FILESET as the original.
        """
        if product in self.products_without_folder():
            return lay_out_product(_NO_FILESETS) if after is None else UNKNOWN_FILESET
        listing = self.read_product(product)
        if listing is None:
            return None
        if after is None:
            return self._laid_out.get(product, listing, lambda: lay_out_product(listing))
        if not _FILESET_NAME.fullmatch(after):
            return BROKEN_INCLUDE
        newer = self.read_newer(product, after.strip().encode())
        return UNKNOWN_FILESET if newer is None else lay_out_product(newer)

    def fileset_listing(self, product: str, fileset: str) -> bytes | None:
        """Return the ``index.txt`` of the fileset, byte for byte. None when there is none."""
        folder = self.find_folder(product, fileset)
        path = None if folder is None else folder / INDEX
        return path.read_bytes() if path and path.is_file() else None

    def file(self, product: str, fileset: str, name: str) -> Path | None:
        """Return the real path of the file. None when the tree has nothing of that name.

        Raises PermissionError for a link that leads out of the tree or to nothing.
        """
        named = self.folder.joinpath(product, fileset, name)
        if not all(map(self.is_public, (product, fileset, name))) or not os.path.lexists(named):
            return None
        path = Path(os.path.realpath(named))
        if not path.is_relative_to(self.top(product)) or not path.exists():
            raise PermissionError(f"{named} leads to {path}")
        return path if path.is_file() else None

    def top(self, _product: str) -> Path:
        """Return the real folder that nothing of the product leads out of."""
        return self.folder

    def is_public(self, name: str) -> bool:
        """Return True for a single path segment that is not hidden; files being written have hidden names."""
        return is_segment(name) and not name.startswith(".")

    def read_root(self) -> bytes:
        """Return the root listing with all products, hidden ones too, in any layout."""
        published = read_listing(self.folder / INDEX)
        return self.generate_root(b"") if published is None else published

    def read_product(self, product: str) -> bytes | None:
        """Return the listing of all filesets, in any layout. None when there is no such product."""
        folder = self.find_folder(product)
        if folder is None:
            return None
        published = read_listing(folder / INDEX)
        return self._generate_product(folder) if published is None else published

    def products_without_folder(self) -> list[str]:
        """Return the names of products that have no fileset, and so no folder in the tree."""
        return []

    def read_newer(self, product: str, after: bytes) -> bytes | None:
        """Return the listing of the filesets registered after ``after``, in any layout.

        Called after ``read_product``. None when the product does not list ``after``.
        """
        return rows_after(self.read_product(product) or b"", after)

    def find_folder(self, *names: str) -> Path | None:
        """Return the real path of a folder of the tree. None when there is none, or a link leads out."""
        if not all(map(self.is_public, names)):
            return None
        path = Path(os.path.realpath(self.folder.joinpath(*names)))
        # Path.is_dir would raise OSError for a name that is too long for the file system.
        is_folder = os.path.isdir(path)  # noqa: PTH112
        return path if is_folder and path.is_relative_to(self.top(names[0])) else None

    def generate_root(self, upstream: bytes) -> bytes:
        """Return a root listing of the products present, with type and description from ``upstream``."""
        described = {cells[0]: cells for table in parse_tables(upstream) for cells in table[1:]}
        listings = {os.fsencode(name): self.read_product(name) for name in self._public_folders(self.folder)}
        listings |= {os.fsencode(name): _NO_FILESETS for name in self.products_without_folder()}
        present = {name: listing for name, listing in listings.items() if listing is not None}
        order = [name for name in described if name in present]
        order += [name for name in present if name not in described]
        rows = [_root_row(name, present[name], described.get(name)) for name in order]
        return write_lines([ROOT_HEADER, *rows])

    def _public_folders(self, folder: Path) -> list[str]:
        if not folder.is_dir():
            return []
        # One on a disk that does not answer is none: os.DirEntry.is_dir would raise OSError.
        names = (entry.name for entry in os.scandir(folder) if os.path.isdir(entry.path))  # noqa: PTH112
        return sorted(filter(self.is_public, names))

    def _generate_product(self, folder: Path) -> bytes:
        """Return a product listing of the fileset folders present, oldest ``index.txt`` first."""
        times = {}
        for name in self._public_folders(folder):
            with suppress(OSError):
                state = (folder / name / INDEX).stat()
                if stat.S_ISREG(state.st_mode):
                    times[name] = state.st_mtime
        rows = [
            (os.fsencode(name), f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}".encode(), b"notset")
            for name, time in sorted(times.items(), key=lambda item: item[1])
        ]
        return write_lines([PRODUCT_HEADER, *rows])


def is_segment(name: str) -> bool:
    """Return True for a name that leads from a folder to what is in it, and no further."""
    return name not in {"", ".", ".."} and "/" not in name and "\0" not in name


def read_listing(path: Path) -> bytes | None:
    """Return the content of a listing file, cached until the file changes. None when there is none."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            return None  # a pipe would be read for ever
        version = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)
        return _FILES.get(path, version, path.read_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None


_FILES: LatestCache[Path, tuple[int, ...], bytes] = LatestCache(PRODUCTS_CACHED)


def _root_row(product: bytes, listing: bytes, upstream: Cells | None) -> Cells:
    """Return the row of a product with this listing; ``upstream`` is its row in another root listing."""
    last = listing.rstrip().rpartition(b"\n")[2].strip()
    if last.startswith(b"#") or not last:
        name, time, kind = b"none", b"null", b"ipp-dist"
    else:
        name, time, kind, *_ = [*split_cells(last), b"null", b"null"]
    if upstream and len(upstream) >= len(ROOT_HEADER):
        return (product, name, upstream[2] if name == b"none" else time, *upstream[3:5])
    # The type of a product is not that of its filesets; readers drop products of a type unknown to them.
    return (product, name, time, _PRODUCT_TYPES.get(kind.lower(), b"ipp-misc"), product)
