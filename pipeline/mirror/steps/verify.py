"""Verification of the files on disk against the listings and the markers, byte by byte.

``store/`` is compared by size and md5 with the marker and the fileset's own index.txt, ``data/`` by
size and CRC-32 with the extraction marker. Files that no marker names are reported, never removed.
"""

import shlex
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.datastore.listing import INDEX, FileRow, FilesetRow
from pipeline.digests import file_crc32, file_md5
from pipeline.durable import remove_files
from pipeline.mirror.context import RunContext
from pipeline.mirror.resources.ownership import is_later, owners_of
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.file_selection import FileSelection
from pipeline.mirror.state.fileset_files import listed_files
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import known_rows
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker, is_within
from pipeline.mirror.state.owner_records import unrecorded
from pipeline.mirror.state.pending import has_bundles_of_one_registration
from pipeline.mirror.state.steps import UNEXPECTED, Problem, Steps, StepSpec
from pipeline.mirror.steps.bundles import bundles_of
from pipeline.names import TEMPORARY_SUFFIX

RESUMED_WITHIN = timedelta(days=7)


def fileset_problems(context: RunContext, fileset: Fileset, rate: RateLimit) -> list[Problem]:
    """Return the problems of the fileset, step by step; reading keeps to ``rate``."""
    return [problem for step in _usable(context) for problem in step.verify(context, fileset, rate)]


def undone_steps(context: RunContext, fileset: Fileset, found: list[Problem]) -> list[Problem]:
    """Return a problem for each required step that a repair did not do, without those ``found`` already."""
    layout, problems = context.layout, []
    named = {problem.marker for problem in found}
    for step in context.included_steps.required:
        if step.marker not in named and fresh_marker(layout, step.marker, fileset) is None:
            path = layout.marker(step.marker, fileset.product, fileset.name)
            problems.append(Problem(layout.relative(path), "missing, as the repair failed", step.marker))
    return problems


def verify_stored(context: RunContext, fileset: Fileset, rate: RateLimit) -> Iterator[Problem]:
    """Yield the problems of a fileset's files in ``store/``."""
    layout, kind = context.layout, MarkerKind.DOWNLOADED
    folder = layout.store(fileset.product, fileset.name)
    marker = fresh_marker(layout, kind, fileset)
    if marker is None:
        path = layout.marker(kind, fileset.product, fileset.name)
        if path.exists() or folder.exists() or _has_been_unpacked(layout, fileset):
            what = "the marker is missing, damaged or of another registration"
            yield Problem(layout.relative(path), what, kind)
        return
    listed = listed_files(layout, fileset.product, fileset.name)
    rows = _chosen(layout, fileset, listed or [], marker)
    if listed is None or [_summary(row) for row in rows] != [_marked(file) for file in marker["files"]]:
        what = "expected the listing that the marker was made from"
        yield Problem(layout.relative(folder / INDEX), what, kind)
        return
    compare = _Comparison(layout, rate, "md5", file_md5, kind)
    deleted = (
        set() if context.settings.mirror.keep_bundles else {row.name for row in bundles_of(fileset, rows)}
    )
    for row in rows:
        path = folder / row.name
        if row.name not in deleted or path.exists():
            yield from compare.file(path, row.bytes, row.md5)
    expected = {INDEX, *(row.name for row in listed)}
    for path in sorted(folder.iterdir()):
        if path.name not in expected:
            yield Problem(layout.relative(path), f"{UNEXPECTED}its fileset does not list it", None)


