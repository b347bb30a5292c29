"""Discovery of the filesets that the server has registered since the last discovery.

The local listing has every row ever received, in the server's order. The request is for the filesets after
the last but one, so that the last one is in the response. When it is not, the last fileset was
withdrawn or registered again, and the whole list is requested (protocol notes, "Since").
"""

from dataclasses import dataclass, field
from datetime import timedelta

from pipeline.config import Settings
from pipeline.datastore.client import ADVICE_ON_ADDRESS, ListingClient, NotFound, UnknownFileset
from pipeline.datastore.listing import FilesetRow, LeftOut, read_products
from pipeline.durable import remove_files
from pipeline.errors import ServerUnavailable
from pipeline.mirror.context import RunContext
from pipeline.mirror.resources.arrivals import Arrivals
from pipeline.mirror.state.failures import failed_in, failures
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing, Registration, known_rows
from pipeline.mirror.state.marker_file import can_name_marker, read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker, is_within, utc_now
from pipeline.mirror.state.steps import Steps
from pipeline.mirror.steps.housekeeping import has_filesets_in_progress
from pipeline.near_names import did_you_mean

WHOLE_LIST_EVERY = timedelta(days=7)
_NEXT_RUN = " The next run tries again."


@dataclass(frozen=True)
class ListingAnswer:
    """Rows that the server sent: the whole list, or those that are newer than the last one known.

    ``left_out`` are the damaged and repeated ones.
    """

    rows: list[FilesetRow]
    is_whole: bool
    left_out: LeftOut = field(default_factory=LeftOut)


def discover_product(context: RunContext, product: str, run: str, *, whole: bool, left_out: LeftOut) -> int:
    """Bring the local listing of the product up to date; return the number of rows that are new.

    Filesets that were registered again become pending. With ``whole`` the whole list is requested, which
    alone shows all withdrawn filesets. Damaged rows are added to ``left_out``, and requested again by the
    next run. Raises ServerUnavailable when the server sends no valid listing; then the mirror is unchanged.
    """
    layout, arrivals = context.layout, context.arrivals
    listing = LocalListing(layout, product)
    asked = utc_now()
    answer = ask_for_rows(layout, context.listings, product, whole=not listing.repair() or whole)
    # Before a registration is replaced: what is held is served until it is replaced too.
    is_settled = arrivals.settle(product)
    if answer.is_whole:
        new = _merge_whole(context, product, listing, answer)
    else:
        new = _append_newer(context, product, listing, answer.rows)
    if not is_settled:
        arrivals.settle(product)
    last_whole = asked if answer.is_whole else _last_whole(layout, product)
    if answer.left_out.damaged:
        last_whole = ""  # the next run asks for these rows again
    content = {"product": product, "run": run, "asked": asked, "whole": last_whole}
    write_marker(layout.discovered(product), content | {"url": context.listings.url, "new": new})
    left_out.extend(answer.left_out)
    return new


def ask_for_rows(layout: Layout, listings: ListingClient, product: str, *, whole: bool) -> ListingAnswer:
    """Ask the server for the rows newer than those of the sound local listing, or for the ``whole`` list.

    The whole list is also requested where the newer rows do not follow on those that are known. Raises
    ServerUnavailable when the server sends no valid listing; NotFound when it has no such product: with the
    nearest names of products, or with what to do about one that has a listing here.
    """
    try:
        return _ask_for_rows(layout, listings, product, whole=whole)
    except NotFound as error:
        message = str(error).removesuffix(_NEXT_RUN)
        if LocalListing(layout, product).count() and _is_unlisted(listings, product):
            message = message.removesuffix(".").removesuffix(ADVICE_ON_ADDRESS)
            message += (
                f": upstream does not have this product any more{_when_listed(layout, product)}. "
                "Take it out of the settings (mirror.products, source.hidden_products), or ask upstream; "
                "what is here stays."
            )
        else:
            message += did_you_mean(product, _listed_products(layout, listings) - {product})
        raise NotFound(f"{message}{_NEXT_RUN}") from None


def _is_unlisted(listings: ListingClient, product: str) -> bool:
    """Return True if the server sends the listing of its root, and that does not have the product."""
    try:
        return product not in {row.name for row in listings.products()}
    except ServerUnavailable:
        return False


