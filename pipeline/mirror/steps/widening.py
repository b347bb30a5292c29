"""Widening of what is chosen of filesets: those that hold less than the settings choose become pending."""

from collections.abc import Collection, Iterable

from pipeline.config import Product
from pipeline.errors import machine_faults
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.beginning import find_beginning
from pipeline.mirror.state.file_selection import lacking_filesets, may_lack, note_file_selection
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import AllBut, LocalListing
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.pending import incomplete
from pipeline.mirror.state.selection import selected_rows
from pipeline.mirror.state.sky_selection import SkyKnowledge
from pipeline.mirror.state.steps import StepSpec
from pipeline.mirror.state.wanted import wanted_filesets
from pipeline.mirror.steps.download import DOWNLOAD


def widen_filesets(context: RunContext, product: str, sky: SkyKnowledge) -> int:
    """Make the filesets pending that lack files or members which the settings choose; return their number.

    What they hold stays, and is not fetched again. Filesets that the settings do not select, by what ``sky``
    knows of them, withdrawn and expired ones could not be completed: they are complete as they are until they
    are selected. For the holder of the update lock. Raises MachineFault, ServerUnavailable for a damaged
    listing.
    """
    layout, settings = context.layout, context.settings.product(product)
    with machine_faults(f"looking for filesets of {product} that lack files"):
        names = may_lack(layout, settings)
        selected = _selected(layout, settings, names, sky) if names else set()
        lacking = lacking_filesets(layout, settings, selected)
        _set_aside(context, product, lacking)
        note_file_selection(layout, settings, names - selected)
    return len(lacking)


def widen_wanted(context: RunContext, product: str, names: Collection[str]) -> None:
    """Make those of the wanted filesets pending that are complete, and lack what the settings choose.

    Those in progress are made by the settings anyway. Raises MachineFault.
    """
    layout, settings = context.layout, context.settings.product(product)
    with machine_faults(f"looking for filesets of {product} that lack files"):
        lacking = lacking_wanted(layout, settings, names, context.included_steps.required)
        _set_aside(context, product, lacking)


def lacking_wanted(
    layout: Layout, product: Product, names: Collection[str], steps: Iterable[StepSpec]
) -> dict[str, bool]:
    """Return those of the filesets of which the ``steps`` are done, with less than the settings choose.

    Withdrawn ones, which cannot be completed, are not among them. True where whole files lack. Raises
    OSError.
    """
    partial = layout.marked_among(MarkerKind.PARTIAL, product.name, names)
    partial -= incomplete(layout, product.name, partial, steps)
    partial -= layout.marked_among(MarkerKind.WITHDRAWN, product.name, partial)
    return lacking_filesets(layout, product, partial)


def _set_aside(context: RunContext, product: str, lacking: dict[str, bool]) -> None:
    """Make the steps pending that complete the filesets."""
    for name, lacks_files in lacking.items():
        after = None if lacks_files else DOWNLOAD
        context.steps.set_aside(context.layout, Fileset(product, name, ""), after)


def _selected(layout: Layout, product: Product, names: Collection[str], sky: SkyKnowledge) -> set[str]:
    """Return those of the filesets that are selected or wanted, and neither withdrawn nor expired."""
    rows = LocalListing(layout, product.name).rows(but=AllBut(set(names)))
    wanted = wanted_filesets(layout, product.name)
    selected = selected_rows(rows, product, find_beginning(layout, product), wanted, sky)
    kinds = (MarkerKind.WITHDRAWN, MarkerKind.EXPIRED)
    gone = (layout.marked_among(kind, product.name, names) for kind in kinds)
    return {row.name for row in selected}.difference(*gone)
