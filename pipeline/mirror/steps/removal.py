"""Deleting what the server withdrew, where the settings ask for it (``on_removed: delete``).

Only ever on the evidence of a whole, valid listing, and never more than a set share of a product in
one run: a listing that lost its rows must not empty the mirror.
"""

import shutil

from pipeline.durable import remove_files
from pipeline.errors import MirrorError, machine_faults
from pipeline.mirror.resources.ownership import Ownership, marked_contents, owners_of
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset


class TooMuchWithdrawn(MirrorError):
    """More is withdrawn at once than may be deleted at once; nothing was deleted."""


def delete_withdrawn(layout: Layout, ownership: Ownership, product: str, at_most: float) -> int:
    """Delete all filesets of the product that the last whole listing lacked; how many.

    Raises TooMuchWithdrawn when they are more than the share ``at_most`` of the known ones (one is
    always allowed), or MachineFault.
    """
    listing = LocalListing(layout, product)
    known = listing.count()
    withdrawn = layout.marked(MarkerKind.WITHDRAWN, product)
    allowed = max(1, int(at_most * known))
    if len(withdrawn) > allowed:
        raise TooMuchWithdrawn(
            f"product {product}: {len(withdrawn)} of {known} filesets are withdrawn upstream, at most "
            f"{allowed} may be deleted in one run (mirror.delete_at_most {at_most}). Nothing was deleted; "
            "if upstream really withdrew them, raise the setting for one run."
        )
    with machine_faults(f"deleting withdrawn filesets of {product}"):
        for name in sorted(withdrawn):
            _delete(layout, ownership, Fileset(product, name, ""))
        if withdrawn:
            listing.drop(withdrawn)
            remove_files(layout.marker(MarkerKind.WITHDRAWN, product, name) for name in withdrawn)
    return len(withdrawn)


def _delete(layout: Layout, ownership: Ownership, fileset: Fileset) -> None:
    """What it unpacked and no other fileset holds, its folders, and last its markers, which name all that."""
    product, name = fileset.product, fileset.name
    steps = (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED)
    paths = set().union(*(marked_contents(layout, step, fileset) for step in steps))
    with ownership.held(paths):
        owners = owners_of(layout, paths, {fileset}) if paths else {}
        gone = paths - owners.keys()
        remove_files(layout.root / path for path in gone)
        _remove_empty_folders(layout, gone)
    for folder in (layout.store(product, name), layout.info(product, name), layout.incoming(product, name)):
        if folder.exists():
            shutil.rmtree(folder)
    # Whoever else holds one of the files may have had it replaced by this fileset's: it is unpacked again.
    remove_files(
        layout.marker(MarkerKind.EXTRACTED, owner.product, owner.name) for owner in set(owners.values())
    )
    remove_files(
        layout.marker(step, product, name) for step in MarkerKind if step is not MarkerKind.WITHDRAWN
    )


def _remove_empty_folders(layout: Layout, paths: set[str]) -> None:
    for folder in sorted({(layout.root / path).parent for path in paths}, reverse=True):
        while folder != layout.data and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
