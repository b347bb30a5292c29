"""``ipp-mirror worker``, and its alias ``ipp-mirror assist``."""

from pathlib import Path

import click

from tasks.commands.options import config_option, console_options, scheduler_options, workers_option

_EXAMPLES = """\b
Examples:
  ipp-mirror worker                                 on the host of the scheduler
  ipp-mirror worker --scheduler-host head --workers 8
"""


@click.command(epilog=_EXAMPLES)
@config_option
@scheduler_options
@workers_option
@console_options
def worker(
    config: Path | None, host: str | None, port: int | None, workers: int | None, console: dict[str, str]
) -> None:
    """Take part in the update that is running.

    A worker runs on the host of the update or on another host with the same files and settings. The
    update must use the central scheduler. A worker ends with the update, and with exit code 10 if no update
    is running.
    """
    from tasks.commands.luigi_command import run_worker

    run_worker(config, workers, console, host, port)


@click.pass_context
def _assist(context: click.Context, /, **options: object) -> None:
    click.echo("ipp-mirror: the name of this command is `ipp-mirror worker`; `assist` is an alias.", err=True)
    context.invoke(worker, **options)


assist = click.Command(
    "assist", params=worker.params, callback=_assist, help=worker.help, epilog=worker.epilog, hidden=True
)
