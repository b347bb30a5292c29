"""Discovery: what the server has registered since it was last asked.

The listing here holds every row ever seen, in the server's order. The server is asked what came
after the last fileset but one, so that its answer begins with the last one: when it does not, that
one was withdrawn or registered again, and the whole list is asked for.
"""

from pipeline.datastore.client import ListingClient, UnknownFileset
from pipeline.datastore.listing import FilesetRow
from pipeline.durable import remove_files, write_whole
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing, Registration, known_rows
from pipeline.mirror.state.marker_file import SUFFIX, write_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker, utc_now
from pipeline.names import is_usable

# The markers that are of one registration, in the order in which they are set aside when there is another.
_REGISTERED_STEPS = (MarkerKind.EXTRACTED, MarkerKind.DOWNLOADED, MarkerKind.FAILED, MarkerKind.SKIPPED)


def discover_product(layout: Layout, store: ListingClient, product: str, run: str, *, whole: bool) -> int:
    """Bring the product's listing up to date; the number of rows that are new.

    With ``whole`` the whole list is asked for, which alone shows all that was withdrawn.
    Raises ServerUnavailable when the server could not be asked; then nothing here has changed.
    """
    listing = LocalListing(layout, product)
    newer = None
    if listing.mend() and not whole:
        newer = _newer(store, product, listing.newest(2, but=layout.marked(MarkerKind.WITHDRAWN, product)))
    if newer is None:
        new = _take_whole(layout, product, listing, store.filesets(product))
    else:
        new = _take_newer(layout, product, listing, newer)
    write_marker(
        layout.discovered(product),
        {"product": product, "run": run, "asked": utc_now(), "url": store.url, "new": new},
    )
    return new


def _newer(store: ListingClient, product: str, served: list[Registration]) -> list[FilesetRow] | None:
    """The rows after the last one; None when that is not the last one that the server has any more."""
    if len(served) < 2:
        return None
    since, newest = served
    try:
        newer = store.filesets(product, since=since.name)
    except UnknownFileset:
        return None
    return newer[1:] if newer and _same(newest, newer[0]) else None


def _take_newer(layout: Layout, product: str, listing: LocalListing, newer: list[FilesetRow]) -> int:
    """Add what the server registered since, at the end also what was known before; how many rows."""
    if not newer:
        return 0
    names = {row.name for row in newer}
    recorded = {known.name: known for known in listing.registrations() if known.name in names}
    new = [row for row in newer if not _same(recorded.get(row.name), row)]
    _set_aside_stale_markers(layout, product, new)
    if new:
        listing.add(new, moved=recorded.keys() & {row.name for row in new})
    return len(new)


def _take_whole(layout: Layout, product: str, listing: LocalListing, listed: list[FilesetRow]) -> int:
    """Take over the server's whole list, and note what it lacks; how many of its rows are new."""
    sound = listing.mend()
    recorded = dict(listing.registrations()) if sound else {}
    new = [row for row in listed if recorded.get(row.name) != row.registered]
    _set_aside_stale_markers(layout, product, new)
    if new or not sound:
        listing.replace(merged(known_rows(layout, product) if sound else [], listed))
    _mark_withdrawn(layout, product, recorded.keys() - {row.name for row in listed})
    return len(new)


def merged(known: list[FilesetRow], listed: list[FilesetRow]) -> list[FilesetRow]:
    """The server's whole list, with the rows that it withdrew kept behind the row they came after."""
    now = {row.name: row for row in listed}
    withdrawn_after: dict[str | None, list[FilesetRow]] = {}
    anchor = None
    for row in known:
        if row.name not in now:
            if not is_usable(row.name + SUFFIX):
                continue  # it can have no marker, so it was never here
            withdrawn_after.setdefault(anchor, []).append(row)
        elif _same(row, now[row.name]):
            anchor = row.name
    rows = list(withdrawn_after.get(None, []))
    for row in listed:
        rows.append(row)
        rows.extend(withdrawn_after.get(row.name, []))
    return rows


def _same(one: FilesetRow | Registration | None, other: FilesetRow) -> bool:
    """Whether both are one registration."""
    return one is not None and (one.name, one.registered) == (other.name, other.registered)


def _set_aside_stale_markers(layout: Layout, product: str, new: list[FilesetRow]) -> None:
    """Make filesets that were registered again pending; what they unpacked stays known until replaced."""
    names = {row.name for row in new}
    marked = {step: layout.marked_among(step, product, names) for step in _REGISTERED_STEPS}
    for row in new:
        for step in _REGISTERED_STEPS:
            if row.name not in marked[step] or fresh_marker(layout, step, Fileset.of(product, row)):
                continue
            stale = layout.marker(step, product, row.name)
            if step is MarkerKind.EXTRACTED:
                write_whole(layout.marker(MarkerKind.SUPERSEDED, product, row.name), stale.read_bytes())
            remove_files([stale])


def _mark_withdrawn(layout: Layout, product: str, withdrawn: set[str]) -> None:
    marked = layout.marked(MarkerKind.WITHDRAWN, product)
    withdrawn = {name for name in withdrawn if is_usable(name + SUFFIX)}
    for name in sorted(withdrawn - marked):
        write_marker(
            layout.marker(MarkerKind.WITHDRAWN, product, name),
            {"product": product, "fileset": name, "noticed": utc_now()},
        )
    remove_files(layout.marker(MarkerKind.WITHDRAWN, product, name) for name in marked - withdrawn)