def verify_unpacked(context: RunContext, fileset: Fileset, rate: RateLimit) -> Iterator[Problem]:
    """Yield the problems of the files that a fileset unpacked into ``data/`` and still owns.

    A fileset that is missing in an owner record is a problem too, and one whose unpacking was set aside.
    """
    layout, kind = context.layout, MarkerKind.EXTRACTED
    path = layout.marker(kind, fileset.product, fileset.name)
    marker = fresh_marker(layout, kind, fileset)
    if marker is None:
        if path.exists():
            what = "the marker is damaged or of another registration"
            yield Problem(layout.relative(path), what, kind)
        elif context.settings.mirror.unpack and fresh_marker(layout, MarkerKind.SUPERSEDED, fileset):
            what = f"missing, as the fileset is to be unpacked again{_who_unpacks_again(layout, fileset)}"
            yield Problem(layout.relative(path), what, kind)
        return
    for folder in unrecorded(layout, fileset, [file["path"] for file in marker["files"]]):
        what = f"expected it to name fileset {fileset}, which unpacked into {folder}"
        yield Problem(layout.relative(layout.owner_record(folder)), what, kind)
    compare = _Comparison(layout, rate, "CRC-32", file_crc32, kind)
    problems = [
        problem
        for file in marker["files"]
        if file["path"] not in marker.get("yields_to", {})
        for problem in compare.file(layout.root / file["path"], file["bytes"], file["crc32"])
    ]
    if problems:
        owners = owners_of(layout, {problem.path for problem in problems}, {fileset})
        for problem in problems:
            owner = owners.get(problem.path)
            if owner is None or not is_later(owner, fileset):
                yield problem


def _who_unpacks_again(layout: Layout, fileset: Fileset) -> str:
    """Return what follows for a fileset whose extraction was set aside: mostly an update does it again."""
    names = (fileset.product, fileset.name)
    if layout.marker(MarkerKind.SKIPPED, *names).exists():
        return f"; an update does that after `ipp-mirror unskip {shlex.join(names)}`"
    withdrawn = layout.marker(MarkerKind.WITHDRAWN, *names).exists()
    if withdrawn and not has_bundles_of_one_registration(layout, *names):
        store = layout.relative(layout.store(*names))
        return (
            ", and no update can do that: it is withdrawn upstream, and its bundles are not here. An update "
            f"unpacks it once they are in {store} again, from a copy; until then what it had unpacked stays, "
            "as it is"
        )
    return "; an update does that"


@dataclass(frozen=True)
class _Comparison:
    """Comparison of files by digests of that ``name`` with their marker; ``marker`` is its kind."""

    layout: Layout
    rate: RateLimit
    name: str
    digest_of: Callable[[Path], str]
    marker: str

    def file(self, path: Path, size: int, digest: str | None) -> Iterator[Problem]:
        """Yield the problem of one file, if there is one; without a ``digest`` only the size is compared."""
        what = self._difference(path, size, digest)
        if what is not None:
            yield Problem(self.layout.relative(path), what, self.marker)

    def _difference(self, path: Path, size: int, digest: str | None) -> str | None:
        try:
            held = path.stat().st_size
            if held != size:
                return f"damaged: expected {size} bytes, it has {held}"
            self.rate.take(held)
            found = self.digest_of(path) if digest else digest
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"unreadable: {error.strerror}"
        return None if found == digest else f"damaged: expected {self.name} {digest}, it has {found}"


def unexpected_markers(layout: Layout, product: str, rows: list[FilesetRow], steps: Steps) -> list[Problem]:
    """Return the markers of steps for filesets that the product's listing lacks."""
    known = {row.name for row in rows}
    marked = [
        layout.marker(step.marker, product, name)
        for step in steps
        for name in layout.marked(step.marker, product) - known
    ]
    return [_unlisted(layout, path) for path in sorted(marked)]


def unexpected_files(context: RunContext) -> list[Problem]:
    """Return what the steps have made and belongs to no fileset."""
    return [problem for step in _usable(context) for problem in step.unexpected(context)]


def _usable(context: RunContext) -> list[StepSpec]:
    """Return the steps of the workflow but for those of which this run lacks what they need."""
    return [step for step in context.steps if step.name not in context.left_out]


def unexpected_stored(context: RunContext) -> Iterator[Problem]:
    """Yield what lies in ``store/`` and belongs to no product, or to no fileset of its product's listing."""
    layout = context.layout
    yield from _of_no_product(context)
    for product in layout.state_products():
        known = {row.name for row in known_rows(layout, product)}
        stored = _inside(layout.store_of(product), known)
        yield from (_unlisted(layout, path) for path in stored if path.name not in known)


