"""Downloading a fileset: every file fetched, verified, made durable, and published in one rename."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bundle.unpack import USUAL_RATIO
from pipeline.datastore.client import ranged
from pipeline.datastore.client.transfer import Transfer, file_md5
from pipeline.datastore.listing import FileRow
from pipeline.durable import flush_file, flush_folder, publish_folder
from pipeline.errors import FilesFailed, HostileName, MirrorError, machine_faults
from pipeline.mirror.context import Report, Site, done_here
from pipeline.mirror.resources.disk_space import Promise
from pipeline.mirror.state.layout import INDEX, Layout, MarkerKind, short_digest
from pipeline.mirror.state.markers import Fileset, fresh_marker, mark_done, utc_now
from pipeline.names import checked_segment
from pipeline.units import as_size

# Fewer missing files, that are smaller all together, are fetched one after the other: other filesets use
# the other connections meanwhile.
WORTH_THREADS_FILES = 10
WORTH_THREADS_BYTES = 1 << 20
RANGES = ranged.RangePolicy()
_REPORT_SECONDS = 1.0
# The unit of ``st_blocks``.
_BLOCK_BYTES = 512


@dataclass
class Download:
    """One fileset on its way into the store. ``report`` takes a message and a share from 0 to 1."""

    site: Site
    fileset: Fileset
    report: Report
    started: str = field(default_factory=utc_now)

    def run(self) -> None:
        """Leave the fileset whole in ``store/``, and marked.

        What is here already, in ``incoming/`` from a run before or in ``store/``, is taken over after
        checking its md5. Raises FilesFailed when some files could not be had (the others stay in
        ``incoming/`` for the next run), or another MirrorError for the fileset as a whole.
        """
        checked_segment(self.fileset.name, f"fileset of product {self.fileset.product}")
        with machine_faults(f"making room for fileset {self.fileset}"):
            _check_marker_name(self.site.layout, self.fileset)
        index, rows = self.site.store.files(self.fileset.product, self.fileset.name)
        for row in rows:
            _check_name(row, self.fileset)
        if not self._is_published(index, rows):
            self._get(self._take_over(rows), rows)
            self._publish(index, rows)
        self._mark(rows)

    def _get(self, missing: list[FileRow], rows: list[FileRow]) -> None:
        """Have the missing ones among the rows in ``incoming/``, each verified."""
        # With room for what it unpacks to: nothing is to be fetched in vain. Extraction reserves its own.
        needed, what = self._bytes_to_write(missing), f"fileset {self.fileset}"
        with self.site.space.reserved(needed, what) as room:
            self._fetch(missing, rows, room)

    @property
    def _folder(self) -> Path:
        return self.site.layout.incoming(self.fileset.product, self.fileset.name)

    @property
    def _final(self) -> Path:
        return self.site.layout.store(self.fileset.product, self.fileset.name)

    def _is_published(self, index: bytes, rows: list[FileRow]) -> bool:
        """Whether a run before published just this, and only the marker is missing."""
        try:
            return (self._final / INDEX).read_bytes() == index and all(
                _holds(self._final / row.name, row) for row in rows
            )
        except FileNotFoundError:
            return False

    def _take_over(self, rows: list[FileRow]) -> list[FileRow]:
        """The rows whose files are not here yet; ``incoming/`` then holds the other files and no more."""
        files = self._folder / "files"
        files.mkdir(parents=True, exist_ok=True)
        (self._folder / "partial").mkdir(exist_ok=True)
        listed = {row.name for row in rows}
        for path in files.iterdir():
            if path.name not in listed:
                path.unlink()
        return [row for row in rows if not self._have(row)]

    def _have(self, row: FileRow) -> bool:
        """Whether the row's file is in ``incoming/`` now; a copy in ``store/`` is linked there."""
        path = self._folder / "files" / row.name
        if path.exists() and row.md5 and _holds(path, row):
            return True
        path.unlink(missing_ok=True)
        published = self._final / row.name
        if published.exists() and row.md5 and _holds(published, row):
            os.link(published, path)
            return True
        return False

    def _bytes_to_write(self, missing: list[FileRow]) -> int:
        """The rest of the missing files, and an estimate of what the bundles among them unpack to."""
        bundles = sum(row.bytes for row in missing if row.is_bundle)
        unpacked = bundles * USUAL_RATIO if self.site.settings.mirror.unpack else 0
        return sum(row.bytes - self._bytes_here(row) for row in missing) + unpacked

    def _bytes_here(self, row: FileRow) -> int:
        """What the row's partial file takes on the disk, whether it is resumed or begun again."""
        try:
            return min(row.bytes, self._partial(row).stat().st_blocks * _BLOCK_BYTES)
        except FileNotFoundError:
            return 0

    def _partial(self, row: FileRow) -> Path:
        return self._folder / "partial" / f"{short_digest(row.name)}.part"

    def _fetch(self, missing: list[FileRow], rows: list[FileRow], room: Promise) -> None:
        total = sum(row.bytes for row in rows)
        here = total - sum(row.bytes for row in missing)
        progress = _Progress(self.report, len(rows), total, len(rows) - len(missing), here)
        transfers = _Transfers(self.site, lambda row: self._fetch_one(row, progress, room), progress)
        few = len(missing) < WORTH_THREADS_FILES and total - here < WORTH_THREADS_BYTES
        reasons = transfers.run_in_turn(missing) if few else transfers.run(missing)
        if reasons:
            raise FilesFailed({row.name: reasons[row.name] for row in missing if row.name in reasons})

    def _fetch_one(self, row: FileRow, progress: "_Progress", room: Promise) -> None:
        def received(count: int) -> None:
            self.site.rate.take(count, self.site.shares.fraction)
            room.written(count)
            progress.bytes += count
            self.site.tally.count(received=count)

        part = self._partial(row)
        url = self.site.store.file_url(self.fileset.product, self.fileset.name, row.name)
        with machine_faults(f"fetching {url}", needed=row.bytes):
            store = self.site.store
            transfer = Transfer(store, store.retry_policy, url, row, part, received)
            if RANGES.applies_to(row):
                self._fetch_large(transfer)
            else:
                transfer.fetch()
            os.rename(part, self._folder / "files" / row.name)

    def _fetch_large(self, transfer: Transfer) -> None:
        """Fetch a file in ranges over all idle connections, unless other processes may want those."""
        with self.site.shares.all_lent(transfer.partial) as alone:
            if alone:
                ranged.fetch(transfer, self.site.fetch_pool, RANGES)
                return
        transfer.fetch()

    def _publish(self, index: bytes, rows: list[FileRow]) -> None:
        files = self._folder / "files"
        (files / INDEX).write_bytes(index)
        for name in [INDEX, *(row.name for row in rows)]:
            flush_file(files / name)
        flush_folder(files)
        publish_folder(files, self._final)
        # An unpacking that was killed has its journal there: the next one needs it.
        shutil.rmtree(self._folder / "partial", ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _mark(self, rows: list[FileRow]) -> None:
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
        url = f"{self.site.store.url}/{self.fileset.product}/{self.fileset.name}"
        content = {"source": url, "files": files}
        mark_done(self.site.layout, MarkerKind.DOWNLOADED, self.fileset, self.started, content)


@dataclass
class _Progress:
    """What a person reads while the files come in. ``bytes`` is exact enough for that without a lock."""

    report: Report
    count: int
    total: int
    files: int
    bytes: int

    def __post_init__(self) -> None:
        self._told = time.monotonic()
        self._bytes_told = self.bytes

    def tell(self) -> None:
        """Report, at most once in a while."""
        passed = time.monotonic() - self._told
        if passed < _REPORT_SECONDS:
            return
        rate = (self.bytes - self._bytes_told) / passed
        self._told, self._bytes_told = self._told + passed, self.bytes
        message = f"{self.files} of {self.count} files, {as_size(rate)}/s"
        self.report(message, self.bytes / self.total if self.total else 1.0)


@dataclass(eq=False)
class _Transfers:
    """The transfers of one fileset, as many at once as it may have connections."""

    site: Site
    fetch_one: Callable[[FileRow], None]
    progress: _Progress
    reasons: dict[str, MirrorError] = field(default_factory=dict)
    _running: dict[Future[None], FileRow] = field(default_factory=dict)

    def run(self, rows: list[FileRow]) -> dict[str, MirrorError]:
        """Fetch them all; the errors of those that failed, by file name."""
        waiting = list(reversed(rows))
        try:
            while waiting or self._running:
                self._balance(waiting)
                done, _ = wait(self._running, timeout=_REPORT_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    self._end(future, self._running.pop(future))
                self.progress.tell()
        finally:
            wait(self._running)
            self.site.shares.done(self)
        return self.reasons

    def run_in_turn(self, rows: list[FileRow]) -> dict[str, MirrorError]:
        """Fetch them one after the other, over one connection; the errors by file name."""
        self.site.shares.surplus(self, 1)
        try:
            for row in rows:
                self._end(done_here(self.fetch_one, row), row)
                self.progress.tell()
        finally:
            self.site.shares.done(self)
        return self.reasons

    def _balance(self, waiting: list[FileRow]) -> None:
        """Begin what may be begun, and take back what is not begun and would be more than the share."""
        surplus = self.site.shares.surplus(self, len(self._running) + len(waiting))
        while waiting and len(waiting) > surplus:
            row = waiting.pop()
            self._running[self.site.fetch_pool.submit(self.fetch_one, row)] = row
        for future in list(self._running)[::-1][: surplus - len(waiting)]:
            if future.cancel():
                waiting.append(self._running.pop(future))
        self.site.shares.surplus(self, len(self._running))

    def _end(self, future: Future[None], row: FileRow) -> None:
        error = future.exception()
        if error is None:
            self.progress.files += 1
        elif isinstance(error, MirrorError):
            self.reasons[row.name] = error
        else:
            raise error


def _holds(path: Path, row: FileRow) -> bool:
    """Whether the file is the listed one: its size, and its md5 where one is listed."""
    return path.stat().st_size == row.bytes and (row.md5 is None or file_md5(path) == row.md5)


def is_stored(layout: Layout, fileset: Fileset) -> bool:
    """Whether all that the fileset's marker names is in ``store/``, by a look at the folder."""
    marker = fresh_marker(layout, MarkerKind.DOWNLOADED, fileset) or {"files": []}
    try:
        here = {path.name for path in layout.store(fileset.product, fileset.name).iterdir()}
    except FileNotFoundError:
        return False
    return INDEX in here and here.issuperset(file["name"] for file in marker["files"])


def _check_marker_name(layout: Layout, fileset: Fileset) -> None:
    """Raise OSError at once, rather than after the transfer, where no marker can have that name."""
    path = layout.marker(MarkerKind.DOWNLOADED, fileset.product, fileset.name)
    if len(path.name) > os.pathconf(layout.root, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))


def _check_name(row: FileRow, fileset: Fileset) -> None:
    checked_segment(row.name, f"file of fileset {fileset}")
    if row.name == INDEX:
        raise HostileName(f"file of fileset {fileset}: the name {INDEX!r} is the listing's own")
