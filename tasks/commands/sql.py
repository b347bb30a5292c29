"""``ipp-mirror sql``."""

from pathlib import Path

import click

from tasks.commands.answers import format_option, print_rows
from tasks.commands.options import config_option, read_mirror

_EXAMPLES = """\b
Examples:
  ipp-mirror sql "SELECT stage, band, count(*) FROM image GROUP BY stage, band"
  ipp-mirror sql "SELECT * FROM image LIMIT 1"            the columns of a table or view
  ipp-mirror sql "SELECT exp_name, exp_time, airmass FROM raw_exp ORDER BY dateobs" --format csv
"""


@click.command(epilog=_EXAMPLES)
@config_option
@format_option()
@click.argument("query", metavar="SELECT")
def sql(config: Path | None, output_format: str, query: str) -> None:
    """Print the answer of the catalog to an SQL query.

    One statement, which only reads. Of a table that the catalog does not have, the answer names all tables
    and views. Paths are relative to the root of the mirror.
    """
    from pipeline.catalog.catalog import catalog_of

    settings, layout = read_mirror(config)
    with catalog_of(layout, settings) as catalog:
        columns, rows = catalog.answer(query)
        if not print_rows(output_format, columns, rows):
            click.echo("the answer has no rows.", err=True)
