"""``ipp-mirror plan``."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import machine_faults
from pipeline.names import escaped
from pipeline.units import as_count, as_duration, as_size
from tasks.commands.data_store import listing_client
from tasks.commands.options import config_option, default_config, product_names, products_option, read_mirror
from tasks.commands.types import Integer

if TYPE_CHECKING:
    from pipeline.reporting.plan import DiskPlan, Plan, ProductPlan

_COLUMNS = ("product", "known", "selected", "complete", "skipped", "postponed", "due", "files", "size")
_EXAMPLES = """\b
Examples:
  ipp-mirror plan
  ipp-mirror plan --products md-all-rel-200907 --listings 1000
  ipp-mirror plan --offline --json
"""


@click.command(epilog=_EXAMPLES)
@config_option
@products_option
@click.option("--offline", is_flag=True, help="Plan by what is known here, without the server.")
@click.option(
    "--listings",
    type=Integer(min=0),
    metavar="N",
    default=20,
    show_default=True,
    help="Most listings to read for each product and stage; other filesets are estimated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(config: Path | None, products: str | None, offline: bool, listings: int, as_json: bool) -> int:
    """Print what the next update will fetch.

    Per product: filesets known, selected, complete, skipped, postponed (they failed often and wait), and due;
    files and bytes to fetch. Then the time that takes at the rate of the last runs that fetched much, and
    whether the disks suffice. No file is written, and an update may be running.

    Numbers marked with ~ are estimated in part: the listings of some filesets were not read, and they are
    taken to be like others of the same product and stage.
    """
    from pipeline.mirror.resources.root_folder import check_new_root
    from pipeline.reporting.planner import Planner, planned_products
    from tasks.steps import STEPS

    config = config or default_config()
    settings, layout = read_mirror(config)
    check_new_root(layout.root, config)
    only = product_names(products)
    asked = nullcontext() if offline else listing_client(settings.source)
    shown = nullcontext(_show_nothing) if offline else _shown_on_terminal(f"asking {settings.source.url}")
    with asked as client, shown as show, machine_faults(f"planning an update of {layout.root}"):
        names = planned_products(settings, layout, client, only)
        made = Planner(settings, layout, STEPS, client, listings, show).plan(names)
    if as_json:
        click.echo(json.dumps(made.numbers(), indent=1))
    else:
        for line in _lines(made, offline=offline):
            click.echo(escaped(line))
    for product in made.products:
        for problem in product.problems:
            named = problem if product.product in problem else f"product {product.product}: {problem}"
            click.echo(escaped(named), err=True)
    if made.not_asked:
        click.echo(escaped(_not_asked_line(made.not_asked)), err=True)
    for problem in made.volumes:
        click.echo(
            escaped(f"{problem} No update can begin; the plan is that of one without this problem."), err=True
        )
    return made.code


def _show_nothing(_product: str) -> None:
    """Show nothing."""


@contextmanager
def _shown_on_terminal(doing: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is done until the block ends; yield a function that adds a product to it."""
    if not sys.stderr.isatty():
        yield _show_nothing
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(escaped(doing))) as status:
        yield lambda product: status.update(Text(escaped(f"{doing}: product {product}")))


def _not_asked_line(products: list[str]) -> str:
    others = as_count(len(products), "more product")
    return f"{others} ({', '.join(products)}): planned by what is known here, as the server gave no answer."


def _lines(plan: "Plan", *, offline: bool) -> Iterator[str]:
    rows = [_COLUMNS, *(_cells(product) for product in plan.products)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for name, *numbers in rows:
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *cells])
    yield ""
    is_any_unlisted = offline or any(product.code for product in plan.products)
    if is_any_unlisted and not any(product.known for product in plan.products):
        hint = "; without --offline, plan asks the server" if offline else ""
        yield f"to fetch: not known, as there is no listing yet{hint}"
        return
    filesets = sum(product.to_fetch for product in plan.products)
    estimated = sum(product.estimated for product in plan.products)
    unknown = sum(product.unknown for product in plan.products)
    size = f"{'~' if estimated else ''}{as_size(plan.bytes)}"
    unpacked = sum(product.due for product in plan.products) - filesets
    more = f", and {as_count(unpacked, 'fileset')} to unpack" if unpacked else ""
    yield f"to fetch: {size} in {as_count(filesets, 'fileset')}{more}"
    if estimated:
        yield f"~ {_of_them(estimated)} estimated from filesets of the same product and stage"
    if unknown:
        yield f"? {_of_them(unknown)} left out of the size: no fileset of their product and stage is known"
    for product in plan.products:
        if product.to_expire:
            old = as_count(product.to_expire, "fileset")
            yield f"to delete: {old} of {escaped(product.product)}, older than keep in the settings"
    if plan.bytes or unknown:
        yield _time_line(plan, is_more=unknown > 0)
    yield from map(_disk_line, plan.disks)


def _of_them(number: int) -> str:
    return f"{number} of them {'is' if number == 1 else 'are'}"


def _cells(product: "ProductPlan") -> tuple[str, ...]:
    mark = "~" if product.estimated else ""
    more = "?" if product.unknown else ""
    counts = (product.known, product.selected, product.complete, product.skipped, product.postponed)
    amount = product.amount
    files, size = f"{mark}{amount.files:.0f}{more}", f"{mark}{as_size(amount.bytes)}{more}"
    return escaped(product.product), *map(str, counts), str(product.due), files, size


def _time_line(plan: "Plan", *, is_more: bool) -> str:
    """Return the sentence on the time; ``is_more`` where there are filesets of unknown size."""
    from pipeline.reporting.history import RATE_SECONDS

    fetched, rate = plan.fetched, plan.rate
    if not plan.bytes:
        return "time: not known, as no size is"
    nothing = f"no run has fetched for {RATE_SECONDS} s yet"
    if plan.seconds is None or rate is None:
        return f"time: not known, as {nothing}"
    about = f"time: {'more than' if is_more else 'about'} {as_duration(plan.seconds)} at {as_size(rate)}/s"
    if fetched is None:
        return f"{about}, the rate_limit of the settings; {nothing}"
    runs = "the last run" if fetched.runs == 1 else f"the last {fetched.runs} runs"
    begin, end = fetched.start[:10], fetched.end[:10]
    runs += f" that fetched much ({end if begin == end else f'{begin} to {end}'})"
    if rate < fetched.bytes_per_second:
        before = as_size(fetched.bytes_per_second)
        return f"{about}, within the rate_limit of the settings; {runs} had {before}/s"
    return f"{about}, as in {runs}"


def _disk_line(disk: "DiskPlan") -> str:
    verdict = f"{as_size(disk.missing)} are missing. Free disk space" if disk.missing else "enough"
    stays = f", {as_size(disk.min_free)} to stay free" if disk.min_free else ""
    return f"disk {disk.folder}: {as_size(disk.needed)} needed, {as_size(disk.free)} free{stays}: {verdict}"
