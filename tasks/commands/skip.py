"""``ipp-mirror skip``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import SettingsError, machine_faults
from pipeline.names import escaped
from tasks.commands.options import (
    checked_name,
    config_option,
    current_user,
    name_or_pattern,
    quiet_option,
    read_mirror,
)

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.mirror.state.layout import Layout

_EXAMPLES = """\b
Example:
  ipp-mirror skip md-all-rel-200907 o1.chip.1.1.1 --reason "wrong md5, reported to IfA"
"""


@click.command(epilog=_EXAMPLES)
@config_option
@quiet_option
@click.option("--reason", required=True, metavar="TEXT", help="Why, as `ipp-mirror status` shows it.")
@click.argument("product", callback=checked_name)
@click.argument("fileset", callback=name_or_pattern)
def skip(config: Path | None, quiet: bool, reason: str, product: str, fileset: str) -> None:
    """Skip a fileset.

    Updates leave out a skipped fileset, and do not fail because of it. The skip ends when the fileset is
    registered again upstream, or is unskipped. A complete fileset needs no skip: nothing is changed.
    """
    from pipeline.mirror.state.local_listing import LocalListing
    from pipeline.mirror.state.operands import check_product_here, refuse_pattern

    settings, layout = read_mirror(config)
    if not reason.strip():
        raise SettingsError("expected a reason for the skip, got none (--reason TEXT). Nothing was skipped.")
    check_product_here(layout, product, settings, "Nothing was changed.")
    with machine_faults(f"skipping {product}/{fileset}"):
        listed = (each.name for each in LocalListing(layout, product).registrations())
        refuse_pattern(product, fileset, listed, "skip")
        outcome = _skip(settings, layout, product, fileset, reason)
    if not quiet:
        click.echo(escaped(f"{product}/{fileset} {outcome}"))


def _skip(settings: "Settings", layout: "Layout", product: str, fileset: str, reason: str) -> str:
    """Skip the fileset unless it is complete; return what was done. Raises SettingsError."""
    from pipeline.mirror.state.pending import incomplete
    from pipeline.mirror.state.skip import skip_fileset
    from pipeline.reporting.status_files import product_rows, write_status
    from tasks.steps import STEPS

    if not incomplete(layout, product, {fileset}, STEPS.included(settings)):
        return "is complete here, nothing is left to skip. Nothing was changed."
    earlier = skip_fileset(layout, product, fileset, reason=reason, by=current_user())
    write_status(layout, product_rows(layout, settings, STEPS, layout.state_products()))
    if earlier:
        return (
            f"is skipped already, since {earlier['since']} by {earlier['by']}: {earlier['reason']}. "
            "Its reason was replaced."
        )
    if not _is_selected(settings, layout, product, fileset):
        return (
            "is skipped until it is registered again, or unskipped. The settings do not select it: updates "
            "leave it out anyway."
        )
    return "is skipped until it is registered again, or unskipped."


def _is_selected(settings: "Settings", layout: "Layout", product: str, fileset: str) -> bool:
    """Return True if updates fetch the fileset, skipped or not. Raises MachineFault or ServerUnavailable."""
    from pipeline.catalog.sky_knowledge import sky_knowledge
    from pipeline.mirror.state.beginning import find_beginning
    from pipeline.mirror.state.local_listing import AllBut, LocalListing
    from pipeline.mirror.state.selection import selected_rows
    from pipeline.mirror.state.wanted import wanted_filesets

    chosen, wanted = settings.product(product), wanted_filesets(layout, product)
    with sky_knowledge(settings, layout, chosen) as sky:
        rows = LocalListing(layout, product).rows(but=AllBut({fileset}))
        return any(selected_rows(rows, chosen, find_beginning(layout, chosen), wanted, sky))
