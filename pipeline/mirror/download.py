"""Downloading a fileset: every file fetched, verified, made durable, and published in one rename."""

import contextlib
import errno
import os
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bundle.unpack import USUAL_RATIO
from pipeline.datastore import split
from pipeline.datastore.listing import FileRow
from pipeline.datastore.transfer import Transfer, file_md5
from pipeline.durable import flush_file, flush_folder, publish_folder
from pipeline.errors import FilesFailed, HostileName, MirrorError, machine_faults
from pipeline.mirror.layout import INDEX, Layout, Step, short_digest
from pipeline.mirror.markers import Fileset, fresh_marker, mark_done, utc_now
from pipeline.mirror.site import Report, Site, done_here
from pipeline.mirror.space import Promise
from pipeline.mirror.status import as_size
from pipeline.names import checked_segment

# Missing files that are smaller all together are fetched one after the other: other filesets use the
# other connections meanwhile.
WORTH_THREADS_BYTES = 1 << 20
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
            missing = self._take_over(rows)
            # With room for what it unpacks to: nothing is to be fetched in vain. Extraction reserves its own.
            with self.site.space.reserved(self._bytes_to_write(missing), f"fileset {self.fileset}") as room:
                self._fetch(missing, rows, room)
            self._publish(index, rows)
        self._mark(rows)

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
        small = sum(row.bytes for row in missing) < WORTH_THREADS_BYTES
        submit = done_here if small else self.site.connections.submit
        running = {submit(self._fetch_one, row, progress, room): row for row in missing}
        reasons = _reasons(running, progress)
        if reasons:
            raise FilesFailed({row.name: reasons[row.name] for row in missing if row.name in reasons})

    def _fetch_one(self, row: FileRow, progress: "_Progress", room: Promise) -> None:
        def received(count: int) -> None:
            self.site.rate.take(count)
            room.written(count)
            progress.bytes += count
            self.site.tally.count(received=count)

        partial = self._partial(row)
        url = self.site.store.file_url(self.fileset.product, self.fileset.name, row.name)
        with machine_faults(f"fetching {url}", needed=row.bytes):
            split.fetch(Transfer(self.site.store, url, row, partial, received), self.site.connections)
            os.rename(partial, self._folder / "files" / row.name)

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
        mark_done(self.site.layout, Step.DOWNLOADED, self.fileset, self.started, content)


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


def _reasons(running: dict[Future[None], FileRow], progress: _Progress) -> dict[str, MirrorError]:
    """Wait for all transfers; the errors of those that failed, by file name."""
    reasons: dict[str, MirrorError] = {}
    pending = set(running)
    while pending:
        done, pending = wait(pending, timeout=_REPORT_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is None:
                progress.files += 1
            elif isinstance(error, MirrorError):
                reasons[running[future].name] = error
            else:
                wait(pending)
                raise error
        progress.tell()
    return reasons


def _holds(path: Path, row: FileRow) -> bool:
    """Whether the file is the listed one: its size, and its md5 where one is listed."""
    return path.stat().st_size == row.bytes and (row.md5 is None or file_md5(path) == row.md5)


def is_stored(layout: Layout, fileset: Fileset) -> bool:
    """Whether all that the fileset's marker names is in ``store/``, by a look at the folder."""
    marker = fresh_marker(layout, Step.DOWNLOADED, fileset) or {"files": []}
    try:
        here = {path.name for path in layout.store(fileset.product, fileset.name).iterdir()}
    except FileNotFoundError:
        return False
    return INDEX in here and here.issuperset(file["name"] for file in marker["files"])


def _check_marker_name(layout: Layout, fileset: Fileset) -> None:
    """Raise OSError at once, rather than after the transfer, where no marker can have that name."""
    path = layout.marker(Step.DOWNLOADED, fileset.product, fileset.name)
    if len(path.name) > os.pathconf(layout.root, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))


def _check_name(row: FileRow, fileset: Fileset) -> None:
    checked_segment(row.name, f"file of fileset {fileset}")
    if row.name == INDEX:
        raise HostileName(f"file of fileset {fileset}: the name {INDEX!r} is the listing's own")
