"""``ipp-mirror catalog``: the catalog made anew, or compared with the mirror."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from pipeline.errors import EXIT_FILESET_FAILED, MirrorError, SettingsError
from pipeline.names import escaped
from pipeline.units import as_count
from tasks.commands.groups import CommandGroup
from tasks.commands.options import config_option, json_option, quiet_option, read_mirror

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.mirror.state.layout import Layout

_SHOWN = 20
# Filesets for each of which a rebuild without a terminal prints a line.
_LINE_EACH = 1000
_STOPPED_FILE = "the rebuild was stopped on request. The catalog is as it was; begin it again at any time."
_STOPPED_SERVER = (
    "the rebuild was stopped on request. The rows of some filesets are new, the others as they were; begin "
    "it again at any time."
)
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


@click.group(cls=CommandGroup, epilog=_EXAMPLES)
def catalog() -> None:
    """Make the catalog anew, or compare it with the mirror.

    Updates keep the catalog by themselves; `find` and `sql` ask it.
    """


@catalog.command(epilog=_REBUILD_EXAMPLES)
@config_option
@quiet_option
def rebuild(config: Path | None, quiet: bool) -> int:
    """Make the catalog anew from what is on disk.

    Queries go on meanwhile, with the catalog as it was. An update waits for the next time. What the rebuild
    could not catalog, the next update tries again; the exit code is then 30. Ctrl-C ends it with 25, after
    the filesets in progress: an SQLite catalog is then as it was.
    """
    from pipeline.catalog.coverage import draw_coverage
    from pipeline.catalog.rebuild import rebuild as rebuild_catalog
    from tasks.mirror_config import QUIET, use_settings
    from tasks.runtime.errors import Stopped
    from tasks.runtime.log import log_to
    from tasks.runtime.signals import StopSignals

    settings, layout, kinds = _cataloged_mirror(config)
    use_settings({"console": QUIET} if quiet else {})
    stopping = Event()
    StopSignals(stopping.set)
    with log_to(layout.log_file), _progress(quiet) as progress:
        rebuilt = rebuild_catalog(settings, layout, kinds, progress, stopping)
    for fileset, failure in list(rebuilt.failures.items())[:_SHOWN]:
        click.echo(escaped(f"{fileset}: {failure}"), err=True)
    if rebuilt.stopped:
        raise Stopped(_STOPPED_FILE if settings.catalog.url is None else _STOPPED_SERVER)
    if rebuilt.failures or not quiet:
        failed = f", {len(rebuilt.failures)} failed" if rebuilt.failures else ""
        click.echo(f"{as_count(rebuilt.filesets, 'fileset')} cataloged{failed}.")
    with log_to(layout.log_file):
        try:
            draw_coverage(settings, layout, stopping)
        except MirrorError as error:
            log.warning("%s", error)
    return EXIT_FILESET_FAILED if rebuilt.failures else 0


@catalog.command(epilog=_CHECK_EXAMPLES)
@config_option
@quiet_option
@json_option
def check(config: Path | None, quiet: bool, as_json: bool) -> int:
    """Compare the catalog with the markers of the mirror.

    Print each fileset that the catalog lacks (missing), has with rows of an earlier cataloging (stale), or
    has although the mirror does not (extra). The exit code is 30 if there is one.
    """
    from pipeline.catalog.check import differences
    from pipeline.catalog.opening import required_database

    settings, layout, kinds = _cataloged_mirror(config)
    with closing(required_database(settings, layout)) as database:
        found = list(differences(layout, database, kinds))
    if as_json:
        click.echo(json.dumps({"schema": 1, "differences": [each.as_row() for each in found]}, indent=1))
    else:
        for difference in found:
            click.echo(escaped(str(difference)))
    if found or not (quiet or as_json):
        # Beside JSON, which is the answer.
        click.echo(f"{as_count(len(found), 'difference')} between the catalog and the mirror.", err=as_json)
    return EXIT_FILESET_FAILED if found else 0


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show the filesets done and in all on a terminal; elsewhere a line for some of them, and in the log."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("filesets"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    is_shown = console.is_terminal and not quiet
    level = logging.DEBUG if console.is_terminal else logging.INFO
    with Progress(*columns, console=console, transient=True, disable=not is_shown) as progress:
        bar = progress.add_task("", total=None)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)
            if done % _LINE_EACH == 0:
                log.log(level, "%d of %s cataloged", done, as_count(total, "fileset"))

        yield show


def _cataloged_mirror(config: Path | None) -> "tuple[Settings, Layout, list[str]]":
    """Return settings, layout and the kinds of markers of a complete fileset.

    Raises SettingsError without a mirror, or for one without a catalog.
    """
    from pipeline.mirror.state.operands import check_mirror_here
    from tasks.steps import STEPS

    settings, layout = read_mirror(config)
    check_mirror_here(layout)
    if not settings.catalog.enabled:
        raise SettingsError(
            "expected a mirror with a catalog, got catalog.enabled: false. Set it to true in the settings; "
            "nothing was done."
        )
    return settings, layout, [step.marker for step in STEPS.included(settings).required]
