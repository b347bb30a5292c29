"""``ipp-mirror unskip``."""

from pathlib import Path

import click

from pipeline.errors import machine_faults
from tasks.commands.options import checked_name, config_option, name_or_pattern, quiet_option, read_mirror

_EXAMPLES = """\b
Example:
  ipp-mirror unskip md-all-rel-200907 o1.chip.1.1.1
"""


@click.command(epilog=_EXAMPLES)
@config_option
@quiet_option
@click.argument("product", callback=checked_name)
@click.argument("fileset", callback=name_or_pattern)
def unskip(config: Path | None, quiet: bool, product: str, fileset: str) -> None:
    """Unskip a fileset: the next update tries it again."""
    from pipeline.mirror.state.layout import MarkerKind
    from pipeline.mirror.state.operands import check_product_here, refuse_pattern
    from pipeline.mirror.state.skip import unskip_fileset
    from pipeline.reporting.status_files import product_rows, write_status
    from tasks.steps import STEPS

    settings, layout = read_mirror(config)
    check_product_here(layout, product, settings, "Nothing was changed.")
    with machine_faults(f"unskipping {product}/{fileset}"):
        refuse_pattern(product, fileset, layout.names(MarkerKind.SKIPPED, product), "unskip")
        is_changed = unskip_fileset(layout, product, fileset)
        if is_changed:
            write_status(layout, product_rows(layout, settings, STEPS, layout.state_products()))
    if not quiet:
        said = (
            "not skipped any more; the next update tries it, if the settings select it"
            if is_changed
            else "not skipped. Nothing was changed"
        )
        click.echo(f"{product}/{fileset} is {said}.")
