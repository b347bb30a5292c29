"""``ipp-mirror catalog``: the catalog made anew, or compared with the mirror."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import EXIT_FILESET_FAILED, SettingsError
from pipeline.names import escaped
from pipeline.units import as_count
from tasks.commands.options import config_option, read_mirror

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.mirror.state.layout import Layout

_SHOWN = 20
_EXAMPLES = """\b
Examples:
  ipp-mirror catalog check
  ipp-mirror catalog rebuild
"""
_REBUILD_EXAMPLES = """\b
Example:
  ipp-mirror catalog rebuild
"""
_CHECK_EXAMPLES = """\b
Example:
  ipp-mirror catalog check
"""


@click.group(epilog=_EXAMPLES)
def catalog() -> None:
    """Make the catalog anew, or compare it with the mirror.

    Updates keep the catalog by themselves; `find` and `sql` ask it.
    """


@catalog.command(epilog=_REBUILD_EXAMPLES)
@config_option
def rebuild(config: Path | None) -> int:
    """Make the catalog anew from what is on disk.

    Queries go on meanwhile, with the catalog as it was. An update waits for the next time. What the rebuild
    could not catalog, the next update tries again; the exit code is then 30.
    """
    from pipeline.catalog.rebuild import rebuild as rebuild_catalog

    settings, layout, kinds = _cataloged_mirror(config)
    with _progress() as progress:
        rebuilt = rebuild_catalog(settings, layout, kinds, progress)
    for fileset, failure in list(rebuilt.failures.items())[:_SHOWN]:
        click.echo(escaped(f"{fileset}: {failure}"), err=True)
    failed = f", {len(rebuilt.failures)} failed" if rebuilt.failures else ""
    click.echo(f"{as_count(rebuilt.filesets, 'fileset')} cataloged{failed}.")
    return EXIT_FILESET_FAILED if rebuilt.failures else 0


@catalog.command(epilog=_CHECK_EXAMPLES)
@config_option
def check(config: Path | None) -> int:
    """Compare the catalog with the markers of the mirror.

    Print each fileset that the catalog lacks (missing), has with rows of an earlier cataloging (stale), or
    has although the mirror does not (extra). The exit code is 30 if there is one.
    """
    from pipeline.catalog.check import differences
    from pipeline.catalog.opening import required_database

    settings, layout, kinds = _cataloged_mirror(config)
    found = 0
    with closing(required_database(settings, layout)) as database:
        for difference in differences(layout, database, kinds):
            found += 1
            click.echo(escaped(str(difference)))
    click.echo(f"{as_count(found, 'difference')} between the catalog and the mirror.", err=True)
    return EXIT_FILESET_FAILED if found else 0


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show the filesets done and in all on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("filesets"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _cataloged_mirror(config: Path | None) -> "tuple[Settings, Layout, list[str]]":
    """Return settings, layout and the kinds of markers of a complete fileset.

    Raises SettingsError for a mirror without a catalog.
    """
    from tasks.steps import STEPS

    settings, layout = read_mirror(config)
    if not settings.catalog.enabled:
        raise SettingsError(
            "expected a mirror with a catalog, got catalog.enabled: false. Set it to true in the settings; "
            "nothing was done."
        )
    return settings, layout, [step.marker for step in STEPS.wanted(settings).required]
