"""Tree of a site: its mirror and its own products, as one Data Store."""

import os
from pathlib import Path

from pipeline.datastore.listing import INDEX
from pipeline.datastore.server.tables import ROOT_HEADER, lay_out_root, parse_tables
from pipeline.datastore.server.tree import PublishedTree, read_listing
from pipeline.serving.mirror_tree import MirrorTree


class OwnTree(PublishedTree):
    """Products of a site's own; the newest fileset of each is that of the product's listing."""

    def read_root(self) -> bytes:
        """Return the listing of the products, with types and descriptions of the published one."""
        return self.generate_root(read_listing(self.folder / INDEX) or b"")


class SiteTree:
    """Products of a mirror, and beside them those of the site's own.

    A product of the latter hides one of the mirror with its name: readers never get filesets of both.
    """

    def __init__(self, mirror: MirrorTree, own: OwnTree) -> None:
        self._mirror = mirror
        self._own = own

    def root_listing(self) -> bytes:
        """Return the listing of the products that are not hidden: those of the mirror first."""
        mirrored = parse_tables(self._mirror.root_listing())
        rows = [cells for table in mirrored for cells in table[1:] if not self._is_own(os.fsdecode(cells[0]))]
        own = parse_tables(self._own.root_listing())
        rows += [cells for table in own for cells in table[1:]]
        return lay_out_root([[ROOT_HEADER, *rows]])

    def product_listing(self, product: str, after: str | None = None) -> bytes | None:
        """Return the listing of a product, as ``PublishedTree.product_listing``."""
        return self._tree_of(product).product_listing(product, after)

    def fileset_listing(self, product: str, fileset: str) -> bytes | None:
        """Return the listing of a fileset. None when there is none."""
        return self._tree_of(product).fileset_listing(product, fileset)

    def file(self, product: str, fileset: str, name: str) -> Path | None:
        """Return the path of a file, as ``PublishedTree.file``."""
        return self._tree_of(product).file(product, fileset, name)

    def _tree_of(self, product: str) -> PublishedTree:
        return self._own if self._is_own(product) else self._mirror

    def _is_own(self, product: str) -> bool:
        return self._own.find_folder(product) is not None
