"""``ipp-mirror skip``."""

from pathlib import Path

import click

from pipeline.errors import SettingsError, machine_faults
from tasks.commands.options import checked_name, config_option, current_user, quiet_option, read_mirror

_EXAMPLES = """\b
Example:
  ipp-mirror skip md-all-rel-200907 o1.chip.1.1.1 --reason "wrong md5, reported to IfA"
"""


@click.command(epilog=_EXAMPLES)
@config_option
@quiet_option
@click.option("--reason", required=True, metavar="TEXT", help="Why, as `ipp-mirror status` shows it.")
@click.argument("product", callback=checked_name)
@click.argument("fileset", callback=checked_name)
def skip(config: Path | None, quiet: bool, reason: str, product: str, fileset: str) -> None:
    """Skip a fileset.

    Updates leave out a skipped fileset, and do not fail because of it. The skip ends when the fileset is
    registered again upstream, or is unskipped. A complete fileset needs no skip: nothing is changed.
    """
    from pipeline.mirror.state.pending import incomplete
    from pipeline.mirror.state.skip import skip_fileset
    from pipeline.reporting.status import write_status
    from tasks.steps import STEPS

    settings, layout = read_mirror(config)
    if not reason.strip():
        raise SettingsError("expected a reason for the skip, got none (--reason TEXT). Nothing was skipped.")
    with machine_faults(f"skipping {product}/{fileset}"):
        if not incomplete(layout, product, {fileset}, STEPS.wanted(settings)):
            said = "is complete here, nothing is left to skip. Nothing was changed."
        else:
            skip_fileset(layout, product, fileset, reason=reason, by=current_user())
            write_status(layout, settings, STEPS, layout.state_products())
            said = "is skipped until it is registered again, or unskipped."
    if not quiet:
        click.echo(f"{product}/{fileset} {said}")
