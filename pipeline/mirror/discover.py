"""Discovery: what the server has registered since it was last asked.

The listing here holds every row ever seen, in the server's order. The server is asked what came
after the last fileset but one, so that its answer begins with the last one: when it does not, that
one was withdrawn or registered again, and the whole list is asked for.
"""

from dataclasses import dataclass

from pipeline.datastore.client import DataStore, UnknownFileset
from pipeline.datastore.listing import FilesetRow, read_filesets, write_filesets
from pipeline.durable import remove_files, write_whole
from pipeline.errors import ServerUnavailable
from pipeline.mirror.layout import Layout, Step
from pipeline.mirror.marker_file import SUFFIX, write_marker
from pipeline.mirror.markers import Fileset, fresh_marker, utc_now
from pipeline.names import is_usable


@dataclass(frozen=True)
class Merged:
    """A product's listing after an answer of the server.

    ``new`` are the rows not seen before, first registered or registered again; ``withdrawn`` the names
    that a whole list lacks (None when only newer rows were asked for).
    """

    rows: list[FilesetRow]
    new: list[FilesetRow]
    withdrawn: set[str] | None = None


def discover_product(layout: Layout, store: DataStore, product: str, run: str, *, whole: bool) -> int:
    """Bring the product's listing up to date; the number of rows that are new.

    With ``whole`` the whole list is asked for, which alone shows all that was withdrawn.
    Raises ServerUnavailable when the server could not be asked; then nothing here has changed.
    """
    known = known_rows(layout, product)
    if whole:
        merged = merge_whole(known, store.filesets(product))
    else:
        merged = _ask(store, product, known, layout.marked(Step.WITHDRAWN, product))
    _set_aside_stale_markers(layout, product, merged.new)
    if merged.new or not layout.listing(product).exists():
        write_whole(layout.listing(product), write_filesets(merged.rows))
    if merged.withdrawn is not None:
        _mark_withdrawn(layout, product, merged.withdrawn)
    write_marker(
        layout.discovered(product),
        {"product": product, "run": run, "asked": utc_now(), "url": store.url, "new": len(merged.new)},
    )
    return len(merged.new)


def known_rows(layout: Layout, product: str) -> list[FilesetRow]:
    """Every row of the product seen so far; none when the listing here is absent or damaged."""
    path = layout.listing(product)
    try:
        return read_filesets(path.read_bytes(), str(path))
    except (FileNotFoundError, ServerUnavailable):
        return []


def merge_newer(known: list[FilesetRow], newer: list[FilesetRow]) -> Merged:
    """The listing with the rows that the server registered since; a row registered again moves to the end."""
    recorded = {row.name: row for row in known}
    new = [row for row in newer if not _same(recorded.get(row.name), row)]
    moved = {row.name for row in new}
    return Merged([row for row in known if row.name not in moved] + new, new)


def merge_whole(known: list[FilesetRow], listed: list[FilesetRow]) -> Merged:
    """The server's whole list, with the rows that it withdrew kept behind the row they came after."""
    now = {row.name: row for row in listed}
    withdrawn_after: dict[str | None, list[FilesetRow]] = {}
    anchor = None
    for row in known:
        if row.name not in now:
            if not is_usable(row.name + SUFFIX):
                continue  # it can have no marker, so it was never here
            withdrawn_after.setdefault(anchor, []).append(row)
        elif _same(now[row.name], row):
            anchor = row.name
    rows = list(withdrawn_after.get(None, []))
    for row in listed:
        rows.append(row)
        rows.extend(withdrawn_after.get(row.name, []))
    recorded = {row.name: row for row in known}
    new = [row for row in listed if not _same(recorded.get(row.name), row)]
    return Merged(rows, new, {row.name for row in known} - now.keys())


def _ask(store: DataStore, product: str, known: list[FilesetRow], withdrawn: set[str]) -> Merged:
    served = [row for row in known[-2 - len(withdrawn) :] if row.name not in withdrawn][-2:]
    if len(served) == 2:
        since, newest = served
        try:
            newer = store.filesets(product, since=since.name)
        except UnknownFileset:
            newer = []
        if newer and _same(newer[0], newest):
            return merge_newer(known, newer)
    return merge_whole(known, store.filesets(product))


def _same(one: FilesetRow | None, other: FilesetRow) -> bool:
    """Whether both rows are one registration."""
    return one is not None and (one.name, one.registered) == (other.name, other.registered)


def _set_aside_stale_markers(layout: Layout, product: str, new: list[FilesetRow]) -> None:
    """Make filesets that were registered again pending; what they unpacked stays known until replaced."""
    extracted, downloaded = (layout.marked(step, product) for step in (Step.EXTRACTED, Step.DOWNLOADED))
    noted = layout.marked(Step.FAILED, product) | layout.marked(Step.SKIPPED, product)
    for row in new:
        if row.name in extracted and not fresh_marker(layout, Step.EXTRACTED, Fileset.of(product, row)):
            old = layout.marker(Step.EXTRACTED, product, row.name)
            write_whole(layout.marker(Step.SUPERSEDED, product, row.name), old.read_bytes())
            remove_files([old])
        for step, names in ((Step.DOWNLOADED, downloaded), (Step.FAILED, noted), (Step.SKIPPED, noted)):
            if row.name in names and not fresh_marker(layout, step, Fileset.of(product, row)):
                remove_files([layout.marker(step, product, row.name)])


def _mark_withdrawn(layout: Layout, product: str, withdrawn: set[str]) -> None:
    marked = layout.marked(Step.WITHDRAWN, product)
    withdrawn = {name for name in withdrawn if is_usable(name + SUFFIX)}
    for name in sorted(withdrawn - marked):
        write_marker(
            layout.marker(Step.WITHDRAWN, product, name),
            {"product": product, "fileset": name, "noticed": utc_now()},
        )
    remove_files(layout.marker(Step.WITHDRAWN, product, name) for name in marked - withdrawn)
