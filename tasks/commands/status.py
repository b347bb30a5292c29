"""``ipp-mirror status``."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import SettingsError, machine_faults
from pipeline.names import escaped
from pipeline.units import as_count
from tasks.commands.options import config_option, read_mirror

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.mirror.state.layout import Layout

_SKIP_COLUMNS = ("product", "fileset", "since", "by", "reason")
_EXAMPLES = """\b
Examples:
  ipp-mirror status
  ipp-mirror status --config /etc/ipp-mirror.yaml
"""


@click.command(epilog=_EXAMPLES)
@config_option
def status(config: Path | None) -> None:
    """Print the state of the mirror.

    Print the status files of the last update, with a row for each product and for each failed file, and the
    skipped filesets. What `ipp-mirror verify` found is shown until it is mended.
    """
    from pipeline.mirror.state.pause import pause_message

    settings, layout = read_mirror(config)
    with machine_faults(f"reading the status of the mirror at {layout.root}"):
        tables = {str(path): _rows(path) for path in (layout.product_status, layout.download_failures)}
        skips = _skips(layout)
        problems = _problems(layout)
        notes = _empty_selections(settings, layout)
        pause = pause_message(layout)
    if pause:
        click.echo(f"{layout.root}: {pause}")
    for title, rows in tables.items():
        _print_table(title, rows)
    if len(problems) > 1:
        _print_table("problems that verify found", problems)
    if skips:
        _print_table("skipped", [_SKIP_COLUMNS, *skips])
    for note in notes:
        click.echo(f"\n{note}")


def _rows(path: Path) -> list[list[str]]:
    """Return the rows of a status file, its header first. Raises SettingsError before the first update."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))
    except FileNotFoundError:
        raise SettingsError(
            f"expected a status file at {path}, found none: no update of this mirror has ended. "
            "Run one with: ipp-mirror update"
        ) from None


def _skips(layout: "Layout") -> list[list[str]]:
    from pipeline.mirror.state.skip import skipped

    markers = [marker for product in layout.state_products() for marker in skipped(layout, product)]
    return [[str(marker.get(column, "")) for column in _SKIP_COLUMNS] for marker in markers]


def _problems(layout: "Layout") -> list[list[str]]:
    from pipeline.reporting.status import PROBLEM_COLUMNS, verification_problems
    from tasks.steps import STEPS

    rows = verification_problems(layout, STEPS)
    return [list(PROBLEM_COLUMNS), *([row[column] for column in PROBLEM_COLUMNS] for row in rows)]


def _empty_selections(settings: "Settings", layout: "Layout") -> list[str]:
    from pipeline.mirror.state.local_listing import LocalListing
    from pipeline.mirror.state.selection import empty_selection

    messages = {
        product.name: empty_selection(product, LocalListing(layout, product.name).rows())
        for product in settings.mirror.products or []
    }
    return [f"product {product}: {message}" for product, message in messages.items() if message]


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    click.echo(f"\n{title} ({as_count(len(rows) - 1, 'row')})")
    rows = [[escaped(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (value.ljust(width) for value, width in zip(row, widths, strict=True))
        click.echo("  " + "  ".join(cells).rstrip())