def _when_listed(layout: Layout, product: str) -> str:
    """Return when the server sent the listing of the product last; an empty text where no marker has it.

    Between that and the first 404 the server may have been down: since when it is missing is not known.
    """
    asked = (read_marker(layout.discovered(product)) or {}).get("asked")
    return f", and sent its listing last at {asked}" if asked else ""


def _ask_for_rows(layout: Layout, listings: ListingClient, product: str, *, whole: bool) -> ListingAnswer:
    listing = LocalListing(layout, product)
    if not whole:
        found = LeftOut()
        served = listing.last(2, but=layout.marked(MarkerKind.WITHDRAWN, product))
        newer = _newer(listings, product, served, found)
        if newer is not None:
            return ListingAnswer(newer, is_whole=False, left_out=found)
    found = LeftOut()
    listed = listings.filesets(product, left_out=found)
    if not listed:
        _check_emptiness(listings, product, is_known=bool(listing.count()))
    return ListingAnswer(listed, is_whole=True, left_out=found)


def _listed_products(layout: Layout, listings: ListingClient) -> set[str]:
    """Return the products that the root lists, by its listing that is here, else by the server's."""
    path = layout.root_listing
    try:
        rows = read_products(path.read_bytes(), str(path)) if path.is_file() else listings.products()
    except (OSError, ServerUnavailable):
        return set()
    return {row.name for row in rows}


def needs_whole_list(layout: Layout, product: str, settings: Settings, steps: Steps) -> bool:
    """Return True if the next discovery has to ask for the whole list.

    Filesets that failed, or were in progress when a run was killed, may have been withdrawn: only the whole
    list shows that. ``steps`` are the included ones.
    """
    return (
        bool(failed_in(failures(layout, product), (step.name for step in steps.required)))
        or has_filesets_in_progress(layout, product)
        or settings.mirror.on_removed == "delete"
        or _whole_list_is_due(layout, product)
    )


def _whole_list_is_due(layout: Layout, product: str) -> bool:
    """Return True if the whole list was not fetched within ``WHOLE_LIST_EVERY``.

    Only the whole list shows what was withdrawn, or is listed again under its old registration.
    """
    return not is_within(_last_whole(layout, product), WHOLE_LIST_EVERY)


def _last_whole(layout: Layout, product: str) -> str:
    """Return the time (UTC) when the whole list was fetched last; an empty text for never."""
    return str((read_marker(layout.discovered(product)) or {}).get("whole", ""))


def _check_emptiness(listings: ListingClient, product: str, *, is_known: bool) -> None:
    """Raise ServerUnavailable unless the root confirms a listing without filesets.

    The server sends such a listing also when it could not query its database (protocol notes, "Listings"). A
    hidden product, which the root does not list, may be empty as long as none of its filesets ``is_known``.
    """
    newest = {row.name: row.most_recent for row in listings.products()}
    if newest.get(product) is None and (product in newest or not is_known):
        return
    named = f"of which the root names {newest[product]!r}" if newest.get(product) else "which had some"
    raise ServerUnavailable(
        f"{listings.url}: product {product}: expected a listing with filesets, {named}, got one without any. "
        "Nothing is changed in the mirror; the next run tries again."
    )


def _newer(
    listings: ListingClient, product: str, served: list[Registration], left_out: LeftOut
) -> list[FilesetRow] | None:
    """Return the rows after the last but one, without the last one; None when the response lacks that.

    A mirror may list filesets between the two that came later (docs/protocol.md, "Since").
    """
    if len(served) < 2:
        return None
    since, newest = served
    try:
        newer = listings.filesets(product, since.name, left_out)
    except UnknownFileset:
        return None
    if not any(is_same(newest, row) for row in newer):
        return None
    return [row for row in newer if row.name != newest.name]


def _append_newer(context: RunContext, product: str, listing: LocalListing, newer: list[FilesetRow]) -> int:
    """Append the newly registered rows; return their number.

    A fileset that was registered again moves to the end.
    """
    if not newer:
        return 0
    names = {row.name for row in newer}
    _unmark_withdrawn(context.layout, product, names, context.arrivals)
    recorded = {known.name: known for known in listing.registrations() if known.name in names}
    new = [row for row in newer if not is_same(recorded.get(row.name), row)]
    _set_aside_stale_markers(context.layout, product, new, context.steps)
    if new:
        listing.add(new, moved=recorded.keys() & {row.name for row in new})
    return len(new)


def _merge_whole(context: RunContext, product: str, listing: LocalListing, answer: ListingAnswer) -> int:
    """Merge the server's whole list, and mark withdrawn filesets; return the number of new rows.

    When a damaged row was left out, none counts as withdrawn that did not before.
    The order is that of the server: what it sends for the last but one of the rows depends on it.
    """
    layout = context.layout
    sound, listed = listing.repair(), answer.rows
    recorded = dict(listing.registrations()) if sound else {}
    new = [row for row in listed if recorded.get(row.name) != row.registered]
    _set_aside_stale_markers(layout, product, new, context.steps)
    names = {row.name for row in listed}
    if new or not sound or [name for name in recorded if name in names] != [row.name for row in listed]:
        listing.replace(merged(known_rows(layout, product) if sound else [], listed))
    withdrawn = recorded.keys() - names
    if answer.left_out.damaged:
        withdrawn &= layout.marked(MarkerKind.WITHDRAWN, product)
    _mark_withdrawn(layout, product, withdrawn, context.arrivals)
    return len(new)


def merged(known: list[FilesetRow], listed: list[FilesetRow]) -> list[FilesetRow]:
    """Return the server's whole list, with each withdrawn row kept behind its predecessor."""
    listed_by_name = {row.name: row for row in listed}
    withdrawn_after: dict[str | None, list[FilesetRow]] = {}
    anchor = None
    for row in known:
        if row.name not in listed_by_name:
            if not can_name_marker(row.name):
                continue  # such a name can have no marker: the fileset was never downloaded
            withdrawn_after.setdefault(anchor, []).append(row)
        elif is_same(row, listed_by_name[row.name]):
            anchor = row.name
    rows = list(withdrawn_after.get(None, []))
    for row in listed:
        rows.append(row)
        rows.extend(withdrawn_after.get(row.name, []))
    return rows


def is_same(one: FilesetRow | Registration | None, other: FilesetRow) -> bool:
    """Return True if both are one registration."""
    return one is not None and (one.name, one.registered) == (other.name, other.registered)


def _set_aside_stale_markers(layout: Layout, product: str, new: list[FilesetRow], steps: Steps) -> None:
    """Make filesets that were registered again pending, without their failures and skips."""
    names = {row.name for row in new}
    for step in reversed(steps.rows):
        marked = layout.marked_among(step.marker, product, names)
        for row in new:
            fileset = Fileset.of(product, row)
            if row.name in marked and not fresh_marker(layout, step.marker, fileset):
                step.set_aside(layout, step, fileset)
    for kind in (MarkerKind.FAILED, MarkerKind.SKIPPED, MarkerKind.EXPIRED):
        marked = layout.marked_among(kind, product, names)
        for row in new:
            if row.name in marked and not fresh_marker(layout, kind, Fileset.of(product, row)):
                remove_files([layout.marker(kind, product, row.name)])


def _mark_withdrawn(layout: Layout, product: str, withdrawn: set[str], arrivals: Arrivals) -> None:
    """Mark the filesets as withdrawn, and only them."""
    marked = layout.marked(MarkerKind.WITHDRAWN, product)
    withdrawn = {name for name in withdrawn if can_name_marker(name)}
    for name in sorted(withdrawn - marked):
        write_marker(
            layout.marker(MarkerKind.WITHDRAWN, product, name),
            {"product": product, "fileset": name, "noticed": utc_now()},
        )
    _unmark_withdrawn(layout, product, marked - withdrawn, arrivals)


def _unmark_withdrawn(layout: Layout, product: str, listed: set[str], arrivals: Arrivals) -> None:
    """Remove the marks of filesets that the server lists."""
    if marked := layout.marked_among(MarkerKind.WITHDRAWN, product, listed):
        # Readers that came in the meantime have not seen these filesets.
        arrivals.enter_again(product, marked)
        remove_files(layout.marker(MarkerKind.WITHDRAWN, product, name) for name in marked)
