"""``ipp-mirror update``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from pipeline.names import escaped
from pipeline.units import parse_span
from tasks.commands.options import (
    config_option,
    console_options,
    default_config,
    products_option,
    scheduler_options,
    workers_option,
)

_EVERY_SECONDS = 900.0
_MOST_SECONDS = 365 * 86_400

_EXAMPLES = """\b
Examples:
  ipp-mirror update
  ipp-mirror update --config /etc/ipp-mirror.yaml --products md-all-rel-200907
  ipp-mirror update --daemon --every 15min
  17 * * * *  cd /opt/ipp-mirror && .venv/bin/ipp-mirror update --quiet    (in a crontab)
"""


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Return the seconds of a time such as ``15min``. Raises click.BadParameter."""
    if text is None:
        return None
    with suppress(ValueError):
        seconds = parse_span(text).total_seconds()
        if 1 <= seconds <= _MOST_SECONDS:
            return seconds
    raise click.BadParameter(f"expected a time such as 15min, 6h or 1d, from 1s to 365d, got {text!r}")


@click.command(epilog=_EXAMPLES)
@config_option
@products_option
@scheduler_options
@workers_option
@console_options
@click.option("--daemon", is_flag=True, help="Start updates until a signal ends the command.")
@click.option(
    "--every",
    callback=_seconds,
    metavar="TIME",
    help="With --daemon: the time between the starts of two updates (default: 15min).",
)
@click.pass_context
def update(
    context: click.Context,
    config: Path | None,
    products: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    console: dict[str, str],
    daemon: bool,
    every: float | None,
) -> int | None:
    """Fetch and unpack new filesets.

    If another update of the mirror is running, the command ends with exit code 10. It uses Luigi's central
    scheduler if one answers that luigi.cfg or an option names, or that this user has started on this machine
    with `ipp-mirror scheduler`; else a local scheduler. The output names the scheduler.

    With --daemon, updates are started as processes of their own, one after the other. SIGUSR1: the next one
    begins now, or as soon as the one that runs has ended. SIGHUP: the settings are read again, and an update
    begins with them; one that runs is stopped for it, after the filesets in progress. SIGTERM and SIGINT end
    the update that runs, then the command, with 25.
    """
    if every and not daemon:
        raise click.UsageError("--every needs --daemon")
    if daemon:
        say = (lambda _: None) if console.get("console") == "quiet" else _say
        return _supervise(config, every or _EVERY_SECONDS, [*_arguments(context)], say)
    from tasks.commands.luigi_command import run_task

    only = {"products": products} if products else {}
    run_task("UpdateMirror", only, config, workers, console, host, port)
    return None


def _arguments(context: click.Context) -> Iterator[str]:
    """Yield the options of the command line, without those of the daemon."""
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name not in {"daemon", "every"} and value not in {None, False}:
            yield parameter.opts[0]
            if value is not True:
                yield str(value)


def _say(text: str, err: bool = False) -> None:
    click.echo(escaped(f"daemon: {text}", but="\n"), err=err)


def _supervise(config: Path | None, seconds: float, options: list[str], say: Callable[[str], None]) -> int:
    from pipeline.config import read_settings
    from tasks.runtime.supervisor import Supervisor, start_unmasked

    def check_settings() -> None:
        read_settings(config or default_config())

    check_settings()
    # Not of the current folder: it may have other modules of these names.
    command = [sys.executable, "-P", "-m", "tasks", "update", *options]
    start = partial(start_unmasked, command)
    return Supervisor(start, check_settings, seconds, say, warn=partial(_say, err=True)).run()
