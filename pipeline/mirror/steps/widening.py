"""Widening of what is chosen of filesets: those that hold less than the settings choose become pending."""

from collections.abc import Collection

from pipeline.config import Product
from pipeline.errors import machine_faults
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.file_selection import lacking_filesets, may_lack, note_file_selection
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import AllBut, LocalListing
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.selection import selected_rows
from pipeline.mirror.state.sky_selection import SkyKnowledge
from pipeline.mirror.state.wanted import wanted_filesets
from pipeline.mirror.steps.download import DOWNLOAD


def widen_filesets(context: RunContext, product: str, sky: SkyKnowledge) -> int:
    """Make the filesets pending that lack files or members which the settings choose; return their number.

    What they hold stays, and is not fetched again. Filesets that the settings do not select, by what ``sky``
    knows of them, and withdrawn ones, could not be completed: they are complete as they are until they are
    selected. For the holder of the update lock. Raises MachineFault, ServerUnavailable for a damaged listing.
    """
    layout, settings = context.layout, context.settings.product(product)
    with machine_faults(f"looking for filesets of {product} that lack files"):
        names = may_lack(layout, settings)
        selected = _selected(layout, settings, names, sky) if names else set()
        lacking = lacking_filesets(layout, settings, selected)
        for name, lacks_files in lacking.items():
            after = None if lacks_files else DOWNLOAD
            context.steps.set_aside(layout, Fileset(product, name, ""), after)
        note_file_selection(layout, settings, names - selected)
    return len(lacking)


def _selected(layout: Layout, product: Product, names: Collection[str], sky: SkyKnowledge) -> set[str]:
    """Return those of the filesets that are selected or wanted, and not withdrawn."""
    # The selection begins with the row behind that of ``begin_after``.
    rows = LocalListing(layout, product.name).rows(but=AllBut({*names, product.begin_after or ""}))
    selected = selected_rows(rows, product, wanted_filesets(layout, product.name), sky)
    withdrawn = layout.marked_among(MarkerKind.WITHDRAWN, product.name, names)
    return {row.name for row in selected if row.name in names} - withdrawn
