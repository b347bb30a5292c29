"""Tree of a mirror, for the server of a Data Store."""

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pipeline.datastore.listing import read_files
from pipeline.datastore.server.tables import PRODUCT_HEADER, parse_rows, write_lines, write_rows
from pipeline.datastore.server.tree import PublishedTree, read_listing
from pipeline.errors import MirrorError
from pipeline.mirror.state.layout import INDEX, Layout
from pipeline.names import checked_segment, is_usable


class MirrorTree(PublishedTree):
    """Filesets of a mirror as a publisher's tree: only filesets that are complete in the mirror are listed.

    The root lists the products present, with type and description from the root listing of the mirror's
    own source.

    Filesets are listed in the order of their arrival in the mirror, which is not the order of the source. In
    the order of the source, a fileset that arrives late, after a failure, would be listed before filesets
    that a reader has already, and no ``?FILESET`` query of that reader would return it.
    """

    def __init__(self, layout: Layout, hidden: Iterable[str] = ()) -> None:
        super().__init__(layout.store_root, hidden)
        self._layout = layout
        self._complete: dict[tuple[Path, bytes], tuple[int, bool]] = {}

    def read_root(self) -> bytes:
        """Return the listing of the products present."""
        return self.generate_root(read_listing(self._layout.root_listing) or b"")

    def read_product(self, product: str) -> bytes | None:
        """Return the listing of the filesets that are complete. None when the mirror has no such product."""
        folder = self.find_folder(product)
        if folder is None or not is_usable(product):
            return None
        arrivals = _arrivals(folder)
        known = read_listing(self._layout.listing(product)) or write_lines([PRODUCT_HEADER])
        # An update appends rows: a last line without a line end is being written.
        rows = _parse_cached(known[: known.rfind(b"\n") + 1])
        held = [row for row in rows if self._holds(folder, row[1][0], arrivals)]
        return write_rows(sorted(held, key=lambda row: arrivals[row[1][0]]))

    def products_without_folder(self) -> list[str]:
        """Return the names of the products that were discovered and of which no fileset has come yet."""
        return [
            name
            for name in self._layout.state_products()
            if self._layout.discovered(name).is_file() and self.find_folder(name) is None
        ]

    def _holds(self, product: Path, fileset: bytes, arrivals: dict[bytes, int]) -> bool:
        """Return True if all files of the fileset are present; checked once per change of its folder."""
        arrived = arrivals.get(fileset)
        if arrived is None:
            return False
        known = self._complete.get((product, fileset))
        if known is None or known[0] != arrived:
            known = self._complete[product, fileset] = (arrived, _is_complete(product / os.fsdecode(fileset)))
        return known[1]


_parse_cached = lru_cache(maxsize=16)(parse_rows)


def _arrivals(product: Path) -> dict[bytes, int]:
    """Return the time (ns) of each fileset's rename into the product's folder, which set its ctime."""
    arrivals = {}
    for entry in os.scandir(product):
        with suppress(FileNotFoundError):
            arrivals[os.fsencode(entry.name)] = entry.stat().st_ctime_ns
    return arrivals


def _is_complete(folder: Path) -> bool:
    """Return True if every file that the fileset's listing names is in its folder."""
    try:
        files = read_files((folder / INDEX).read_bytes(), str(folder))
        return all((folder / checked_segment(file.name, str(folder))).is_file() for file in files)
    except (OSError, MirrorError):
        return False
