"""``ipp-mirror worker``, and its alias ``ipp-mirror assist``."""

from pathlib import Path

import click

from tasks.commands.options import Integer, config_option, workers_option

_EXAMPLES = """\b
Examples:
  ipp-mirror worker                                 on the host of the scheduler
  ipp-mirror worker --scheduler-host head --workers 8
"""


@click.command(epilog=_EXAMPLES)
@config_option
@click.option(
    "--scheduler-host",
    metavar="HOST",
    help="Host of the update's scheduler (default: [core] scheduler_host in luigi.cfg).",
)
@click.option(
    "--scheduler-port",
    type=Integer(1, 65_535),
    metavar="N",
    help="Port of the update's scheduler (default: [core] scheduler_port in luigi.cfg).",
)
@workers_option
def worker(
    config: Path | None, scheduler_host: str | None, scheduler_port: int | None, workers: int | None
) -> None:
    """Take part in the update that is running.

    A worker runs on the host of the update or on another host with the same files and settings. The
    update must use the central scheduler. A worker ends with the update, and with exit code 10 if no update
    is running.
    """
    from tasks.commands.luigi_command import run_luigi

    host = ["--scheduler-host", scheduler_host] if scheduler_host else []
    port = ["--scheduler-port", str(scheduler_port)] if scheduler_port else []
    run_luigi("UpdateMirror", "--assistant", *host, *port, config=config, workers=workers)


@click.pass_context
def _assist(context: click.Context, /, **options: object) -> None:
    click.echo("ipp-mirror: the name of this command is `ipp-mirror worker`; `assist` is an alias.", err=True)
    context.invoke(worker, **options)


assist = click.Command(
    "assist", params=worker.params, callback=_assist, help=worker.help, epilog=worker.epilog, hidden=True
)
