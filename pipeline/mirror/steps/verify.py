"""Verifying: what is on disk against the listings and the markers, byte by byte.

``store/`` is compared by size and md5 with the marker and the fileset's own index.txt, ``data/`` by
size and CRC-32 with the extraction marker. What nobody knows of is reported, never removed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.bundle.unpack import TEMPORARY_SUFFIX, file_crc32
from pipeline.datastore.client.transfer import file_md5
from pipeline.datastore.listing import FileRow, FilesetRow, read_files
from pipeline.durable import remove_files
from pipeline.errors import MirrorError
from pipeline.mirror.resources.ownership import is_later, owners_of
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.layout import INDEX, Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker

RESUMED_WITHIN = timedelta(days=7)


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be. ``step`` is what has to be done again to mend it."""

    path: str
    what: str
    step: MarkerKind | None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Verification:
    """One fileset that is being verified; reading keeps to ``rate``."""

    layout: Layout
    fileset: Fileset
    rate: RateLimit
    bundles_kept: bool

    def problems(self) -> list[Problem]:
        """All that is wrong with the fileset, in ``store/`` first."""
        return [*self._stored(), *self._unpacked()]

    def _stored(self) -> Iterator[Problem]:
        folder = self.layout.store(self.fileset.product, self.fileset.name)
        marker = fresh_marker(self.layout, MarkerKind.DOWNLOADED, self.fileset)
        if marker is None:
            path = self.layout.marker(MarkerKind.DOWNLOADED, self.fileset.product, self.fileset.name)
            if path.exists() or folder.exists():
                yield self._problem(path, "the marker is missing, damaged or of another registration")
            return
        rows = self._listed(folder / INDEX)
        if rows is None or [_summary(row) for row in rows] != [_marked(file) for file in marker["files"]]:
            yield self._problem(folder / INDEX, "expected the listing that the marker was made from")
            return
        for row in rows:
            if self.bundles_kept or not row.is_bundle or (folder / row.name).exists():
                yield from self._compared(
                    folder / row.name, row.bytes, row.md5, file_md5, MarkerKind.DOWNLOADED
                )
        expected = {INDEX, *(row.name for row in rows)}
        for path in sorted(folder.iterdir()):
            if path.name not in expected:
                yield Problem(self.layout.relative(path), "unexpected: its fileset does not list it", None)

    def _unpacked(self) -> Iterator[Problem]:
        path = self.layout.marker(MarkerKind.EXTRACTED, self.fileset.product, self.fileset.name)
        marker = fresh_marker(self.layout, MarkerKind.EXTRACTED, self.fileset)
        if marker is None:
            if path.exists():
                yield self._problem(
                    path, "the marker is damaged or of another registration", MarkerKind.EXTRACTED
                )
            return
        problems = [
            problem
            for file in marker["files"]
            if file["path"] not in marker.get("yields_to", {})
            for problem in self._compared(
                self.layout.root / file["path"],
                file["bytes"],
                file["crc32"],
                file_crc32,
                MarkerKind.EXTRACTED,
            )
        ]
        if not problems:
            return
        owners = owners_of(self.layout, {problem.path for problem in problems}, {self.fileset})
        for problem in problems:
            owner = owners.get(problem.path)
            if owner is None or not is_later(owner, self.fileset):
                yield problem

    def _listed(self, index: Path) -> list[FileRow] | None:
        try:
            return read_files(index.read_bytes(), str(index))
        except (OSError, MirrorError):
            return None

    def _compared(
        self, path: Path, size: int, digest: str | None, digest_of: Callable[[Path], str], step: MarkerKind
    ) -> Iterator[Problem]:
        try:
            here = path.stat().st_size
            self.rate.take(here)
            found = digest_of(path) if here == size and digest else digest
        except FileNotFoundError:
            yield self._problem(path, "missing", step)
        except OSError as error:
            yield self._problem(path, f"unreadable: {error.strerror}", step)
        else:
            if here != size:
                yield self._problem(path, f"damaged: expected {size} bytes, it has {here}", step)
            elif found != digest:
                yield self._problem(path, f"damaged: expected digest {digest}, it has {found}", step)

    def _problem(self, path: Path, what: str, step: MarkerKind = MarkerKind.DOWNLOADED) -> Problem:
        return Problem(self.layout.relative(path), what, step)


def unexpected_filesets(layout: Layout, product: str, rows: list[FilesetRow]) -> list[Problem]:
    """What lies in ``store/`` and among the markers for filesets that the product's listing lacks."""
    known = {row.name for row in rows}
    folder = layout.root / "store" / product
    stored = [path for path in folder.iterdir() if path.name not in known] if folder.is_dir() else []
    marked = [
        layout.marker(step, product, name)
        for step in (MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED)
        for name in layout.marked(step, product) - known
    ]
    return [
        Problem(layout.relative(path), "unexpected: the product's listing does not name it", None)
        for path in sorted(stored) + sorted(marked)
    ]


def unexpected_data(layout: Layout) -> list[Problem]:
    """The files in ``data/`` that no extraction marker names. Holds a digest of each path in memory."""
    known = set()
    for product in layout.state_products():
        for step in (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED):
            for name in layout.marked(step, product):
                marker = read_marker(layout.marker(step, product, name)) or {}
                known.update(hash(file["path"]) for file in marker.get("files", []))
    return [
        Problem(relative, _unknown(path), None)
        for path in sorted(layout.data.rglob("*"))
        if path.is_file() and hash(relative := layout.relative(path)) not in known
    ]


def filesets_here(layout: Layout, product: str, rows: list[FilesetRow]) -> list[FilesetRow]:
    """The rows of which anything is in ``store/`` or marked as done."""
    here = layout.marked(MarkerKind.DOWNLOADED, product) | layout.marked(MarkerKind.EXTRACTED, product)
    folder = layout.root / "store" / product
    if folder.is_dir():
        here |= {path.name for path in folder.iterdir()}
    return [row for row in rows if row.name in here]


def make_pending(layout: Layout, fileset: Fileset, steps: set[MarkerKind]) -> None:
    """Remove the markers of the steps that have to be done again; what is good on disk is taken over."""
    remove_files(layout.marker(step, fileset.product, fileset.name) for step in steps)


def begin_verification(layout: Layout, now: str) -> str:
    """The name of the verification to go on with: one that was stopped lately, else a new one."""
    begun = (read_marker(layout.verification) or {}).get("run", "")
    oldest = (datetime.now(UTC) - RESUMED_WITHIN).isoformat()
    if begun > oldest:
        return begun
    write_marker(layout.verification, {"run": now})
    return now


def end_verification(layout: Layout) -> None:
    """The next verification is a new one."""
    remove_files([layout.verification])


def _unknown(path: Path) -> str:
    if path.name.endswith(TEMPORARY_SUFFIX):
        return "left over from an unpacking that was killed"
    return "unexpected: no fileset unpacked it"


def _summary(row: FileRow) -> tuple[str, int, str | None]:
    return row.name, row.bytes, row.md5


def _marked(file: dict[str, Any]) -> tuple[str, int, str | None]:
    return file["name"], file["bytes"], file["md5"]
