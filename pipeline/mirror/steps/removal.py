"""Removal of withdrawn filesets, with ``on_removed: delete`` in the settings.

A fileset counts as withdrawn only by a whole, valid listing, and one run deletes at most a set share of a
product: a listing that lost its rows must not empty the mirror.
"""

from pipeline.durable import remove_files
from pipeline.errors import MirrorError, machine_faults
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import SUFFIX
from pipeline.mirror.state.markers import Fileset


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
            _delete(context, Fileset(product, name, ""))
        if withdrawn:
            listing.drop(withdrawn)
            remove_files(layout.marker(MarkerKind.WITHDRAWN, product, name) for name in withdrawn)
    return len(withdrawn)


def _delete(context: RunContext, fileset: Fileset) -> None:
    """Retract the steps, the last one first; then remove the markers, which the steps read."""
    for step in reversed(context.steps.rows):
        step.retract(context, fileset)
    remove_files(
        folder / f"{fileset.name}{SUFFIX}"
        for folder in context.layout.marker_folders(fileset.product)
        if folder.name != MarkerKind.WITHDRAWN
    )
