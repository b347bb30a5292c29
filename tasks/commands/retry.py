"""``ipp-mirror retry``."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from pipeline.errors import machine_faults
from pipeline.units import as_count
from tasks.commands.options import checked_name, config_option, quiet_option, read_mirror

_EXAMPLES = """\b
Examples:
  ipp-mirror retry
  ipp-mirror retry md-all-rel-200907 --cause "expected md5"
  ipp-mirror retry md-all-rel-200907 "stack.*" o4741g0234o.chip.14517.32.1
"""


@click.command(epilog=_EXAMPLES)
@config_option
@quiet_option
@click.option(
    "--cause", metavar="TEXT", default="", help="Only those whose reason has this text, in any case."
)
@click.argument("product", required=False, callback=checked_name)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
def retry(
    config: Path | None, quiet: bool, cause: str, product: str | None, patterns: tuple[str, ...]
) -> None:
    """Make failed filesets due now.

    Filesets that failed often are tried with exponential back-off. Those of the product, or of all, are tried
    by the next update, and in every run again as after a first failure. With PATTERN only those whose name
    matches one of the shell patterns.
    """
    from pipeline.mirror.state.failures import retry_failures
    from pipeline.mirror.state.operands import check_mirror_here, check_product_here

    def matches(record: Mapping[str, Any]) -> bool:
        reasons = (str(file.get("reason", "")) for file in record["files"])
        is_named = not patterns or any(fnmatchcase(record["fileset"], pattern) for pattern in patterns)
        return is_named and (not cause or any(cause.casefold() in reason.casefold() for reason in reasons))

    settings, layout = read_mirror(config)
    check_mirror_here(layout)
    products = layout.state_products() if product is None else [product]
    if product is not None:
        check_product_here(layout, product, settings, "Nothing was changed.")
    with machine_faults(f"retrying failed filesets of the mirror at {layout.root}"):
        counts = [retry_failures(layout, name, matches) for name in products]
    matching, postponed = (sum(numbers) for numbers in zip((0, 0), *counts, strict=True))
    if quiet:
        return
    if matching:
        due = "is due" if matching == 1 else "are due"
        of_them = "which" if matching == 1 else f"of which {postponed}"
        waited = f", {of_them} had to wait" if postponed else ""
        them = "it" if matching == 1 else "them"
        click.echo(f"{as_count(matching, 'failed fileset')} {due}{waited}; the next update tries {them}.")
    else:
        none = "No failed fileset matches" if patterns or cause else "No fileset has failed"
        click.echo(f"{none}. Nothing was changed.")
