"""``ipp-mirror find``."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.names import escaped
from tasks.commands.answers import format_option, print_pieces, print_rows
from tasks.commands.options import config_option, read_mirror

if TYPE_CHECKING:
    from pipeline.catalog.catalog import Catalog
    from pipeline.catalog.criteria import Criteria

_EXAMPLES = """\b
Examples:
  ipp-mirror find --at "10:42:44.3 +41:16:09" --stage warp --filter r
  ipp-mirror find --at "150.1 2.2" --radius 5arcmin --after 2009-07-01 --before 2009-08-01
  ipp-mirror find --night 2009-07-29 --object 'MD0*' --stage chip --count
  ipp-mirror find --exposure o4741g0236o --stage chip --format paths | xargs ds9
  ipp-mirror find --arrived-since 7d --stage stack --columns path,mask_path,fwhm --format csv
"""
# A word of the command line, its function in ``pipeline.terms``, its form, and its explanation.
_TERMS = {
    "--at": ("position", "RA DEC", "Images that cover the position (ICRS), or with --radius meet the cone."),
    "--radius": ("angle", "ANGLE", "Radius of the cone, such as 5arcmin, 30arcsec or 0.1deg."),
    "--night": ("night", "DATE", "Exposures that start on that date (UTC)."),
    "--after": ("instant", "TIME", "Exposures that start at that date or time (UTC), or later."),
    "--before": ("instant", "TIME", "Exposures that start before that date or time (UTC)."),
    "--arrived-since": (
        "since",
        "AGE",
        "Filesets that arrived within 7d or 12h, or since a time (UTC).",
    ),
}
# A word that is an option, and no number below zero.
_OPTION = re.compile(r"-(?![\d.])")
_PATTERNS = {
    "--stage": "Stage of the pipeline, such as chip, warp or stack.",
    "--filter": "Filter, by its band as r, or in full as r.00000.",
    "--exposure": "Name of the exposure.",
    "--object": "Name of the target.",
    "--skycell": "Sky cell.",
    "--product": "Product.",
    "--data-group": "Data group.",
    "--kind": "image (without the option), mask, weight or other.",
}


def _callback(module: str, function: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return a callback of Click that reads the text of an option by a function of the catalog."""

    def read(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Any:
        from importlib import import_module

        try:
            return None if text is None else getattr(import_module(module), function)(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


class _Find(click.Command):
    """Command whose terms may have blanks in them without quotes, as in ``--at 35.9 -4.2``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, those of a term as one."""
        return super().parse_args(ctx, _joined(args))


def _joined(words: list[str]) -> list[str]:
    """Return the words of a command line; those of a position, an angle or a time are one.

    >>> _joined(["--at", "35.9", "-4.2", "--count"]), _joined(["--radius=5", "arcmin"])
    (['--at', '35.9 -4.2', '--count'], ['--radius=5 arcmin'])
    """
    joined: list[str] = []
    is_term = False
    for word in words:
        if is_term and not _OPTION.match(word):
            joined[-1] += f" {word}"
            continue
        name, equals, _ = word.partition("=")
        is_term = (name in _TERMS and bool(equals)) or (bool(joined) and joined[-1] in _TERMS)
        joined.append(word)
    return joined


def _search_options(function: Any) -> Any:
    """Add the options that describe images."""
    for name, explanation in reversed(_PATTERNS.items()):
        function = click.option(name, multiple=True, metavar="TEXT", help=explanation)(function)
    for name, (reader, form, explanation) in reversed(_TERMS.items()):
        callback = _callback("pipeline.terms", reader)
        function = click.option(name, metavar=form, callback=callback, help=explanation)(function)
    return function


@click.command(cls=_Find, epilog=_EXAMPLES)
@config_option
@_search_options
@click.option(
    "--columns",
    metavar="A,B",
    callback=_callback("pipeline.catalog.columns", "columns_listed"),
    help="Columns to print; --columns '?' names all of them.",
)
@format_option("paths")
@click.option("--count", "only_count", is_flag=True, help="Print the number of images only.")
def find(config: Path | None, columns: Any, output_format: str, only_count: bool, **asked: Any) -> None:
    """Find images by position, time and name.

    TEXT is a name or a shell pattern such as 'MD0*'; an option with TEXT may be given several times, and one
    of its patterns has to match. All other conditions have to hold.
    """
    if only_count and (columns or output_format != "table"):
        raise click.UsageError(
            "expected no --columns, --format or --json with --count, which prints a number"
        )
    if columns and output_format == "paths":
        raise click.UsageError("expected no --columns with --format paths, got both")
    from pipeline.catalog.awaiting import filesets_behind
    from pipeline.catalog.catalog import catalog_of
    from pipeline.catalog.health import behind_text
    from pipeline.mirror.resources.volumes import volume_problems

    criteria = _criteria(asked)
    settings, layout = read_mirror(config)
    with catalog_of(layout, settings) as catalog:
        if only_count:
            number = catalog.count(criteria)
            click.echo(number)
            is_any = number > 0
        elif not (is_any := _print(catalog, criteria, columns, output_format)):
            click.echo("no image here meets all of these conditions.", err=True)
        for sentence in [] if is_any else catalog.unmatched(criteria):
            click.echo(escaped(sentence), err=True)
    for problem in volume_problems(layout, settings):
        click.echo(escaped(problem), err=True)
    if behind := filesets_behind(layout, settings):
        click.echo(f"{behind_text(behind)}.", err=True)


def _criteria(asked: dict[str, Any]) -> "Criteria":
    """Return the criteria of the options that were given. Raises click.UsageError."""
    from pipeline.catalog.criteria import criteria_of

    try:
        return criteria_of(**{name: value for name, value in asked.items() if value not in (None, ())})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _print(catalog: "Catalog", criteria: "Criteria", columns: Any, output_format: str) -> bool:
    """Print the answer; return True if there is an image in it."""
    from pipeline.catalog.columns import LEFT_OUT, SHOWN, WRITTEN, columns_named

    if output_format == "paths":
        return print_pieces(f"{path}\n" for path in catalog.paths(criteria))
    is_table = output_format == "table"
    left_out = () if columns else LEFT_OUT
    columns = columns or columns_named(SHOWN if is_table else WRITTEN)
    rows = catalog.rows(criteria, columns, absolute=not is_table)
    return print_rows(output_format, columns, rows, left_out)
