"""Download of a fileset: every file fetched, verified, made durable, and published in one rename."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bundle.unpack import USUAL_RATIO
from pipeline.datastore.client import ListingClient, Transfer, ranged
from pipeline.datastore.listing import INDEX, FileRow
from pipeline.digests import file_md5
from pipeline.durable import flush_file, flush_folder, publish_folder
from pipeline.errors import FilesFailed, HostileName, machine_faults
from pipeline.mirror.context import Report, RunContext
from pipeline.mirror.resources.disk_space import Reservation
from pipeline.mirror.state.file_selection import FileSelection, chosen_rows, record_left_out
from pipeline.mirror.state.layout import Layout, MarkerKind, short_digest
from pipeline.mirror.state.markers import Fileset, fresh_marker, mark_done, utc_now
from pipeline.mirror.state.steps import StepSpec
from pipeline.mirror.steps.fileset_transfer import TransferProgress, Transfers
from pipeline.mirror.steps.verify import unexpected_stored, verify_stored
from pipeline.names import checked_segment

# Fewer missing files, smaller all together, are fetched one after the other, while other filesets use the
# other connections.
PARALLEL_FROM_FILES = 10
PARALLEL_FROM_BYTES = 1 << 20
# The unit of ``st_blocks``.
_BLOCK_BYTES = 512
# Puts the verified file of a row at a path, and returns True if there is one.
Take = Callable[[FileRow, Path], bool]


def _take_none(_row: FileRow, _path: Path) -> bool:
    return False


def download_fileset(context: RunContext, fileset: Fileset, report: Report, take: Take = _take_none) -> None:
    """Download one fileset into ``store/`` and write its marker.

    Files in ``incoming/`` from an earlier run, or in ``store/``, are reused after a check of their md5; for
    all others ``take`` is asked before they are fetched.
    Raises FilesFailed when some files could not be fetched (the others stay in ``incoming/`` for the next
    run), or another MirrorError for the fileset as a whole.
    """
    _Download(context, fileset, report, take).run()


@dataclass
class _Download:
    context: RunContext
    fileset: Fileset
    report: Report
    take: Take
    started: str = field(default_factory=utc_now)

    def run(self) -> None:
        checked_segment(self.fileset.name, f"fileset of product {self.fileset.product}")
        with machine_faults(f"freeing disk space for fileset {self.fileset}"):
            _check_marker_name(self.context.layout, self.fileset)
        index, listed = fetch_listing(self.context.upstream, self.fileset)
        rows = self._chosen(listed)
        is_published = self._is_published(index, rows)
        if not is_published:
            self._fetch(self._missing(rows), rows)
            self._prepare(index, rows)
        with self.context.arrivals.entered(self.fileset, index) as arrival:
            if not is_published:
                publish_folder(self._incoming / "files", self._final)
        self._clean_up()
        self._record_left_out(listed, rows)
        self._mark(rows, arrival)

    def _chosen(self, listed: list[FileRow]) -> list[FileRow]:
        return chosen_rows(self.context.layout, self._selection, self.fileset, listed)

    @property
    def _selection(self) -> FileSelection:
        return FileSelection.of(self.context.settings.product(self.fileset.product))

    def _record_left_out(self, listed: list[FileRow], rows: list[FileRow]) -> None:
        """Record which files of the listing are left out, by which patterns; before the marker is written."""
        left = len(listed) - len(rows)
        patterns = self._selection.numbers()
        part = {
            "components": patterns["components"] if left else None,
            "files": patterns["files"] if left else None,
            "left_out": left or None,
            "left_out_bytes": sum(row.bytes for row in listed) - sum(row.bytes for row in rows) or None,
        }
        record_left_out(self.context.layout, self.fileset, part)

    @property
    def _incoming(self) -> Path:
        return self.context.layout.incoming(self.fileset.product, self.fileset.name)

    @property
    def _final(self) -> Path:
        return self.context.layout.store(self.fileset.product, self.fileset.name)

    def _is_published(self, index: bytes, rows: list[FileRow]) -> bool:
        """Return True if an earlier run published just these files, and only the marker is missing."""
        try:
            return (self._final / INDEX).read_bytes() == index and all(
                _matches(self._final / row.name, row) for row in rows
            )
        except FileNotFoundError:
            return False

    def _missing(self, rows: list[FileRow]) -> list[FileRow]:
        """Return the rows whose files are to be fetched; ``incoming/`` then holds just the other files."""
        files = self._incoming / "files"
        files.mkdir(parents=True, exist_ok=True)
        (self._incoming / "partial").mkdir(exist_ok=True)
        listed = {row.name for row in rows}
        for path in files.iterdir():
            if path.name not in listed:
                path.unlink()
        return [row for row in rows if not self._is_reusable(row)]

    def _is_reusable(self, row: FileRow) -> bool:
        """Return True if the row's file is in ``incoming/``, or could be linked or taken over into it."""
        path = self._incoming / "files" / row.name
        found = reusable_file(self.context.layout, self.fileset, row)
        if found == path:
            return True
        path.unlink(missing_ok=True)
        if found:
            os.link(found, path)
            return True
        return self.take(row, path)

    def _fetch(self, missing: list[FileRow], rows: list[FileRow]) -> None:
        """Fetch the missing ones of all ``rows`` into ``incoming/``, each verified. Raises FilesFailed."""
        total = sum(row.bytes for row in rows)
        here = total - sum(row.bytes for row in missing)
        progress = TransferProgress(self.report, len(rows), total, len(rows) - len(missing), here)
        needed = self._bytes_to_write(missing)
        with self.context.space.reserved(needed, f"fileset {self.fileset}") as reservations:
            transfers = Transfers(
                self.context.fetch_pool,
                self.context.quota,
                lambda row: self._fetch_file(row, progress, reservations[self._incoming]),
                progress,
            )
            if len(missing) < PARALLEL_FROM_FILES and total - here < PARALLEL_FROM_BYTES:
                transfers.run_in_turn(missing)
            else:
                transfers.run(missing)
        if transfers.errors:
            # In the order of the listing.
            errors = {row.name: transfers.errors[row.name] for row in missing if row.name in transfers.errors}
            raise FilesFailed(errors)

    def _bytes_to_write(self, missing: list[FileRow]) -> dict[Path, int]:
        """Return, by folder, the bytes still to be fetched and an estimate of the unpacked bytes.

        So a download is refused when its extraction would not fit.
        """
        bundles = sum(row.bytes for row in missing if row.is_bundle)
        unpacked = bundles * USUAL_RATIO if self.context.settings.mirror.unpack else 0
        fetched = sum(row.bytes - self._bytes_on_disk(row) for row in missing)
        return {self._incoming: fetched, self.context.layout.data_of(self.fileset.product): unpacked}

    def _bytes_on_disk(self, row: FileRow) -> int:
        """Return the bytes that the row's partial file occupies, resumable or not."""
        try:
            return min(row.bytes, self._partial(row).stat().st_blocks * _BLOCK_BYTES)
        except FileNotFoundError:
            return 0

    def _partial(self, row: FileRow) -> Path:
        return self._incoming / "partial" / f"{short_digest(row.name)}.part"

    def _fetch_file(self, row: FileRow, progress: TransferProgress, reservation: Reservation) -> None:
        def received(count: int) -> None:
            self.context.rate.take(count, self.context.quota.fraction)
            reservation.written(count)
            progress.bytes += count
            self.context.counters.count(received=count)
            progress.update()

        part = self._partial(row)
        url = self.context.upstream.file_url(self.fileset.product, self.fileset.name, row.name)
        with machine_faults(f"fetching {url}", needed=row.bytes):
            upstream = self.context.upstream
            transfer = Transfer(upstream, upstream.retry_policy, url, row, part, received)
            if self.context.ranges.applies_to(row):
                self._fetch_large(transfer)
            else:
                transfer.fetch()
            os.rename(part, self._incoming / "files" / row.name)

    def _fetch_large(self, transfer: Transfer) -> None:
        """Fetch a file in ranges over all idle connections, unless other processes may use these."""
        with self.context.quota.all_lent(transfer.partial) as alone:
            if alone:
                ranged.fetch(transfer, self.context.fetch_pool, self.context.ranges)
                return
        transfer.fetch()

    def _prepare(self, index: bytes, rows: list[FileRow]) -> None:
        """Make the fetched files durable, together with their listing."""
        files = self._incoming / "files"
        (files / INDEX).write_bytes(index)
        for name in [INDEX, *(row.name for row in rows)]:
            flush_file(files / name)
        flush_folder(files)

    def _clean_up(self) -> None:
        """Remove what is left of the transfer."""
        # ``incoming/`` itself may have the journal of a killed unpacking, which the next one needs.
        shutil.rmtree(self._incoming / "partial", ignore_errors=True)
        with contextlib.suppress(OSError):
            self._incoming.rmdir()

    def _mark(self, rows: list[FileRow], arrival: str | None) -> None:
        files = [
            {
                "name": row.name,
                "bytes": row.bytes,
                "md5": row.md5,
                "type": row.type,
                "component": row.component,
            }
            for row in rows
        ]
        url = f"{self.context.upstream.url}/{self.fileset.product}/{self.fileset.name}"
        content = {"source": url, "columns": self.fileset.columns, "arrival": arrival, "files": files}
        mark_done(self.context.layout, MarkerKind.DOWNLOADED, self.fileset, self.started, content)


