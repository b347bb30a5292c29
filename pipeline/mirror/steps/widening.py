"""Widening of what is chosen of filesets: those that hold less than the settings choose become pending."""

from pipeline.errors import machine_faults
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.file_selection import lacking_filesets, note_file_selection
from pipeline.mirror.state.markers import Fileset


def widen_filesets(context: RunContext, product: str) -> int:
    """Make the filesets pending that lack files or members which the settings choose; return their number.

    What they hold stays, and is not fetched again. For the holder of the update lock. Raises MachineFault.
    """
    layout, settings = context.layout, context.settings.product(product)
    with machine_faults(f"looking for filesets of {product} that lack files"):
        lacking = lacking_filesets(layout, settings)
        for name, lacks_files in lacking.items():
            steps = context.steps.rows if lacks_files else context.steps.rows[1:]
            for step in reversed(steps):
                step.set_aside(layout, step, Fileset(product, name, ""))
        note_file_selection(layout, settings)
    return len(lacking)