def _of_no_product(context: RunContext) -> Iterator[Problem]:
    """Yield what lies in ``store/`` itself, but for folders of products that are known or to be mirrored."""
    layout, named = context.layout, context.settings.mirror.products or []
    known = {*layout.state_products(), *layout.products_on_volumes(), *(product.name for product in named)}
    for path in _inside(layout.store_root, known):
        if path.name not in known or not (path.is_symlink() or path.is_dir()):
            what = "no product of the mirror has this name" if path.name not in known else "it is no folder"
            yield Problem(layout.relative(path), f"{UNEXPECTED}{what}", None)


def _inside(folder: Path, known: set[str]) -> list[Path]:
    """Return what a folder holds, without what may belong to its file system: nobody can delete that."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.name in known or not _is_of_file_system(path.name)]


def _is_of_file_system(name: str) -> bool:
    return name == "lost+found" or name.startswith(".")


def _unlisted(layout: Layout, path: Path) -> Problem:
    return Problem(layout.relative(path), f"{UNEXPECTED}the product's listing does not name it", None)


def unexpected_data(context: RunContext) -> Iterator[Problem]:
    """Yield the files in DATA of all products that no extraction marker names.

    Holds a digest of each path in memory.
    """
    layout = context.layout
    known: set[int] = set()
    for product in layout.state_products():
        for kind in (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED):
            for name in layout.names(kind, product):
                marker = read_marker(layout.marker(kind, product, name)) or {}
                known.update(hash(file["path"]) for file in marker.get("files", []))
    for data in layout.data_folders():
        for path in sorted(data.rglob("*")):
            if path.is_file() and hash(relative := layout.relative(path)) not in known:
                yield Problem(relative, _stray(path), None)


def filesets_here(layout: Layout, product: str, rows: list[FilesetRow], steps: Steps) -> list[FilesetRow]:
    """Return the rows of the filesets with a folder in ``store/`` or a marker of a step."""
    here = set().union(*(layout.marked(step.marker, product) for step in steps))
    folder = layout.store_of(product)
    if folder.is_dir():
        here |= {path.name for path in folder.iterdir()}
    return [row for row in rows if row.name in here]


def make_pending(layout: Layout, steps: Steps, fileset: Fileset, markers: Collection[str]) -> None:
    """Make the steps with these markers pending; valid files on disk are reused.

    A sound marker of an extraction is set aside: it says which members were unpacked, whatever the settings
    choose now.
    """
    for step in reversed([each for each in steps if each.marker in markers]):
        if fresh_marker(layout, step.marker, fileset):
            step.set_aside(layout, step, fileset)
        else:
            remove_files([layout.marker(step.marker, fileset.product, fileset.name)])


def start_verification(unfinished: Path, now: str) -> str:
    """Return the name of the verification to resume if one was started within 7 days, else ``now``.

    ``unfinished`` is the marker of the verification.
    """
    started: str = (read_marker(unfinished) or {}).get("run", "")
    if is_within(started, RESUMED_WITHIN):
        return started
    write_marker(unfinished, {"run": now})
    return now


def end_verification(unfinished: Path) -> None:
    """Make the next verification a new one."""
    remove_files([unfinished])


def _chosen(layout: Layout, fileset: Fileset, listed: list[FileRow], marker: dict[str, Any]) -> list[FileRow]:
    """Return the listed files that the marker has to name: those that it names, and the others chosen."""
    selection = FileSelection.recorded(fresh_marker(layout, MarkerKind.PARTIAL, fileset))
    named = {file["name"] for file in marker["files"]}
    return [row for row in listed if row.name in named or selection.chooses(row)]


def _has_been_unpacked(layout: Layout, fileset: Fileset) -> bool:
    kinds = (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED)
    return any(layout.marker(kind, fileset.product, fileset.name).exists() for kind in kinds)


def _stray(path: Path) -> str:
    if path.name.endswith(TEMPORARY_SUFFIX):
        return "left over from an unpacking that was killed"
    return f"{UNEXPECTED}no fileset unpacked it"


def _summary(row: FileRow) -> tuple[str, int, str | None]:
    return row.name, row.bytes, row.md5


def _marked(file: dict[str, Any]) -> tuple[str, int, str | None]:
    return file["name"], file["bytes"], file["md5"]
