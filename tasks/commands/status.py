"""``ipp-mirror status``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import EXIT_DONE, EXIT_FILESET_FAILED, MirrorError, machine_faults
from pipeline.names import escaped
from pipeline.units import as_count
from tasks.commands.options import config_option, quiet_option, read_mirror
from tasks.commands.types import NewFile

if TYPE_CHECKING:
    from pipeline.mirror.state.layout import Layout
    from pipeline.reporting.attention import Attention
    from pipeline.reporting.report import MirrorReport

_SKIP_COLUMNS = ("product", "fileset", "since", "by", "reason")
_EXAMPLES = """\b
Examples:
  ipp-mirror status
  ipp-mirror status --details               each failed file, skipped fileset and problem
  ipp-mirror status --json                  all of it, for programs
  ipp-mirror status --check                 one line for Nagios, with its codes
  ipp-mirror status --quiet                 nothing when all is well, for cron
  ipp-mirror status --html page.html        a page for browsers, as status/index.html

\b
Exit codes:
   0  nothing needs a person
  30  something does: the lines that begin with "critical"
With --check: 0 ok, 1 warning, 2 critical, 3 unknown.
"""


@click.command(epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.option("--check", "as_check", is_flag=True, help="Print one line; end with a code of Nagios.")
@click.option("--details", is_flag=True, help="Print a table with a row for each failed file as well.")
@click.option(
    "--html",
    type=NewFile(),
    metavar="FILE",
    help="Write the report as a page for browsers, with charts and the matrix of what is complete.",
)
@quiet_option
@config_option
def status(
    config: Path | None, as_json: bool, as_check: bool, details: bool, html: Path | None, quiet: bool
) -> int:
    """Print the state of the mirror.

    Whether an update runs, how the last one ended, and what needs a person; the filesets of each product,
    the failures by cause, the skipped filesets, the disks, and what `ipp-mirror verify` found.
    """
    if as_json + as_check + details + (html is not None) > 1:
        raise click.UsageError("--json, --check, --details and --html exclude each other")
    if as_check:
        return _check(config)
    from pipeline.reporting.attention import CRITICAL, severity
    from pipeline.reporting.report_forms import as_json as json_of
    from pipeline.reporting.report_forms import as_text

    if html is not None:
        return _write_html(config, html)
    report, points, layout = _report(config)
    if quiet and not points:
        return EXIT_DONE
    click.echo(json_of(report, points) if as_json else as_text(report, points), nl=False)
    if details:
        with machine_faults(f"reading the status of the mirror at {layout.root}"):
            _print_details(report, layout)
    return EXIT_FILESET_FAILED if severity(points) == CRITICAL else EXIT_DONE


def _report(config: Path | None) -> "tuple[MirrorReport, list[Attention], Layout]":
    from pipeline.reporting.attention import attention
    from pipeline.reporting.report import mirror_report
    from tasks.steps import STEPS

    settings, layout = read_mirror(config)
    with machine_faults(f"reading the status of the mirror at {layout.root}"):
        report = mirror_report(layout, settings, STEPS)
    return report, attention(report), layout


def _write_html(config: Path | None, path: Path) -> int:
    from pipeline.reporting.attention import CRITICAL
    from pipeline.reporting.page.page import write_page
    from tasks.steps import STEPS

    settings, layout = read_mirror(config)
    with machine_faults(f"writing the page of the mirror at {layout.root} to {path}"):
        state = write_page(layout, settings, STEPS, path)
    return EXIT_FILESET_FAILED if state == CRITICAL else EXIT_DONE


def _check(config: Path | None) -> int:
    from pipeline.reporting.attention import severity
    from pipeline.reporting.report_forms import CHECK_CODES, CHECK_UNKNOWN, as_check

    try:
        report, points, _ = _report(config)
    except MirrorError as error:
        click.echo(escaped(f"UNKNOWN - {error}".replace("|", "/")))
        return CHECK_UNKNOWN
    click.echo(as_check(report, points), nl=False)
    return CHECK_CODES[severity(points)]


def _print_details(report: "MirrorReport", layout: "Layout") -> None:
    from pipeline.reporting.status_files import FAILURE_COLUMNS, PROBLEM_COLUMNS, failure_rows

    failed = [row for product in report.products for row in failure_rows(layout, product.product)]
    for title, columns, rows in (
        ("failures", FAILURE_COLUMNS, failed),
        ("problems that verify found", PROBLEM_COLUMNS, report.problems),
        ("skipped", _SKIP_COLUMNS, report.skipped),
    ):
        _print_table(title, [columns, *([str(row[column]) for column in columns] for row in rows)])


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    click.echo(f"\n{title} ({as_count(len(rows) - 1, 'row')})")
    rows = [[escaped(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (value.ljust(width) for value, width in zip(row, widths, strict=True))
        click.echo("  " + "  ".join(cells).rstrip())
