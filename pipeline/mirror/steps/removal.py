"""Removal of filesets: of withdrawn ones with ``on_removed: delete``, of those as old as ``keep`` says.

A fileset counts as withdrawn only by a whole, valid listing, and one run deletes at most a set share of a
product: a listing that lost its rows must not empty the mirror. What expires is said by the settings and the
clock of this host, not by upstream: ``delete_at_most`` does not limit it.
"""

from collections.abc import Callable, Iterable

from pipeline.config import Product
from pipeline.durable import remove_files
from pipeline.errors import MirrorError, machine_faults
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import AllBut, LocalListing
from pipeline.mirror.state.marker_file import SUFFIX, write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.state.selection import is_expired, old_filesets
from pipeline.mirror.state.sky_selection import NOTHING_KNOWN, SkyKnowledge
from pipeline.mirror.state.steps import StepSpec
from pipeline.mirror.state.wanted import wanted_filesets


class TooMuchWithdrawn(MirrorError):
    """More is withdrawn at once than may be deleted at once; nothing was deleted."""


def delete_withdrawn(context: RunContext, product: str) -> int:
    """Delete all withdrawn filesets of the product; return their number.

    Raises TooMuchWithdrawn when they are more than the share ``mirror.delete_at_most`` of the listed ones
    (one is always allowed), and when no fileset is left in the listing, or MachineFault.
    """
    layout, at_most = context.layout, context.settings.mirror.delete_at_most
    listing = LocalListing(layout, product)
    known = listing.count()
    withdrawn = layout.marked(MarkerKind.WITHDRAWN, product)
    if known and len(withdrawn) >= known:
        raise TooMuchWithdrawn(
            f"product {product}: the server lists none of {known} known filesets. Nothing was deleted; if "
            "upstream really emptied the product, take it out of mirror.products and delete its folders."
        )
    allowed = max(1, int(at_most * known))
    if len(withdrawn) > allowed:
        raise TooMuchWithdrawn(
            f"product {product}: {len(withdrawn)} of {known} filesets are withdrawn upstream, at most "
            f"{allowed} may be deleted in one run (mirror.delete_at_most {at_most}). Nothing was deleted; "
            "if upstream really withdrew them, raise the setting for one run."
        )
    with machine_faults(f"deleting withdrawn filesets of {product}"):
        for name in sorted(withdrawn):
            _delete(context, Fileset(product, name, ""), but=MarkerKind.WITHDRAWN)
        if withdrawn:
            listing.drop(withdrawn)
            remove_files(layout.marker(MarkerKind.WITHDRAWN, product, name) for name in withdrawn)
    return len(withdrawn)


def delete_expired(context: RunContext, product: str, sky: SkyKnowledge = NOTHING_KNOWN) -> int:
    """Delete the filesets that have become too old for every selection; return their number.

    Each is marked as expired first, and is not fetched again. Wanted ones stay. ``sky`` is what the
    catalog knows of filesets. Raises MachineFault.
    """
    layout, settings = context.layout, context.settings.product(product)
    with machine_faults(f"deleting expired filesets of {product}"):
        among = may_expire(layout, settings, context.steps, lambda step: layout.marked(step.marker, product))
        listing = LocalListing(layout, product)
        if not among:
            return 0
        old = among & old_filesets(settings, listing.registrations())
        for row in listing.rows(but=AllBut(old)) if old else ():
            if is_expired(row, settings, sky):
                content = {"product": product, "fileset": row.name, "registered": row.registered}
                path = layout.marker(MarkerKind.EXPIRED, product, row.name)
                write_marker(path, content | {"noticed": utc_now()})
        # Those too that a killed run has marked, and not deleted.
        expired = layout.marked_among(MarkerKind.EXPIRED, product, among)
        for name in sorted(expired):
            _delete(context, Fileset(product, name, ""), but=MarkerKind.EXPIRED)
    return len(expired)


def may_expire(
    layout: Layout, product: Product, steps: Iterable[StepSpec], marked: Callable[[StepSpec], set[str]]
) -> set[str]:
    """Return the filesets that are here and not wanted; none without ``keep`` in the settings.

    ``steps`` are all rows of the workflow, ``marked`` returns the filesets with a marker of one of them.
    """
    if not any(select.keep for select in product.select or ()):
        return set()
    return set().union(*map(marked, steps)) - wanted_filesets(layout, product.name)


def _delete(context: RunContext, fileset: Fileset, but: MarkerKind) -> None:
    """Retract the steps, the last one first; then remove the markers, which the steps read.

    The marker of the kind ``but`` stays.
    """
    for step in reversed(context.steps.rows):
        step.retract(context, fileset)
    remove_files(
        folder / f"{fileset.name}{SUFFIX}"
        for folder in context.layout.marker_folders(fileset.product)
        if folder.name != but
    )
