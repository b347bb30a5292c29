"""``ipp-mirror get``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import (
    EXIT_ALREADY_RUNNING,
    EXIT_FILESET_FAILED,
    EXIT_SERVER_UNAVAILABLE,
    SettingsError,
    machine_faults,
)
from pipeline.names import escaped
from pipeline.units import as_count
from tasks.commands.options import (
    checked_name,
    config_option,
    console_options,
    current_user,
    read_mirror,
    scheduler_options,
    workers_option,
)

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.mirror.state.layout import Layout

_EXAMPLES = """\b
Examples:
  ipp-mirror get md-all-rel-200907 stack.2001.61.1
  ipp-mirror get pstampresults "web_1200*" web_12345
  ipp-mirror get --forget pstampresults "web_1200*"
"""


@click.command(epilog=_EXAMPLES)
@config_option
@scheduler_options
@workers_option
@console_options
@click.option("--forget", is_flag=True, help="Undo earlier gets: the settings decide on these filesets.")
@click.argument("product", callback=checked_name)
@click.argument("filesets", nargs=-1, required=True, metavar="FILESET...")
def get(
    config: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    console: dict[str, str],
    forget: bool,
    product: str,
    filesets: tuple[str, ...],
) -> None:
    """Fetch filesets now, and keep them.

    FILESET is a name or a shell pattern. Filesets that the settings do not select are fetched too, and kept;
    of each, what `components`, `files` and `members` of the product choose.
    If an update is running, it fetches them before all others; else this command does, and ends as an update.
    A line for each fileset says where it is, or why it was not fetched.

    With --forget nothing is fetched: updates treat the filesets as if there had been no get. What is here
    stays, except for what `keep` in the settings lets expire.
    """
    from pipeline.mirror.resources.update_lock import read_holder
    from pipeline.mirror.state.operands import check_product_here
    from tasks.commands.luigi_command import run_task

    settings, layout = read_mirror(config)
    asked = _Asked(settings, layout, product, filesets, console.get("console") == "quiet")
    if forget:
        check_product_here(layout, product, settings, "Nothing was changed.")
        asked.forget()
        return
    with machine_faults(f"reading the lock of the mirror at {layout.root}"):
        is_running = read_holder(layout)[1]
    if is_running:
        check_product_here(layout, product, settings, "Nothing was fetched.")
        asked.leave_to_run()
        return
    wanted = {"product": product, "filesets": json.dumps(filesets), "by": current_user()}
    try:
        run_task("GetFilesets", wanted, config, workers, console, host, port)
    except SystemExit as ended:
        if not asked.leave_to_other(ended.code):
            raise


@dataclass(frozen=True)
class _Asked:
    """Filesets of a product that are asked for; ``filesets`` are names and patterns."""

    settings: "Settings"
    layout: "Layout"
    product: str
    filesets: tuple[str, ...]
    is_quiet: bool

    def forget(self) -> None:
        """Undo earlier gets of the filesets. Raises MachineFault."""
        from pipeline.mirror.state.wanted import forget_filesets

        with machine_faults(f"removing marks of wanted filesets of {self.product}"):
            forgotten = forget_filesets(self.layout, self.product, self.filesets)
        if forgotten:
            count = as_count(len(forgotten), "fileset")
            self._say(f"{count} of {self.product} forgotten: the settings decide.")
        else:
            self._say(f"no wanted fileset of {self.product} matches. Nothing was changed.")

    def leave_to_run(self) -> None:
        """Mark the filesets as wanted, for the run that holds the lock; exit with 30 if no run fetches one.

        Raises SettingsError, MachineFault.
        """
        from pipeline.mirror.resources.update_lock import read_holder
        from pipeline.mirror.state.wanted import named_filesets

        with machine_faults(f"marking filesets of {self.product} as wanted"):
            left, excluded = self._want(named_filesets(self.layout, self.product, self.filesets))
            holder, _ = read_holder(self.layout)
        if left:
            self._say(f"{self._wanted(left)}, {_by_whom(holder, self.product)}")
        if excluded:
            raise SystemExit(EXIT_FILESET_FAILED)

    def leave_to_other(self, code: object) -> bool:
        """Leave to another run what that of this command, which ended with ``code``, could not begin.

        Return True where the other one is at work. Raises as ``leave_to_run``.
        """
        from pipeline.mirror.resources.update_lock import read_holder
        from pipeline.mirror.state.wanted import wanted_filesets

        if code == EXIT_ALREADY_RUNNING and read_holder(self.layout)[1]:
            # It began meanwhile.
            self.leave_to_run()
            return True
        if code == EXIT_ALREADY_RUNNING and self.layout.paused.exists():
            self._leave_to_next(self._known(), "after `ipp-mirror resume`")
        if code == EXIT_SERVER_UNAVAILABLE:
            # None if the server was lost only after the run had marked them.
            self._leave_to_next(self._known() - wanted_filesets(self.layout, self.product), "with a server")
        return False

    def _known(self) -> set[str]:
        """Return those of the filesets that are known here, as the server was not asked for others.

        Print which names and patterns name none.
        """
        from pipeline.mirror.state.wanted import named_filesets

        names: set[str] = set()
        for pattern in self.filesets:
            try:
                names |= named_filesets(self.layout, self.product, [pattern])
            except SettingsError as error:
                click.echo(escaped(str(error)), err=True)
        return names

    def _leave_to_next(self, names: set[str], which: str) -> None:
        """Mark the filesets as wanted; ``which`` update fetches them. Raises MachineFault."""
        with machine_faults(f"marking filesets of {self.product} as wanted"):
            left, _ = self._want(names)
        if left:
            self._say(f"{self._wanted(left)}, to be fetched by the next update {which}.")

    def _want(self, names: set[str]) -> tuple[int, int]:
        """Mark the filesets as wanted; print where those are that are here, and why others are never fetched.

        Return the number of those that are to be fetched, and of those that never are. Raises OSError.
        """
        from pipeline.mirror.state.pending import incomplete
        from pipeline.mirror.state.wanted import want_filesets
        from pipeline.mirror.steps.widening import lacking_wanted
        from pipeline.reporting.by_name import complete_text, excluded_filesets, excluded_text, lines_of
        from tasks.steps import STEPS

        layout, product = self.layout, self.product
        want_filesets(layout, product, names, by=current_user())
        steps, chosen = STEPS.included(self.settings).required, self.settings.product(product)
        lacking = lacking_wanted(layout, chosen, names, steps)
        absent = incomplete(layout, product, names, steps) | lacking.keys()
        excluded = excluded_filesets(layout, product, absent)
        here = lines_of(
            product, names - absent, lambda name: f"here already: {complete_text(layout, product, name)}"
        )
        for line in here:
            self._say(line)
        for line in lines_of(product, excluded, lambda name: excluded_text(layout, product, name)):
            click.echo(escaped(line), err=True)
        return len(absent - excluded), len(excluded)

    def _wanted(self, number: int) -> str:
        return f"{as_count(number, 'fileset')} of {self.product} wanted"

    def _say(self, line: str) -> None:
        if not self.is_quiet:
            click.echo(escaped(line))


def _by_whom(holder: dict[str, object], product: str) -> str:
    """Return which run fetches what is wanted: that of the holder of the lock, or another one."""
    run = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
    products = holder.get("products")
    if not isinstance(products, list):
        return (
            f"to be fetched by the run at work ({run}, which has just started) if it is an update, else "
            "by the next one."
        )
    if product not in products:
        return (
            f"to be fetched by the next update, as the run at work ({run}) fetches nothing of this product."
        )
    return (
        f"to be fetched by the run at work ({run}) before all others; if it ends before that, by the next "
        "update."
    )
