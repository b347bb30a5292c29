"""Layout of a mirror: the path of everything below its root (docs/on-disk.md)."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from pipeline.durable import WRITING_SUFFIX
from pipeline.mirror.state.marker_file import SUFFIX, can_name_marker, read_marker
from pipeline.mirror.state.snapshot import (
    count_markers,
    each_marker,
    good_in_all,
    good_markers,
    marker_names,
)
from pipeline.names import checked_segment, is_usable

# Names in ``state/`` that are not folders of products.
STATE_NAMES = frozenset(
    {
        "arrivals.lock",
        "catalog",
        "compared.json",
        "comparison.json",
        "filesets.lock",
        "ownership.lock",
        "progress.json",
        "paused.json",
        "root.txt",
        "run_products.json",
        "notified.json",
        "update.lock",
        "verification.json",
        "verified.json",
    }
)
# Up to this number, markers are read one by one; above it, the good ones of their whole folder are taken.
LOOK_UP_AT_MOST = 1000


class MarkerKind(StrEnum):
    """Folders of ``state/PRODUCT``, with one marker file per fileset in each.

    A step of the workflow may have a folder of its own beside these (``StepSpec.marker``).
    """

    DOWNLOADED = "downloaded"
    EXTRACTED = "extracted"
    FAILED = "failed"
    SKIPPED = "skipped"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    WANTED = "wanted"
    PARTIAL = "partial"
    SUPERSEDED = "superseded"
    CATALOGED = "cataloged"
    VERIFIED = "verified"
    COMPARED = "compared"


@dataclass(frozen=True)
class Layout:
    """Paths of one mirror. ``root`` is absolute. Names are checked before they become paths."""

    root: Path

    @property
    def data(self) -> Path:
        """Unpacked tree: DATA in the protocol notes, for products without a volume."""
        return self.root / "data"

    def data_of(self, product: str) -> Path:
        """Return DATA of a product: the folder that its filesets are unpacked into."""
        volume = self.volume(product)
        return volume / "data" if volume.is_symlink() else self.data

    def data_folders(self) -> list[Path]:
        """Return DATA of each product: ``data/``, and that of each product on a volume."""
        return [self.data, *(self.data_of(product) for product in self.products_on_volumes())]

    @property
    def volumes(self) -> Path:
        """Folder of links to the products that lie on disks of their own."""
        return self.root / "volumes"

    def volume(self, product: str) -> Path:
        """Return the path of the link to the product's folder on a disk of its own."""
        return self.volumes / checked_segment(product, "product name")

    def products_on_volumes(self) -> list[str]:
        """Return the names of the products with such a link, wherever it leads, sorted."""
        links = (
            [path for path in self.volumes.iterdir() if path.is_symlink()] if self.volumes.is_dir() else []
        )
        return sorted(path.name for path in links if is_usable(path.name))

    @property
    def log_file(self) -> Path:
        """Log of updates and verifications, rotated."""
        return self.root / "log" / "update_mirror.log"

    def worker_log(self, host: str) -> Path:
        """Return the path of the log of the workers on that host, rotated."""
        return self.root / "log" / f"worker.{host}.log"

    @property
    def product_status(self) -> Path:
        """Status file with one row per product."""
        return self.root / "status" / "product_status.csv"

    @property
    def download_failures(self) -> Path:
        """Status file with one row per file that failed."""
        return self.root / "status" / "download_failures.csv"

    @property
    def history(self) -> Path:
        """Status file with one row per run, rotated."""
        return self.root / "status" / "history.csv"

    @property
    def metrics(self) -> Path:
        """Status file for the textfile collector of Prometheus' node exporter."""
        return self.root / "status" / "metrics.prom"

    @property
    def page(self) -> Path:
        """Page with the state of the mirror, for browsers."""
        return self.root / "status" / "index.html"

    @property
    def root_format(self) -> Path:
        """File with the format number of the root folder."""
        return self.root / "mirror.json"

    @property
    def lock_file(self) -> Path:
        """File locked by the running update."""
        return self.root / "state" / "update.lock"

    @property
    def fileset_locks(self) -> Path:
        """File of byte-range locks: one byte for each fileset with a step in progress."""
        return self.root / "state" / "filesets.lock"

    @property
    def ownership_lock(self) -> Path:
        """File of byte-range locks: one byte for each folder of ``data/`` that an extraction writes to."""
        return self.root / "state" / "ownership.lock"

    @property
    def owners(self) -> Path:
        """Folder of the owner records; no product can have its name."""
        return self.root / "state" / "@owners"

    @property
    def owners_complete(self) -> Path:
        """Marker of the owner records: every extraction marker has its lines in them."""
        return self.owners / f"complete{SUFFIX}"

    def owner_record(self, folder: str) -> Path:
        """Return the path of the owner record of a folder of ``data/``, given relative to the root.

        The records of sibling folders lie in one folder, which an extraction has to flush once only.
        """
        siblings = short_digest(str(PurePosixPath(folder).parent))[:2]
        return self.owners / siblings / short_digest(folder)

    @property
    def arrivals_lock(self) -> Path:
        """File of byte-range locks: one byte for each product of which a fileset is being published."""
        return self.root / "state" / "arrivals.lock"

    @property
    def catalog(self) -> Path:
        """Folder of the SQLite files of the catalog."""
        return self.root / "state" / "catalog"

    @property
    def catalog_pointer(self) -> Path:
        """Marker that names the current SQLite file."""
        return self.catalog / "current.json"

    @property
    def catalog_snapshot(self) -> Path:
        """Copy of the SQLite catalog for readers on other hosts."""
        return self.root / "status" / "catalog.sqlite"

    @property
    def coverage(self) -> Path:
        """Folder of the coverage maps."""
        return self.root / "status" / "coverage"

    @property
    def coverage_pictures(self) -> tuple[Path, Path]:
        """Picture of the coverage of the sky, as PNG and as SVG."""
        return self.root / "status" / "coverage.png", self.root / "status" / "coverage.svg"

    @property
    def coverage_record(self) -> Path:
        """Record of what maps and picture of the coverage were made from."""
        return self.catalog / "coverage.json"

    @property
    def catalog_record(self) -> Path:
        """Marker of the database as the last run left it."""
        return self.catalog / "seen.json"

    @property
    def paused(self) -> Path:
        """Marker of a pause: no update begins while it is there."""
        return self.root / "state" / "paused.json"

    @property
    def progress(self) -> Path:
        """File with the progress of the running run, until that has its row in the history."""
        return self.root / "state" / "progress.json"

    @property
    def run_products(self) -> Path:
        """File with the products of which the running run fetches what comes to be wanted."""
        return self.root / "state" / "run_products.json"

    @property
    def notified(self) -> Path:
        """Marker of what was wrong when the last message was sent."""
        return self.root / "state" / "notified.json"

    @property
    def peers(self) -> Path:
        """Folder for the coordination of workers; present while an update accepts them."""
        return self.root / "workers"

    @property
    def root_listing(self) -> Path:
        """Last listing of the root of the upstream Data Store."""
        return self.root / "state" / "root.txt"

    @property
    def store_root(self) -> Path:
        """Folder of all downloaded filesets: ``PRODUCT/FILESET`` below it."""
        return self.root / "store"

    def store_of(self, product: str) -> Path:
        """Return the folder of the product's downloaded filesets."""
        return self.store_root / checked_segment(product, "product name")

    def incoming_of(self, product: str) -> Path:
        """Return the folder of the product's filesets in progress."""
        return self.root / "incoming" / checked_segment(product, "product name")

    @property
    def published(self) -> Path:
        """Folder of the products of the site's own: a publisher's tree."""
        return self.root / "published"

    def store(self, product: str, fileset: str) -> Path:
        """Return the folder of the fileset's files exactly as served."""
        return self.store_of(product) / checked_segment(fileset, f"fileset of product {product}")

    def incoming(self, product: str, fileset: str) -> Path:
        """Return the folder of a download in progress: ``files/`` verified, ``partial/`` not yet."""
        return self.incoming_of(product) / checked_segment(fileset, f"fileset of product {product}")

    def info(self, product: str, fileset: str) -> Path:
        """Return the folder of the fileset's dbinfo and dirinfo with local paths."""
        folder = self.root / "info" / checked_segment(product, "product name")
        return folder / checked_segment(fileset, f"fileset of product {product}")

    def state(self, product: str) -> Path:
        """Return the folder of the state of a product.

        It has the product's name, with a ``~`` behind a name that ``state/`` uses itself.
        """
        name = checked_segment(product, "product name")
        is_taken = name in STATE_NAMES or name.endswith(WRITING_SUFFIX)
        return self.root / "state" / (f"{name}~" if is_taken else name)

    def state_products(self, *, never_listed: bool = False) -> list[str]:
        """Return the names of the products with any state, sorted.

        With ``never_listed``, also of those whose only state is that their listing could not be read.
        """
        state = self.root / "state"
        folders = [path for path in state.iterdir() if path.is_dir()] if state.is_dir() else []
        names = {path.name.removesuffix("~"): path for path in folders}
        return sorted(
            name
            for name, path in names.items()
            if is_usable(name)
            and self.state(name) == path
            and (never_listed or not self._was_never_listed(name))
        )

    def _was_never_listed(self, product: str) -> bool:
        """Return True if the only state of the product is that its listing could not be read.

        Its name may be misspelt in the settings.
        """
        listed = (self.listing(product), self.discovered(product))
        return self.listing_failure(product).exists() and not any(path.exists() for path in listed)

    def listing(self, product: str) -> Path:
        """Return the path of the local listing: every row of the product received so far."""
        return self.state(product) / "listing.txt"

    def arrivals(self, product: str) -> Path:
        """Return the path of the order of arrival: the filesets held, in the order in which they came."""
        return self.state(product) / "arrivals.txt"

    def arrivals_seen(self, product: str) -> Path:
        """Return the path of a cache: for which state of the folder the order of arrival was found sound."""
        return self.state(product) / "arrivals.json"

    def nothing_pending(self, product: str) -> Path:
        """Return the path of a cache: the last state of listing and markers in which nothing was pending."""
        return self.state(product) / "pending.json"

    def newest(self, product: str) -> Path:
        """Return the path of a cache: the selected and the newest filesets, and of which state that is."""
        return self.state(product) / "newest.json"

    def file_selection(self, product: str) -> Path:
        """Return the path of the patterns of files and members by which the last update chose."""
        return self.state(product) / "file_selection.json"

    def beginning(self, product: str) -> Path:
        """Return the path of the time of registration of the fileset that ``begin_after`` names."""
        return self.state(product) / "begin_after.json"

    def discovered(self, product: str) -> Path:
        """Return the marker of the last discovery: its time, and the number of new rows."""
        return self.state(product) / "discovered.json"

    def listing_failure(self, product: str) -> Path:
        """Return the path of the record of a last discovery that failed."""
        return self.state(product) / "listing_failure.json"

    def updated(self, product: str) -> Path:
        """Return the marker of the last update that went through the whole product."""
        return self.state(product) / "updated.json"

    def adopted(self, product: str) -> Path:
        """Return the marker of the last adoption of the product."""
        return self.state(product) / "adopted.json"

    def listing_record(self, product: str) -> Path:
        """Return the path of the record of what the local listing holds when it is whole."""
        return self.state(product) / "listing.json"

    @property
    def verification(self) -> Path:
        """Marker of the unfinished verification."""
        return self.root / "state" / "verification.json"

    @property
    def verified(self) -> Path:
        """Marker of the last verification of the whole mirror."""
        return self.root / "state" / "verified.json"

    def product_verified(self, product: str) -> Path:
        """Return the marker of the last verification of the product."""
        return self.state(product) / "verified.json"

    @property
    def comparison(self) -> Path:
        """Marker of the unfinished comparison with upstream."""
        return self.root / "state" / "comparison.json"

    @property
    def compared(self) -> Path:
        """Marker of the last comparison of the whole mirror with upstream."""
        return self.root / "state" / "compared.json"

    def product_compared(self, product: str) -> Path:
        """Return the marker of the last comparison of the product with upstream."""
        return self.state(product) / "compared.json"

    def marker(self, kind: str, product: str, fileset: str) -> Path:
        """Return the path of the fileset's marker of that kind."""
        name = checked_segment(fileset, f"fileset of product {product}")
        return self.state(product) / kind / f"{name}{SUFFIX}"

    def marker_folders(self, product: str) -> list[Path]:
        """Return the folders of markers that the product has, sorted."""
        state = self.state(product)
        return sorted(path for path in state.iterdir() if path.is_dir()) if state.is_dir() else []

    def marker_folder(self, kind: str, product: str) -> Path:
        """Return the folder of the product's markers of that kind."""
        return self.state(product) / kind

    def marked(self, kind: str, product: str) -> set[str]:
        """Return the names of all filesets that have a good marker of that kind."""
        return good_markers(self.marker_folder(kind, product))

    def marked_in_all(self, kinds: Iterable[str], product: str) -> set[str]:
        """Return the names of all filesets that have a good marker of each of these kinds."""
        return good_in_all(self.marker_folder(kind, product) for kind in kinds)

    def names(self, kind: str, product: str) -> set[str]:
        """Return the names of all markers of that kind, good or not: for those who read each of them."""
        return marker_names(self.marker_folder(kind, product))

    def each_name(self, kind: str, product: str) -> Iterator[str]:
        """Yield the names of all markers of that kind as their folder is read, in any order."""
        return each_marker(self.marker_folder(kind, product))

    def count(self, kind: str, product: str) -> int:
        """Return the number of filesets that have a marker of that kind."""
        return count_markers(self.marker_folder(kind, product))

    def marked_among(
        self, kind: str, product: str, filesets: Collection[str], look_up_at_most: int = LOOK_UP_AT_MOST
    ) -> set[str]:
        """Return those of the filesets that have a good marker of that kind."""
        if len(filesets) > look_up_at_most:
            return self.marked(kind, product).intersection(filesets)
        usable = (name for name in filesets if can_name_marker(name))
        return {name for name in usable if read_marker(self.marker(kind, product, name)) is not None}

    def relative(self, path: Path) -> str:
        """Return the path relative to the root, as recorded in markers."""
        return path.relative_to(self.root).as_posix()


def short_digest(text: str) -> str:
    """Return 16 hex digits to use in place of a name that would be too long."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
