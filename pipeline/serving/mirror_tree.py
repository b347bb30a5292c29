"""Tree of a mirror, for the server of a Data Store."""

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.datastore.server.tables import PRODUCT_HEADER, parse_rows, write_lines
from pipeline.datastore.server.tree import PublishedTree, is_segment, read_listing
from pipeline.mirror.state.clock import SAFE_AGE_NS
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.names import is_usable
from pipeline.serving.held import ArrivalOrder, HeldFilesets, HeldRow, StoredFolders

# Seconds after which a further change leaves another modification time, where times are whole seconds too.
SETTLED_AFTER = SAFE_AGE_NS / 10**9

_State = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class _Kept:
    """Filesets as they were read last; ``seen_at`` is the monotonic time when their state was seen first.

    They are settled if they were read so long after ``seen_at`` that a later change gives another state.
    Times of files are not compared with a clock: that of a file server may differ from the one of this host.
    """

    held: HeldFilesets
    state: _State
    seen_at: float
    is_settled: bool


class MirrorTree(PublishedTree):
    """Filesets of a mirror as a publisher's tree: only filesets that are complete in the mirror are listed.

    The root lists the products present, with type and description from the root listing of the mirror's
    own source.

    Filesets are listed in the order of their arrival in the mirror, which is not the order of the source. In
    the order of the source, a fileset that arrives late, after a failure, would be listed before filesets
    that a reader has already, and no ``?FILESET`` query of that reader would return it. Filesets that the
    source has withdrawn are not listed.
    """

    def __init__(
        self, layout: Layout, hidden: Iterable[str] = (), settled_after: float = SETTLED_AFTER
    ) -> None:
        super().__init__(layout.store_root, hidden)
        self._layout = layout
        self._settled_after = settled_after
        self._reading = threading.Lock()
        self._folders: dict[Path, StoredFolders] = {}
        self._orders: dict[str, ArrivalOrder] = {}
        self._kept: dict[str, _Kept] = {}

    def is_public(self, name: str) -> bool:
        """Return True for each path segment: in ``store/`` all names are upstream's, also hidden ones."""
        return is_segment(name)

    def top(self, product: str) -> Path:
        """Return the product's folder on its volume, where ``store/`` has a link to it; else ``store/``."""
        volume = Path(os.path.realpath(self._layout.volumes / product / "store"))
        return volume if os.path.realpath(self.folder / product) == str(volume) else self.folder

    def read_root(self) -> bytes:
        """Return the listing of the products present."""
        return self.generate_root(read_listing(self._layout.root_listing) or b"")

    def read_product(self, product: str) -> bytes | None:
        """Return the listing of the filesets that are complete. None when the mirror has no such product.

        It is kept in memory, and used again as long as nothing that decides on it was changed.
        """
        folder = self.find_folder(product)
        if folder is None or not is_usable(product):
            return None
        # Requests are answered in several threads: the first one reads what the others wait for.
        with self._reading:
            return self._read_held(product, folder).listing

    def read_newer(self, product: str, after: bytes) -> bytes | None:
        """Return the listing of all that a reader of the fileset ``after`` may lack.

        None when the listing that was read last does not have ``after``.
        """
        return self._kept[product].held.after(after)

    def fileset_listing(self, product: str, fileset: str) -> bytes | None:
        """Return the ``index.txt`` of a fileset of which all files are present. None for another one."""
        return super().fileset_listing(product, fileset) if self._is_complete(product, fileset) else None

    def file(self, product: str, fileset: str, name: str) -> Path | None:
        """Return the path of a file, as the tree of a publisher; None unless its fileset is complete."""
        return super().file(product, fileset, name) if self._is_complete(product, fileset) else None

    def _is_complete(self, product: str, fileset: str) -> bool:
        """Return True if all files of the fileset are present; also for a link that leads out of the tree."""
        folder = self.find_folder(product, fileset)
        if folder is None:
            return True
        return self._stored(folder.parent).is_complete(folder.name)

    def _stored(self, folder: Path) -> StoredFolders:
        """Return the filesets in the folder of a product."""
        return self._folders.setdefault(folder, StoredFolders(folder))

    def _read_held(self, product: str, folder: Path) -> HeldFilesets:
        state, now = self._state(product, folder), time.monotonic()
        kept = self._kept.get(product)
        seen_at = kept.seen_at if kept and kept.state == state else now
        if kept is None or kept.state != state or not kept.is_settled:
            held = HeldFilesets(self._rows(product, folder))
            kept = self._kept[product] = _Kept(held, state, seen_at, now - seen_at >= self._settled_after)
        return kept.held

    def _state(self, product: str, folder: Path) -> _State:
        """Return the state of all that decides on the listing of a product.

        Filesets are complete as long as their folder in ``store/`` is not touched: whatever removes files of
        a fileset touches the folder of the product (``docs/on-disk.md``, "store").
        """
        markers = self._layout.state(product)
        return tuple(
            _size_and_time(path)
            for path in (
                self._layout.arrivals(product),
                self._layout.listing(product),
                folder,
                markers / MarkerKind.DOWNLOADED,
                markers / MarkerKind.WITHDRAWN,
            )
        )

    def _rows(self, product: str, folder: Path) -> list[HeldRow]:
        """Return the rows of the filesets held, in their order of arrival."""
        folders = self._stored(folder)
        downloaded = partial(self._layout.marked_among, MarkerKind.DOWNLOADED, product)
        order = self._orders.setdefault(product, ArrivalOrder(self._layout.arrivals(product)))
        rows = order.rows(folders, downloaded)
        if rows is None:
            rows = self._rows_as_listed(product, folders)
        withdrawn = {name.encode() for name in self._layout.marked(MarkerKind.WITHDRAWN, product)}
        return [row for row in rows if row.name not in withdrawn]

    def _rows_as_listed(self, product: str, folders: StoredFolders) -> list[HeldRow]:
        """Return the rows in the order of the local listing: no reader is known to have seen any of them."""
        known = read_listing(self._layout.listing(product)) or write_lines([PRODUCT_HEADER])
        # An update appends rows: a last line without a line end is being written.
        rows = parse_rows(known[: known.rfind(b"\n") + 1])
        marked = {name.encode() for name in self._layout.marked(MarkerKind.DOWNLOADED, product)}
        stored = folders.complete()
        return [
            HeldRow(write_lines([header])[:-1], write_lines([cells])[:-1])
            for header, cells in rows
            if cells[0] in marked and cells[0] in stored
        ]

    def products_without_folder(self) -> list[str]:
        """Return the names of the products that were discovered and of which no fileset has come yet.

        One whose disk is not mounted has a link there, and must not be taken for an empty one.
        """
        layout = self._layout
        return [
            name
            for name in layout.state_products()
            if layout.discovered(name).is_file()
            and not os.path.lexists(layout.store_of(name))
            and not layout.volume(name).is_symlink()
        ]


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns
