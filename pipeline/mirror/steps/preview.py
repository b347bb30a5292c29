"""Preview of an update: what it will find, and which filesets it will do; nothing is written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.config import Product
from pipeline.datastore.client import ListingClient
from pipeline.datastore.listing import FilesetRow, LeftOut
from pipeline.mirror.state.beginning import find_beginning, refuse_unknown_beginning
from pipeline.mirror.state.file_selection import lacking_filesets, may_lack
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing, Registration, known_rows
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.state.pending import postponed, to_unpack_again
from pipeline.mirror.state.selection import (
    is_expired,
    refuse_unknown_columns,
    selected_rows,
)
from pipeline.mirror.state.sky_selection import NOTHING_KNOWN, SkyKnowledge
from pipeline.mirror.state.steps import Steps
from pipeline.mirror.steps.discover import ask_for_rows, is_same, merged
from pipeline.mirror.steps.download import is_stored
from pipeline.mirror.steps.removal import may_expire


@dataclass(frozen=True)
class ListingPreview:
    """Local listing of a product as the next discovery will leave it: its ``rows``, and which are ``new``.

    ``withdrawn`` are the names of filesets that the server does not list.
    """

    rows: list[FilesetRow]
    new: list[FilesetRow]
    withdrawn: set[str]
    left_out: LeftOut = field(default_factory=LeftOut)

    def registrations(self) -> Iterator[Registration]:
        """Yield the identities of all rows in order."""
        return (Registration(row.name, row.registered) for row in self.rows)


@dataclass(frozen=True)
class WorkPreview:
    """Selected filesets of a product, by what the next update does with them.

    Each of the ``selected`` ones is complete, skipped, postponed (its next try is not due yet) or ``due``. Of
    those due, the ones in ``to_fetch`` are downloaded, the others only unpacked.
    """

    selected: int
    complete: int
    skipped: int
    postponed: int
    due: list[FilesetRow]
    to_fetch: list[FilesetRow]


def known_listing(layout: Layout, product: str) -> ListingPreview:
    """Return the local listing as it is."""
    return ListingPreview(known_rows(layout, product), [], layout.marked(MarkerKind.WITHDRAWN, product))


def preview_listing(layout: Layout, listings: ListingClient, product: str, *, whole: bool) -> ListingPreview:
    """Ask the server as the next discovery will, and return the listing that results.

    ``whole`` as ``needs_whole_list`` says. Raises ServerUnavailable when the server sends no valid listing.
    """
    listing = LocalListing(layout, product)
    known, marked = known_rows(layout, product), layout.marked(MarkerKind.WITHDRAWN, product)
    # Rows beyond the record of the listing are those of an interrupted or another run.
    answer = ask_for_rows(layout, listings, product, whole=whole or listing.state() is None)
    recorded = {row.name: row for row in known}
    new = [row for row in answer.rows if not is_same(recorded.get(row.name), row)]
    names = {row.name for row in answer.rows}
    if not answer.is_whole:
        moved = {row.name for row in new}
        rows = [row for row in known if row.name not in moved] + new
        return ListingPreview(rows, new, marked - names, answer.left_out)
    withdrawn = recorded.keys() - names
    if answer.left_out.damaged:
        withdrawn &= marked
    return ListingPreview(merged(known, answer.rows), new, withdrawn, answer.left_out)


def preview_work(
    layout: Layout,
    product: Product,
    steps: Steps,
    listing: ListingPreview,
    sky: SkyKnowledge = NOTHING_KNOWN,
) -> WorkPreview:
    """Return what the next update does with the filesets of the listing; ``steps`` are the included ones.

    ``sky`` is what the catalog knows of filesets. Markers of an earlier registration do not
    count. Raises SettingsError when ``select`` names a column that no row has, MachineFault when the catalog
    cannot be read.
    """
    name, stale = product.name, _Stale(layout, product.name, listing.new)
    selected = _selected(layout, product, listing, stale, sky)
    kinds = [step.marker for step in steps.required]
    lacking = lacking_filesets(layout, product, may_lack(layout, product) & {row.name for row in selected})
    done = stale.without(layout.marked_in_all(kinds, name), kinds) - lacking.keys()
    left = [row for row in selected if row.name not in done]
    skipped = stale.marked(MarkerKind.SKIPPED)
    later = stale.without(set(postponed(layout, name, steps)), [MarkerKind.FAILED])
    tried = [row for row in left if row.name not in skipped]
    due = [row for row in tried if row.name not in later]
    stored = _stored(layout, name, due, stale)
    return WorkPreview(
        selected=len(selected),
        complete=len(selected) - len(left),
        skipped=len(left) - len(tried),
        postponed=len(tried) - len(due),
        due=due,
        to_fetch=[row for row in due if row.name not in stored or lacking.get(row.name)],
    )


def _stored(layout: Layout, product: str, due: list[FilesetRow], stale: "_Stale") -> set[str]:
    """Return the names of those filesets whose files are in ``store/``, as their markers say."""
    marked = layout.marked_among(MarkerKind.DOWNLOADED, product, [row.name for row in due])
    downloaded = stale.without(marked, [MarkerKind.DOWNLOADED])
    return {row.name for row in due if row.name in downloaded and is_stored(layout, Fileset.of(product, row))}


def _selected(
    layout: Layout, product: Product, listing: ListingPreview, stale: "_Stale", sky: SkyKnowledge
) -> list[FilesetRow]:
    """Return the rows of the filesets that are to be here, complete or not. Raises as ``preview_work``."""
    name = product.name
    refuse_unknown_columns(product, lambda: {column for row in listing.rows for column in row.columns}, sky)
    beginning = find_beginning(layout, product, listing.registrations)
    refuse_unknown_beginning(product, beginning, listing.registrations)
    again = stale.without(to_unpack_again(layout, name), [MarkerKind.DOWNLOADED])
    wanted = layout.marked(MarkerKind.WANTED, name) | again
    gone = (listing.withdrawn - again) | stale.marked(MarkerKind.EXPIRED)
    rows = selected_rows(listing.rows, product, beginning, wanted, sky)
    return [row for row in rows if row.name not in gone]


def count_expiring(
    layout: Layout,
    product: Product,
    steps: Steps,
    listing: ListingPreview,
    sky: SkyKnowledge = NOTHING_KNOWN,
) -> int:
    """Return how many filesets the next update deletes as too old for the settings; ``steps`` are all.

    Those too that a killed run has marked as expired, and not deleted. Raises MachineFault when the catalog
    cannot be read.
    """
    stale = _Stale(layout, product.name, listing.new)
    among = may_expire(layout, product, steps, lambda step: stale.marked(step.marker))
    if not among:
        return 0
    old = {row.name for row in listing.rows if row.name in among and is_expired(row, product, sky)}
    return len(old | (among & stale.marked(MarkerKind.EXPIRED)))


class _Stale:
    """Markers of filesets that are registered again: the next discovery removes them."""

    def __init__(self, layout: Layout, product: str, new: list[FilesetRow]) -> None:
        self._layout = layout
        self._product = product
        self._new = {row.name: Fileset.of(product, row) for row in new}

    def marked(self, kind: str) -> set[str]:
        """Return the names of filesets with a marker of that kind, of the current registration."""
        return self.without(self._layout.marked(kind, self._product), [kind])

    def without(self, marked: set[str], kinds: Iterable[str]) -> set[str]:
        """Return the names of which each marker of the kinds is of the current registration."""
        again = marked & self._new.keys()
        return marked - {name for name in again if not self._is_fresh(name, kinds)}

    def _is_fresh(self, name: str, kinds: Iterable[str]) -> bool:
        return all(fresh_marker(self._layout, kind, self._new[name]) for kind in kinds)