def fetch_listing(listings: ListingClient, fileset: Fileset) -> tuple[bytes, list[FileRow]]:
    """Return the fileset's ``index.txt`` as the server sends it, and its rows, with usable names.

    Raises ServerUnavailable, ContentMismatch or HostileName.
    """
    may_be_empty = not fileset.is_distribution
    index, rows = listings.files(fileset.product, fileset.name, may_be_empty=may_be_empty)
    for row in rows:
        _check_name(row, fileset)
    return index, rows


def reusable_file(layout: Layout, fileset: Fileset, row: FileRow) -> Path | None:
    """Return the file with the row's size and md5 in ``incoming/`` or ``store/``, which is not fetched again.

    The md5 of the file is computed. None where there is no such file, or the server publishes no md5.
    """
    names = (fileset.product, fileset.name)
    for path in (layout.incoming(*names) / "files" / row.name, layout.store(*names) / row.name):
        if row.md5 and path.exists() and _matches(path, row):
            return path
    return None


def is_stored(layout: Layout, fileset: Fileset) -> bool:
    """Return True if ``store/`` has a file of each name in the fileset's marker."""
    marker = fresh_marker(layout, MarkerKind.DOWNLOADED, fileset) or {"files": []}
    try:
        here = {path.name for path in layout.store(fileset.product, fileset.name).iterdir()}
    except FileNotFoundError:
        return False
    return INDEX in here and here.issuperset(file["name"] for file in marker["files"])


