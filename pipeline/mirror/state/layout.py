"""Where everything lies below the root of a mirror (docs/on-disk.md)."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.mirror.state.marker_file import SUFFIX, count_good_markers, good_markers, is_good_marker
from pipeline.names import checked_segment, is_usable

# The listing of a fileset, kept beside its files as it was served.
INDEX = "index.txt"
# So many markers are looked up one by one; for more of them their whole folder is looked through.
_FEW = 1000


class MarkerKind(StrEnum):
    """The folders of ``state/PRODUCT``: one marker file per fileset in each."""

    DOWNLOADED = "downloaded"
    EXTRACTED = "extracted"
    FAILED = "failed"
    SKIPPED = "skipped"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"
    VERIFIED = "verified"


@dataclass(frozen=True)
class Layout:
    """The paths of one mirror. ``root`` is absolute. Names are checked before they become paths."""

    root: Path

    @property
    def data(self) -> Path:
        """The unpacked tree: the DATA of the protocol notes."""
        return self.root / "data"

    @property
    def log_file(self) -> Path:
        """The log, rotated."""
        return self.root / "log" / "update_mirror.log"

    def assistant_log(self, host: str) -> Path:
        """The log of the assistants on that host, rotated."""
        return self.root / "log" / f"assistant.{host}.log"

    @property
    def product_status(self) -> Path:
        """One row for each product."""
        return self.root / "status" / "product_status.csv"

    @property
    def download_failures(self) -> Path:
        """One row for each fileset that failed."""
        return self.root / "status" / "download_failures.csv"

    @property
    def root_format(self) -> Path:
        """The format number of the root folder."""
        return self.root / "mirror.json"

    @property
    def lock_file(self) -> Path:
        """Held by the update that is running."""
        return self.root / "state" / "update.lock"

    @property
    def fileset_locks(self) -> Path:
        """Locked in part, a byte for each fileset of which a step is being done."""
        return self.root / "state" / "filesets.lock"

    @property
    def assistants(self) -> Path:
        """What the processes of one update say to each other; there while an update takes assistants."""
        return self.root / "assistants"

    @property
    def ownership_lock(self) -> Path:
        """Locked in part, a byte for each folder of ``data/`` into which files are being put."""
        return self.root / "state" / "ownership.lock"

    @property
    def root_listing(self) -> Path:
        """The products as the root of the source listed them when it was last asked."""
        return self.root / "state" / "root.txt"

    @property
    def store_root(self) -> Path:
        """The filesets that are here: a folder per product, in it a folder per fileset."""
        return self.root / "store"

    def store(self, product: str, fileset: str) -> Path:
        """The files of the fileset exactly as served."""
        return self._fileset(self.store_root, product, fileset)

    def incoming(self, product: str, fileset: str) -> Path:
        """What is being fetched: ``files/`` verified, ``partial/`` not yet."""
        return self._fileset(self.root / "incoming", product, fileset)

    def info(self, product: str, fileset: str) -> Path:
        """dbinfo and dirinfo with local paths."""
        return self._fileset(self.root / "info", product, fileset)

    def state(self, product: str) -> Path:
        """All that is remembered of a product."""
        return self.root / "state" / checked_segment(product, "product name")

    def state_products(self) -> list[str]:
        """The products of which anything is remembered."""
        folders = (self.root / "state").iterdir()
        return sorted(path.name for path in folders if is_usable(path.name) and path.is_dir())

    def listing(self, product: str) -> Path:
        """Every row of the product seen so far."""
        return self.state(product) / "listing.txt"

    def discovered(self, product: str) -> Path:
        """When the product's listing was last asked for, and what came of it."""
        return self.state(product) / "discovered.json"

    def updated(self, product: str) -> Path:
        """The last update that went through the whole product."""
        return self.state(product) / "updated.json"

    @property
    def verification(self) -> Path:
        """The verification that was begun and has not ended."""
        return self.root / "state" / "verification.json"

    @property
    def verified(self) -> Path:
        """The last verification of the whole mirror."""
        return self.root / "state" / "verified.json"

    def product_verified(self, product: str) -> Path:
        """The last verification of the product."""
        return self.state(product) / "verified.json"

    def marker(self, step: MarkerKind, product: str, fileset: str) -> Path:
        """The marker of one step of one fileset."""
        name = checked_segment(fileset, f"fileset of product {product}")
        return self.state(product) / step / f"{name}.json"

    def marked(self, step: MarkerKind, product: str) -> set[str]:
        """The names of all filesets that have a good marker of that step, from one look at the folder."""
        return good_markers(self.state(product) / step)

    def count(self, step: MarkerKind, product: str) -> int:
        """How many filesets have a good marker of that step."""
        return count_good_markers(self.state(product) / step)

    def marked_among(self, step: MarkerKind, product: str, filesets: Collection[str]) -> set[str]:
        """Those of the filesets that have a good marker of that step."""
        if len(filesets) > _FEW:
            return self.marked(step, product).intersection(filesets)
        usable = (name for name in filesets if is_usable(name + SUFFIX))
        return {name for name in usable if is_good_marker(self.marker(step, product, name))}

    def relative(self, path: Path) -> str:
        """The path as markers record it: relative to the root."""
        return path.relative_to(self.root).as_posix()

    def _fileset(self, room: Path, product: str, fileset: str) -> Path:
        return (
            room
            / checked_segment(product, "product name")
            / checked_segment(fileset, f"fileset of product {product}")
        )


def short_digest(text: str) -> str:
    """16 hex digits that stand for a name where the name itself would be too long."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