def remove_stored(context: RunContext, fileset: Fileset) -> None:
    """Remove the files of the fileset from ``store/`` and ``incoming/``."""
    layout, names = context.layout, (fileset.product, fileset.name)
    for folder in (layout.store(*names), layout.incoming(*names)):
        if folder.exists():
            shutil.rmtree(folder)


def _matches(path: Path, row: FileRow) -> bool:
    """Return True if the file has the listed size, and the listed md5 unless that is None."""
    return path.stat().st_size == row.bytes and (row.md5 is None or file_md5(path) == row.md5)


def _check_marker_name(layout: Layout, fileset: Fileset) -> None:
    """Raise OSError for a name too long for a marker: before the transfer, rather than after it."""
    path = layout.marker(MarkerKind.DOWNLOADED, fileset.product, fileset.name)
    if len(path.name) > os.pathconf(layout.lock_file.parent, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))


def _check_name(row: FileRow, fileset: Fileset) -> None:
    checked_segment(row.name, f"file of fileset {fileset}")
    if row.name == INDEX:
        raise HostileName(f"file of fileset {fileset}: the name {INDEX!r} is the listing's own")


DOWNLOAD = StepSpec(
    name="download",
    marker=MarkerKind.DOWNLOADED,
    do=download_fileset,
    retract=remove_stored,
    verify=verify_stored,
    unexpected=unexpected_stored,
    is_ready=is_stored,
)
